"""What training on random labels does to a training on true ones. (Maennel et al. 2020)"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from byrote.data import Task
from byrote.records import Curves, Finding, Interval, Run, Series, Verdict
from byrote.studies.bars_and_bands import band
from byrote.studies.claims import NOTHING, claim
from byrote.studies.ends import target_noun
from byrote.studies.papers import MAENNEL
from byrote.studies.representation_runs import AFTER, RESCALED, STUDY, TRUE
from byrote.studies.watching import ratio
from byrote.studies.wording import counted, times

EARLY = 0.1
"""Of the epochs, over which speed is measured."""
ALIKE = math.log(1.1)
"""Losses that differ by less, as logarithms, are as good as equal."""
CLAIMS = {
    AFTER: ("pretraining-changes-speed", "After training on random {}"),
    RESCALED: (
        "rescaled-pretraining-changes-speed",
        "After training on random {}, every parameter given back the length that it began with",
    ),
}
"""They hold together: both compare with the same networks."""
WORDS = {TRUE: "from scratch", AFTER: "after random {}", RESCALED: "after random {}, lengths restored"}

Kinds = Mapping[str, Mapping[int, Run]]
"""Networks on true labels, by how they began and by seed."""


def pretraining_findings(part: Task, kinds: Kinds) -> Iterator[Finding]:
    """Whether it goes faster or slower, over the first tenth of the epochs.

    Args:
        part: the task, or the part of it that was looked at.
        kinds: from scratch, after random labels, and after these with lengths restored.
    """
    scratch = kinds[TRUE]
    epochs = early_epochs(scratch)
    for kind, (name, opening) in CLAIMS.items():
        losses = [_early_losses(runs, epochs) for runs in (kinds[kind], scratch)]
        found = ratio(losses[0], losses[1], level=1 - 0.05 / len(CLAIMS))
        noun, verdict = target_noun(part), changed(found)
        ending = {"holds": "slower" if found.value > 1 else "faster", "does not hold": "as fast"}.get(
            verdict, "whether that is faster or slower cannot be told"
        )
        yield claim(
            name,
            f"{opening.format(noun)}, training loss on true ones over the first "
            f"{counted(epochs, one='epoch', many='epochs')} is {times(found)} that of a training from scratch: "
            f"{ending}."
            if found.count
            else f"What training on random {noun} first does to speed is unknown: no two networks could be compared.",
            study=STUDY,
            paper=MAENNEL,
            unit="ratio of training losses",
            interval=found,
            null=1.0,
            num_runs=2 * found.count,
            verdict=verdict,
            least=0.0,
        )


def changed(found: Interval) -> Verdict:
    """Whether a ratio is another than 1, to either side; it is not where it is 1 give or take a tenth.

    >>> changed(Interval(value=2.0, low=1.5, high=2.7, se=0.1, count=5))
    'holds'
    >>> changed(Interval(value=1.0, low=0.96, high=1.04, se=0.01, count=5))
    'does not hold'
    """
    if not (math.isfinite(found.low) and math.isfinite(found.high)) or found.low <= 0:
        return "inconclusive"
    if found.low > 1 or found.high < 1:
        return "holds"
    return "does not hold" if max(-math.log(found.low), math.log(found.high)) <= ALIKE else "inconclusive"


def pretraining_curves(part: Task, kinds: Kinds) -> Iterator[Curves]:
    """Training loss by epoch."""
    series: list[Series] = []
    for kind, runs in kinds.items():
        if runs:
            losses = {seed: run.curves.train_loss for seed, run in runs.items()}
            rows = np.stack(list(losses.values())).T
            points = [ratio(dict(enumerate(row)), dict.fromkeys(range(len(row)), 1.0), level=0.95) for row in rows]
            kept = [(epoch, point) for epoch, point in enumerate(points, start=1) if point is not NOTHING]
            words = WORDS[kind].format(target_noun(part))
            series.append(band(words, [epoch for epoch, _ in kept], [point for _, point in kept]))
    if len(series) > 1:
        yield Curves(
            title=f"True {target_noun(part)} after random ones",
            x_label="epoch",
            y_label="training loss",
            series=tuple(series),
            log_y=True,
            caption=f"Networks that learn true {target_noun(part)} from scratch, and networks that the same recipe has "
            "first trained on random ones; with lengths restored, every parameter begins as long as it was before "
            "that. Geometric means over seeds, with 95 % bands. Maennel et al. 2020.",
        )


def early_epochs(runs: Mapping[int, Run]) -> int:
    """Epochs over which speed is measured."""
    return max((math.ceil(EARLY * run.spec.learner.recipe.epochs) for run in runs.values()), default=1)


def _early_losses(runs: Mapping[int, Run], epochs: int) -> dict[int, float]:
    return {seed: float(run.curves.train_loss[:epochs].mean()) for seed, run in runs.items()}
