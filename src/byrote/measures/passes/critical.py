"""How many inputs have another answer close by."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor

from byrote.core import ModelError, derive
from byrote.measures.passes.curvature import checked_ids
from byrote.measures.passes.evaluation import MEMORY, call, ordinary, parts
from byrote.measures.passes.input_gradients import bytes_each, checked_inputs, slopes
from byrote.models.borrowed import Model, borrowed
from byrote.records import Interval


class CriticalSamples(NamedTuple):
    """Which inputs were found critical, and how hard they were searched."""

    ratio: Interval
    """Found critical among those measured, with a Clopper–Pearson interval. A bound from below on the share that is."""
    critical: Bool[np.ndarray, "example"]
    found_at: Int[np.ndarray, "example"]
    """Search steps it took; −1 where none was found."""
    status: Shaped[np.ndarray, "example"]
    """`measured`, or `not finite` for an input whose logits are not."""
    num_steps: int
    """The search budget for each input."""
    num_passes: int
    """Forward passes of single examples that were spent, most of them with a backward pass."""


def critical_samples(
    model: Model,
    *,
    x: Float[Tensor, "example ..."],
    unit: float | Float[Tensor, "..."],
    seed: int,
    ids: Sequence[int | str] | Int[np.ndarray, "example"] | None = None,
    radius: float = 0.3,
    step: float = 0.25,
    noise: float = 0.2,
    num_steps: int = 100,
    memory: int = MEMORY,
) -> CriticalSamples:
    """Search the neighbourhood of each input for one that is classified otherwise: the critical sample ratio.

    An input is critical if some x̃ with ‖x̃ − x‖_∞ ≤ r has another predicted class. Langevin adversarial sample search:
    x̃ ← clip(x̃ + 0.25·sign(∇ₓ̃ ℓ_k) + 0.2·ε), ε ~ N(0, I), clipped to the ball, ℓ_k = −log p_k(x̃) being the loss of the
    class k predicted at x. An input for which one is found leaves the search at once. Labels are not needed; measure on
    inputs that were not trained on. In evaluation mode.

    A threshold at 0 makes inputs within r of it critical:

    >>> x = torch.tensor([[0.2], [-0.1], [0.5]])
    >>> critical_samples(lambda x: torch.cat([x, -x], 1), x=x, unit=1.0, seed=0).critical
    array([ True,  True, False])

    Args:
        model: a module, which is left as it was found, or a function of a batch, with at least two logits.
        x: inputs.
        unit: what one of 256 grey levels is in the inputs: 1/255 for pixels in [0, 1], 1/σ for pixels divided by their
            standard deviation σ; a number, or one for each feature. For other features, 1/255 of the range of each.
        seed: of the noise.
        ids: of the examples; None: their positions. An example's noise depends on the seed and its id alone.
        radius: r, in grey levels.
        step: how far along the gradient's sign, in grey levels.
        noise: its standard deviation, in grey levels.
        num_steps: of the search, for each input; more find more.
        memory: bytes a chunk of examples may take, about.

    Raises:
        TypeError: the inputs are whole numbers, which have no gradient.
        ValueError: a size is out of range.
        ModelError: the model has one output only, so that there is no predicted class; it fails, draws random numbers,
            mixes examples or does not depend smoothly on its inputs.

    Arpit et al. 2017, A Closer Look at Memorization in Deep Networks, https://arxiv.org/abs/1706.05394
    """
    x = checked_inputs(x)
    if not (radius > 0 and step >= 0 and noise >= 0 and step + noise > 0 and num_steps >= 1):
        raise ValueError(
            "Expected radius above 0, step and noise of at least 0 and not both 0, and at least 1 step, got "
            f"{radius!r}, {step!r}, {noise!r} and {num_steps!r}."
        )
    rule = _Rule(_units(unit, x), radius, step, noise, num_steps)
    named = checked_ids(ids, num_examples=len(x))
    searches: list[_Search] = []
    if len(x):
        with borrowed(model, device=x.device):
            for here in parts(len(x), bytes_each=bytes_each(model, x), memory=memory):
                searches.append(_Search(model, x[here], rule=rule, ids=named[here], seed=seed))
                searches[-1].run()
    return _summed_up(searches, rule)


class _Rule(NamedTuple):
    """How to search."""

    unit: Float[Tensor, "..."]
    radius: float
    step: float
    noise: float
    num_steps: int


@final
class _Search:
    """For some examples at once; those that are through leave."""

    def __init__(self, model: Model, x: Tensor, *, rule: _Rule, ids: Sequence[int | str], seed: int) -> None:
        self._model, self._x, self._rule = model, x, rule
        self._generators = [torch.Generator().manual_seed(derive(seed, "critical", name)) for name in ids]
        self._predicted = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self.finite = torch.ones(len(x), dtype=torch.bool, device=x.device)
        self.found_at = torch.full((len(x),), -1, device=x.device)
        self.num_passes = 0

    def run(self) -> None:
        """Until all are found, or the budget is spent."""
        active, now = torch.arange(len(self._x), device=self._x.device), self._x
        for number in range(self._rule.num_steps + 1):
            if not len(active):
                return
            self.num_passes += len(active)
            ahead = self._slopes(now, active, number) if number < self._rule.num_steps else None
            if ahead is None:
                self._judge(_logits(call(self._model, now)), active, number)
                return
            stays = self.finite[active] & (self.found_at[active] < 0)
            active = active[stays]
            now = self._moved(now[stays], ahead[stays], active)

    def _slopes(self, now: Tensor, active: Tensor, number: int) -> Float[Tensor, "batch ..."]:
        """Of log Σ_{c≠k} exp z_c − z_k, a rising function of the loss −log p_k that does not saturate; on the way the
        outputs are judged.
        """

        def score(outputs: Tensor) -> Tensor:
            logits = _logits(outputs)
            self._judge(logits.detach(), active, number)
            own = self._predicted[active][:, None]
            return logits.scatter(1, own, -torch.inf).logsumexp(1) - logits.gather(1, own)[:, 0]

        return slopes(self._model, now, score)

    def _judge(self, logits: Float[Tensor, "batch class"], active: Tensor, number: int) -> None:
        says, finite = logits.argmax(1), logits.isfinite().all(1)
        if number == 0:
            self._predicted[active], self.finite[active] = says, finite
            return
        self.found_at[active[finite & (says != self._predicted[active])]] = number

    def _moved(self, now: Tensor, ahead: Tensor, active: Tensor) -> Float[Tensor, "batch ..."]:
        rule = self._rule
        if not len(active):
            return now
        shape = self._x.shape[1:]
        searched = [self._generators[int(row)] for row in active]
        drawn = [torch.randn(shape, generator=generator, dtype=now.dtype) for generator in searched]
        away = rule.step * ahead.sign().nan_to_num() + rule.noise * torch.stack(drawn).to(now.device)
        start, reach = self._x[active], rule.radius * rule.unit
        return start + torch.maximum(torch.minimum(now + away * rule.unit - start, reach), -reach)


def _summed_up(searches: Sequence[_Search], rule: _Rule) -> CriticalSamples:
    found_at = np.concatenate([np.zeros(0, np.int64), *(search.found_at.cpu().numpy() for search in searches)])
    finite = np.concatenate([np.zeros(0, np.bool_), *(search.finite.cpu().numpy() for search in searches)])
    critical = found_at >= 0
    return CriticalSamples(
        ratio=_interval(int(critical.sum()), int(finite.sum())),
        critical=critical,
        found_at=found_at,
        status=np.where(finite, "measured", "not finite"),
        num_steps=rule.num_steps,
        num_passes=sum(search.num_passes for search in searches),
    )


def _interval(successes: int, trials: int) -> Interval:
    """Clopper & Pearson's."""
    if trials == 0:
        return Interval(value=math.nan, low=0.0, high=1.0, se=math.nan, count=0)
    bounds: Any = stats.binomtest(successes, trials).proportion_ci(method="exact")  # pyright: ignore
    share = successes / trials
    se = math.sqrt(share * (1 - share) / trials)
    return Interval(value=share, low=float(bounds.low), high=float(bounds.high), se=se, count=trials)


def _logits(outputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch class"]:
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ModelError(
            "An input is critical if a neighbour has another predicted class, so logits of shape "
            f"[{len(outputs)}, class] for at least two classes are expected, got {tuple(outputs.shape)}. A regression "
            "has no classes; for a single logit z hand over the model with outputs (0, z)."
        )
    return outputs


def _units(unit: float | Tensor, x: Float[Tensor, "example ..."]) -> Float[Tensor, "..."]:
    """A grey level in the inputs, as a tensor that goes with one of them."""
    units = ordinary(torch.as_tensor(unit), dtype=x.dtype).to(x.device)
    if units.ndim >= max(1, x.ndim) or not (units.isfinite() & (units >= 0)).all() or not (units > 0).any():
        raise ValueError(
            "Expected unit as a number above 0, or one for each feature of an input of shape "
            f"{tuple(x.shape[1:])} (0 keeps a feature as it is), got {unit!r:.80}."
        )
    return units
