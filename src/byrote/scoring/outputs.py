"""What runs say of examples, whatever of it was kept: one set of arrays."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

from byrote.scoring.arrays import as_array
from byrote.scoring.contradictions import contradictions
from byrote.scoring.shapes import both
from byrote.scoring.visits import LOSS, MARGIN, class_visits

BLOCK = 2**20
"""Numbers looked at together."""
LEAST = 1e-300
"""The smallest loss: its logarithm is finite."""
DIVERGED = 0.5
"""A run does not count when more than this share of its outputs is not finite."""
SMALLEST = 1e-6
"""Probabilities below this, and above 1 − this, are taken as this, whatever precision they come in: of trees and of
rounded numbers 0 and 1 say nothing of how certain it is."""
SUMS_TO_ONE = 1e-3
"""Probabilities in half precision sum to 1 this nearly."""

OnRun = Callable[[int], None]
"""Told how many runs have been read."""


@final
@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Of each run and example what is known. None: nothing."""

    correct: Bool[np.ndarray, "run example"] | None = None
    margin: Num[np.ndarray, "run example"] | None = None
    """z_y − max_{c≠y} z_c, in logits."""
    loss: Float[np.ndarray, "run example"] | None = None
    """−log p_y; for a regression the squared error, in variances of the target."""
    log_odds: Num[np.ndarray, "run example"] | None = None
    """log(p_y/(1 − p_y)); where only the margin is known, that."""
    num_columns: int | None = None
    """Of the logits."""
    heldout: Float[np.ndarray, "example output"] | None = None
    """Mean probabilities, or the mean prediction, over the runs that count and were not trained on the example; NaN of
    none."""

    def finite(self, shape: tuple[int, int]) -> Bool[np.ndarray, "run example"]:
        """Whether what is known is no NaN, and no infinite loss."""
        known = np.ones(shape, bool) if self.loss is None else np.isfinite(self.loss)
        return known if self.margin is None else known & ~np.isnan(self.margin)

    def of_runs(self, kept: Bool[np.ndarray, "run"]) -> "Outputs":
        """What some of the runs say, among them all that count."""
        if kept.all():
            return self
        parts = {name: getattr(self, name) for name in ("correct", "margin", "loss", "log_odds")}
        return replace(self, **{name: None if part is None else part[kept] for name, part in parts.items()})

    @property
    def probability(self) -> Float[np.ndarray, "run example"] | None:
        """Of the target; not for a regression."""
        return None if self.loss is None else np.exp(-self.loss)


class Block(NamedTuple):
    """A part of one run's outputs."""

    run: int
    examples: slice
    outputs: Float[Tensor, "class example"]
    num_columns: int
    """Before a second class was added to one logit."""
    seems_probability: bool | None
    """Whether what is finite could be probabilities, and hardly logits; None: nothing is finite."""


@final
class _HeldoutMean:
    """What runs say, on average, of examples that they were not trained on; a run that diverged is not in it."""

    def __init__(self, num_examples: int) -> None:
        self._total, self._count = np.empty((num_examples, 0)), np.zeros(num_examples, np.int64)

    def add(
        self, said: Float[np.ndarray, "example output"], *, out: Bool[np.ndarray, "example"], loss: np.ndarray
    ) -> None:
        """One run's, of examples that `out` picks, where its loss is finite."""
        if not self._total.size:
            self._total = np.zeros(said.shape)
        known = np.isfinite(loss)
        if has_diverged(known):
            return
        self._total[out & known] += said[out & known]
        self._count[out & known] += 1

    def value(self) -> Float[np.ndarray, "example output"]:
        """NaN where there is no run."""
        number = self._count[:, None]
        return np.divide(self._total, number, out=np.full(self._total.shape, np.nan), where=number > 0)


def has_diverged(finite: Bool[np.ndarray, "*run example"]) -> Bool[np.ndarray, "*run"] | np.bool:
    """Whether so little of what a run says is finite that it does not count."""
    return (~finite).mean(-1) > DIVERGED


