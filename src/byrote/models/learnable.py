"""What a network has to know of the task it is made for."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Learnable(Protocol):
    """A task, as far as models are concerned. A user's factory is handed the task itself."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Without the batch axis; images as [c, h, w]."""
        ...

    @property
    def num_classes(self) -> int:
        """k; 0 for regression."""
        ...

    @property
    def num_outputs(self) -> int:
        """What a network must put out: k logits, or 1 number."""
        ...

    def first_inputs(self, count: int) -> Any:
        """A few inputs as a network sees them, [count, *input_shape]."""
        ...
