"""What was kept of runs can contradict itself: a column negated, of other targets, or of other runs."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Num
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

MOST = 0.5
"""A larger share cannot be by mistake here and there."""
DIFFERENT = 0.01
"""Probabilities that lie further apart than this were not rounded differently."""


class Contradiction(NamedTuple):
    """Two columns of which at least one is wrong somewhere."""

    first: str
    second: str
    rule: str
    """What would have to hold."""
    share: float
    """Of the runs and examples of which the rule says something."""
    those: str
    """Which these are."""
    advice: str

    @property
    def is_refused(self) -> bool:
        """Whether there is so much of it that nothing can be made of the two."""
        return self.share > MOST

    def refusal(self) -> str:
        """What was expected, what came, and what may have happened."""
        return f"Expected {self.first} {self.rule}, got the contrary in {self._where(digits=3)}. {self.advice}"

    def note(self) -> str:
        """That scores made of the one may not fit with those made of the other."""
        return (
            f"{self.first} contradicts {self.second}, in {self._where(digits=2)}: expected {self.first} {self.rule}. "
            f"Scores made of {self.first} need not fit with those made of {self.second}."
        )

    def _where(self, *, digits: int) -> str:
        return f"{100 * self.share:.{digits}g} % of {self.those}"


def contradictions(
    *,
    correct: Bool[np.ndarray, "run example"] | None,
    margin: Num[np.ndarray, "run example"] | None,
    loss: Num[np.ndarray, "run example"] | None,
    probability: Num[np.ndarray, "run example"] | None,
) -> tuple[Contradiction, ...]:
    """What of classes was kept and does not fit together, −log p being the loss and a margin above 0 the right answer.

    >>> found, = contradictions(
    ...     correct=np.array([[True, False]]), margin=np.array([[1.5, 0.5]]), loss=None, probability=None
    ... )
    >>> found.share
    0.5
    """
    kept = {"correct": correct, "margin": margin, "loss": loss, "probability": probability}
    found = [*_right_answers(kept), *_surest(kept), *_losses(loss, probability)]
    return tuple(each for each in found if each.share > 0)


def _right_answers(kept: dict[str, np.ndarray | None]) -> Iterator[Contradiction]:
    correct, margin = kept["correct"], kept["margin"]
    if correct is None or margin is None:
        return
    known = np.isfinite(margin) & (margin != 0)
    yield Contradiction(
        first="correct",
        second="margin",
        rule="where margin is above 0",
        share=_share((margin > 0) != correct, known),
        those="all runs and examples",
        advice="Is one of them negated, of other targets or of other runs? margin is the target's logit minus the "
        "largest other.",
    )


def _surest(kept: dict[str, np.ndarray | None]) -> Iterator[Contradiction]:
    """p ≤ 1/(1 + e^(−margin)), with equality for two classes; so a target with more than ½ is the answer."""
    correct, margin = kept["correct"], kept["margin"]
    for surety in ("loss", "probability"):
        values = kept[surety]
        if values is None:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            probability = np.exp(-values.astype(np.float64)) if surety == "loss" else values
        if correct is not None:
            yield Contradiction(
                first="correct",
                second=surety,
                rule=f"to be true where {surety} gives the target more than ½",
                share=_share(~(correct > 0), probability > 0.5 + DIFFERENT),
                those="those runs and examples",
                advice="Is one of them negated, of other targets or of other runs? loss is −log of the target's "
                "probability.",
            )
        if margin is not None:
            most = special.expit(margin.astype(np.float64))
            yield Contradiction(
                first="margin",
                second=surety,
                rule="in logits, the target's minus the largest other, so that the target's probability is at most "
                "1/(1 + exp(−margin))",
                share=_share(probability > most + DIFFERENT, np.isfinite(margin) & np.isfinite(probability)),
                those="all runs and examples",
                advice=f"Is the margin one of probabilities? Then give log(p_y) − log(largest other p). Or is {surety} "
                "of other targets, or of other runs?",
            )


def _losses(loss: np.ndarray | None, probability: np.ndarray | None) -> Iterator[Contradiction]:
    if loss is None or probability is None:
        return
    known = np.isfinite(loss) & np.isfinite(probability)
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.abs(np.exp(-loss.astype(np.float64)) - probability) > DIFFERENT
    yield Contradiction(
        first="loss",
        second="probability",
        rule="to be −log(probability)",
        share=_share(apart, known),
        those="all runs and examples",
        advice="loss is the natural logarithm, of one example, without label smoothing or weights.",
    )


def _share(wrong: Bool[np.ndarray, "run example"], known: Bool[np.ndarray, "run example"]) -> float:
    return float(wrong[known].mean()) if known.any() else 0.0