def class_outputs(
    inclusion: Bool[np.ndarray, "run example"],
    logits: Iterable[Any],
    *,
    codes: Int[np.ndarray, "example"],
    on_run: OnRun | None,
) -> Outputs:
    """Everything that logits say; they are read block by block, so that nothing of their size is made.

    Raises:
        ValueError: shapes do not fit, or a target is no class.
    """
    num_runs, num_examples = inclusion.shape
    margin, loss, odds = (np.empty((num_runs, num_examples), np.float32) for _ in range(3))
    mean, said = _HeldoutMean(num_examples), np.empty((0, 0))
    seems, num_columns = set[bool | None](), None
    for run, examples, outputs, columns, seeming in _blocks(logits, num_examples=num_examples, on_run=on_run):
        num_columns = columns
        seems.add(seeming)
        if not said.size:
            _check_codes(codes, num_classes=len(outputs))
            said = np.empty((num_examples, len(outputs)))
        said[examples] = outputs.softmax(0).T.numpy()
        visits = class_visits(outputs, torch.from_numpy(codes[examples])).numpy()
        margin[run, examples], loss[run, examples] = visits[MARGIN], visits[LOSS]
        odds[run, examples] = np.where(visits[LOSS] > LEAST, _log_odds(visits[LOSS]), visits[MARGIN])
        if examples.stop >= num_examples:
            mean.add(said, out=~inclusion[run], loss=loss[run])
    if _all_seem(seems):
        raise ValueError(_refusal("logits", num_columns or 0, advice="Then: probability=…"))
    return Outputs(
        correct=margin > 0, margin=margin, loss=loss, log_odds=odds, num_columns=num_columns, heldout=mean.value()
    )


def number_outputs(
    inclusion: Bool[np.ndarray, "run example"],
    predictions: Num[np.ndarray, "run example"],
    *,
    targets: Float[np.ndarray, "example"],
) -> Outputs:
    """Squared errors in variances of the target, and the mean held-out prediction."""
    variance = float(targets.var())
    loss, mean = np.empty(predictions.shape, np.float32), _HeldoutMean(predictions.shape[1])
    for run, row in enumerate(predictions):
        values = row.astype(np.float64)
        loss[run] = (values - targets) ** 2 / (variance or 1.0)
        mean.add(values[:, None], out=~inclusion[run], loss=loss[run])
    return Outputs(loss=loss, heldout=mean.value())


def kept_outputs(
    *,
    correct: Bool[np.ndarray, "run example"] | None,
    margin: Num[np.ndarray, "run example"] | None,
    loss: Num[np.ndarray, "run example"] | None,
    probability: Num[np.ndarray, "run example"] | None,
) -> Outputs:
    """What was kept in place of logits, of each run and example one number or several.

    Raises:
        ValueError: a probability outside [0, 1], a loss below 0, or columns of which most contradict others.
    """
    if probability is not None:
        _check_range(probability, low=0.0, high=1.0 + 1e-6, name="probability")
    if loss is not None:
        _check_range(loss, low=-1e-6, high=np.inf, name="loss")
    for found in contradictions(correct=correct, margin=margin, loss=loss, probability=probability):
        if found.is_refused:
            raise ValueError(found.refusal())
    if loss is None and probability is not None:
        loss = -np.log(np.clip(probability.astype(np.float64), SMALLEST, 1 - SMALLEST))
    if loss is not None:
        loss = np.maximum(loss, _step(loss))
    if margin is not None:
        margin = _bounded(margin)
    if correct is None and margin is not None:
        correct = margin > 0
    return Outputs(correct=correct, margin=margin, loss=loss, log_odds=margin if loss is None else _log_odds(loss))


def correct_only(
    logits: Iterable[Any],
    *,
    num_runs: int,
    codes: Int[np.ndarray, "example"],
    num_columns: int | None,
    are_logits: bool,
) -> Float[np.ndarray, "run example"]:
    """1 where a run is right, 0 where it is wrong, NaN where a logit is not finite, when nothing else matters.

    Args:
        logits: of each run, of test examples.
        num_runs: how many there are.
        codes: columns of the targets.
        num_columns: of the training logits; None: not known.
        are_logits: whether the training outputs were logits, so that probabilities here are a mistake.

    Raises:
        ValueError: shapes do not fit, a target is no class, or outputs are of another kind than in training.
    """
    correct, seems_all = np.empty((num_runs, len(codes)), np.float32), set[bool | None]()
    for run, examples, outputs, columns, seems in _blocks(logits, num_examples=len(codes), on_run=None):
        seems_all.add(seems)
        if num_columns not in (None, columns):
            raise ValueError(
                f"Expected test_logits with {num_columns} column{'s' if num_columns != 1 else ''}, as the training "
                f"outputs have, got {columns} in run {run}."
            )
        _check_codes(codes, num_classes=len(outputs))
        finite = outputs.isfinite().all(0).numpy()
        margin = class_visits(outputs, torch.from_numpy(codes[examples]))[MARGIN].numpy()
        correct[run, examples] = np.where(finite, margin > 0, np.nan)
    if are_logits and _all_seem(seems_all):
        raise ValueError(_refusal("test_logits", num_columns or 0, advice="Give logits, as of the training examples."))
    return correct


