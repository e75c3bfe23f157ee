"""What a module says, heard from outside."""

from typing import Any, final

from torch.nn import Module


@final
class Heard:
    """The outputs of a module's calls while somebody listens.

    Of calls within one another the innermost counts: a wrapper may go through the module's own `forward` to reach it.

    >>> import torch
    >>> double = torch.nn.Linear(1, 1, bias=False)
    >>> heard = Heard(double, called="module='double'")
    >>> heard.begin()
    >>> said = double(torch.ones(1, 1))
    >>> heard.end()
    >>> unheard = double(torch.zeros(1, 1))
    >>> heard.only() is said
    True
    >>> heard.leave()
    """

    def __init__(self, module: Module, *, called: str) -> None:
        """Put an ear on it.

        Args:
            module: whose calls are heard.
            called: how the user named it, for messages.
        """
        self._called, self._listens, self._nested = called, False, False
        self._outputs: list[Any] = []
        self._handles = [module.register_forward_pre_hook(self._before), module.register_forward_hook(self._after)]

    def begin(self) -> None:
        """Listen; what was heard before is forgotten."""
        self._outputs, self._listens = [], True

    def end(self) -> None:
        """Listen no more."""
        self._listens = False

    def only(self) -> Any:
        """The output of the one call that was heard.

        Raises:
            ValueError: there was none, or several.
        """
        self.end()
        outputs, self._outputs = self._outputs, []
        if len(outputs) != 1:
            times = "never" if not outputs else f"{len(outputs)} times before the backward pass"
            raise ValueError(
                f"Expected {self._called} to be called once for each training batch, got a batch for which it was "
                f'called {times}. Return the logits from training_step: {{"loss": loss, "logits": logits}}.'
            )
        return outputs[0]

    def leave(self) -> None:
        """Take the ear off."""
        for handle in self._handles:
            handle.remove()

    def _before(self, module: Module, inputs: Any) -> None:
        self._nested = False

    def _after(self, module: Module, inputs: Any, output: Any) -> None:
        if self._listens and not self._nested:
            self._outputs.append(output)
        self._nested = True
