"""Where a training ended: how sharp it is there, by every measure there is, and how good."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float

from byrote.data import Task
from byrote.measures.curvature import Eigenvalues, TraceEstimate
from byrote.probing import HessianSpectra, LossSurfaces, Sharpnesses
from byrote.records import Run
from byrote.studies.study import heldout_quality, quality, shift
from byrote.studies.wording import minus, percent
from byrote.training import AbstractProbe, reason_of


@final
class Measure(NamedTuple):
    """A measure of sharpness."""

    title: str
    meaning: str
    survives: bool
    """Whether Dinh's rescaling of a ReLU network, which leaves its answers as they are, leaves it as it is."""
    digits: int
    """Decimals in a table."""


ADAPTIVE = "adaptive"
SAM_GAP = "sam"
LAMBDA_MAX = "lambda_max"
MEASURES: Mapping[str, Measure] = {
    ADAPTIVE: Measure(
        "adaptive sharpness", "rise of the loss when each weight moves by up to a share of itself", True, 4
    ),
    LAMBDA_MAX: Measure("λ_max", "largest eigenvalue of the Hessian", Eigenvalues.survives_rescaling, 3),
    "trace": Measure("trace", "sum of the Hessian's eigenvalues", TraceEstimate.survives_rescaling, 2),
    SAM_GAP: Measure("SAM gap", "rise of the loss within 0.05 of the weights", False, 5),
    "keskar": Measure("Keskar's", "rise of the loss in a box of 0.001, in percent of 1 + loss", False, 3),
}
"""Of every network; what survives rescaling comes first."""
PRECONDITIONED = Measure("λ_max as Adam feels it", "of the Hessian in units of √v̂ + ε", False, 1)


@final
class End(NamedTuple):
    """Of one run."""

    seed: int
    fit: float
    """Accuracy, or R², on the targets trained on."""
    loss: float
    """On them; NaN where it was not measured."""
    score: float
    """Held-out accuracy, or R²."""
    sharpness: Mapping[str, float]
    """By measure; NaN where it was not measured."""
    lowest: float
    """The most negative eigenvalue."""
    preconditioned: float
    """NaN but under Adam."""


def end_of(part: Task, run: Run, probes: Sequence[AbstractProbe]) -> End:
    """What is known of a run's end.

    Args:
        part: the task, or the part of it that was looked at.
        run: a completed one.
        probes: what it was asked for.
    """
    said = last_values(run, probes)
    return End(
        seed=run.spec.seed,
        fit=float(quality(part, [run]).mean()) + shift(part),
        loss=float(run.trace.loss[-1].mean(dtype=np.float64)),
        score=float(heldout_quality(part, run.trace.test_outputs).mean()) + shift(part),
        sharpness={
            ADAPTIVE: _number(said, "adaptive"),
            LAMBDA_MAX: _number(said, "eigenvalues"),
            "trace": _number(said, "trace"),
            SAM_GAP: _number(said, "sam"),
            "keskar": _number(said, "keskar"),
        },
        lowest=_number(said, "lowest"),
        preconditioned=_number(said, "preconditioned"),
    )


def score_text(part: Task, score: float) -> str:
    """An accuracy, or an R², as a sentence says it."""
    return minus(f"{score:.3f}") if part.regression else percent(score)


def target_noun(part: Task) -> str:
    """What a network is trained on is called."""
    return "targets" if part.regression else "labels"


def last_values(run: Run, probes: Sequence[AbstractProbe]) -> dict[str, np.ndarray]:
    """What probes of a run's end said, together."""
    found: dict[str, np.ndarray] = {}
    for probe in probes:
        result = run.probes.get(probe.key) if isinstance(probe, (HessianSpectra, Sharpnesses, LossSurfaces)) else None
        if result is not None and not reason_of(result.values):
            found |= {name: np.asarray(values[-1]) for name, values in result.values.items()}
    return found


def reasons(runs: Sequence[Run], probes: Sequence[AbstractProbe]) -> list[str]:
    """Why something could not be measured, each reason once."""
    results = [run.probes[probe.key] for run in runs for probe in probes if probe.key in run.probes]
    found = [reason_of(result.values) for result in results]
    return [reason for reason in dict.fromkeys(found) if reason]


def sharpness_by_seed(
    ends: Mapping[str, Sequence[End]], *, measure: str, seeds: Sequence[int]
) -> Float[np.ndarray, "seed recipe"]:
    """Of every seed and recipe; NaN where there is none."""
    return _by_seed({name: {end.seed: end.sharpness[measure] for end in own} for name, own in ends.items()}, seeds)


def score_by_seed(ends: Mapping[str, Sequence[End]], *, seeds: Sequence[int]) -> Float[np.ndarray, "seed recipe"]:
    """Held out, of every seed and recipe; NaN where there is none."""
    return _by_seed({name: {end.seed: end.score for end in own} for name, own in ends.items()}, seeds)


def _by_seed(values: Mapping[str, Mapping[int, float]], seeds: Sequence[int]) -> Float[np.ndarray, "seed recipe"]:
    rows = [[own.get(seed, np.nan) for own in values.values()] for seed in seeds]
    return np.array(rows, dtype=np.float64).reshape(len(seeds), len(values))


def _number(said: Mapping[str, np.ndarray], name: str) -> float:
    return float(said[name].reshape(-1)[0]) if name in said and said[name].size else float("nan")