def log_probabilities(probability: Iterable[Any]) -> Iterator[Shaped[np.ndarray, "example class"]]:
    """Each run's logarithms, which are logits: margins and losses are the same.

    Raises:
        ValueError: a row that does not sum to 1.
    """
    for run, row in enumerate(probability):
        values = as_array(row, name="probability")
        wrong = np.abs(values.sum(1, dtype=np.float64) - 1) > SUMS_TO_ONE
        if wrong.any() or (values < 0).any():
            raise ValueError(
                f"Expected probabilities of all classes, 0 or more with a sum of 1, got others in run {run}, for "
                f"instance {values[wrong][:1].tolist()}. Are they logits? Then: logits=…"
            )
        yield np.log(np.maximum(values.astype(np.float64), SMALLEST))


def _blocks(logits: Iterable[Any], *, num_examples: int, on_run: OnRun | None) -> Iterator[Block]:
    """Each run's logits, in double precision, classes first, as many at a time as take little memory."""
    num_columns = None
    for run, given in enumerate(logits):
        rows = as_array(given, name="logits")
        rows = rows[:, None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[0] != num_examples or rows.shape[1] != (num_columns or rows.shape[1]):
            raise ValueError(
                f"Expected logits of shape [run, example, class] with {num_examples} examples"
                f"{f' and {num_columns} classes' if num_columns else ''}, got {tuple(rows.shape)} in run {run}."
            )
        num_columns = rows.shape[1]
        step = max(1, BLOCK // max(2, num_columns))
        for begin in range(0, num_examples, step):
            part = torch.from_numpy(np.array(rows[begin : begin + step].T, dtype=np.float64, order="C"))
            yield Block(run, slice(begin, begin + step), _resolved(both(part)), num_columns, _seem_probability(part))
        if on_run is not None:
            on_run(run + 1)


def _resolved(logits: Float[Tensor, "class example"]) -> Float[Tensor, "class example"]:
    """Logits in which a class of probability 0 has `SMALLEST` of all, or less where another class has."""
    impossible = logits == -torch.inf
    if not impossible.any():
        return logits
    least = torch.where(impossible, torch.inf, logits).amin(0)
    return torch.where(impossible, torch.minimum(least, logits.logsumexp(0) + np.log(SMALLEST)), logits)


def _bounded(margin: Num[np.ndarray, "run example"]) -> Num[np.ndarray, "run example"]:
    """Infinite ones as large as the largest that is finite."""
    finite = np.isfinite(margin)
    if (finite | np.isnan(margin)).all():
        return margin
    most = float(np.abs(margin[finite]).max(initial=0)) or 1.0
    return np.clip(margin, -most, most)


def _seem_probability(outputs: Float[Tensor, "output example"]) -> bool | None:
    """Rows of several columns sum to 1; one column is between 0 and 1, and is not 0 everywhere."""
    known = outputs[:, outputs.isfinite().all(0)]
    if not known.numel():
        return None
    if len(known) == 1:
        return bool((known >= 0).all() and (known <= 1).all() and known.any())
    return bool((known >= 0).all() and ((known.sum(0) - 1).abs() <= SUMS_TO_ONE).all())


def _all_seem(seems: set[bool | None]) -> bool:
    """Whether all blocks do that have anything finite, and there is one."""
    return True in seems and False not in seems


def _refusal(name: str, num_columns: int, *, advice: str) -> str:
    if num_columns == 1:
        return (
            f"Expected {name}, got one column of numbers in [0, 1] only. Are they probabilities of class 1? Then give "
            f"their log-odds: {name}=np.log(p) - np.log1p(-p)."
        )
    return f"Expected {name}, got rows of numbers that are 0 or more and sum to 1. Are they probabilities? {advice}"


def _log_odds(loss: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """log(p/(1 − p)) from −log p, in which a small 1 − p is not lost."""
    losses = np.maximum(loss.astype(np.float64), LEAST)
    return -losses - np.log(-np.expm1(-losses))


def _step(values: np.ndarray) -> float:
    """What probabilities near 1 are rounded to; smaller ones, and losses, say nothing of how certain it is."""
    return float(np.finfo(np.result_type(values, np.float32)).eps)


def _check_codes(codes: Int[np.ndarray, "example"], *, num_classes: int) -> None:
    if codes.min() < 0 or codes.max() >= num_classes:
        raise ValueError(
            f"Expected targets in [0, {num_classes}), the columns of the logits, got {codes.min()} to {codes.max()}. "
            f"Where classes have other names, say them in the order of the columns: classes=…"
        )


def _check_range(values: Num[np.ndarray, "run example"], *, low: float, high: float, name: str) -> None:
    known = values[np.isfinite(values)]
    least, most = (float(known.min()), float(known.max())) if len(known) else (low, low)
    if least < low or most > high:
        bound = f"in [{low:g}, {high:.0f}]" if np.isfinite(high) else "0 or more"
        raise ValueError(f"Expected {name} {bound}, got {least:g} to {most:g}.")
