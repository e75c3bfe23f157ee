"""Whether weight decay counts early in training or late. (Golatkar et al. 2019)"""

from collections.abc import Mapping

from byrote.data import Task
from byrote.records import Bars, Finding, Run
from byrote.studies.bars_and_bands import bar
from byrote.studies.claims import NOTHING, claim
from byrote.studies.early_conditions import NAME, Design
from byrote.studies.heldout import (
    gap_text,
    heldout_difference,
    heldout_level,
    heldout_name,
    level_text,
    shared,
)
from byrote.studies.papers import GOLATKAR
from byrote.studies.study import score_name, shift
from byrote.studies.watching import judged


def decay_finding(part: Task, made: Design, runs: Mapping[str, Mapping[int, Run]]) -> Finding:
    """Decay in the first half alone is worth more than in the second half alone."""
    interval, first, second = NOTHING, {}, {}
    if made.decays is not None:
        first, second = (runs[kind.name] for kind in (made.decays.first, made.decays.second))
        interval = heldout_difference(part, first, second)
    early, late = (heldout_level(part, shared(*pair)) for pair in ((first, second), (second, first)))
    return claim(
        "early-decay-counts",
        f"With a weight decay of {made.weight_decay:g} in the first half of the training alone {heldout_name(part)} is "
        f"{level_text(part, early)}, in the second half alone {level_text(part, late)}: a difference of "
        f"{gap_text(part, interval)}."
        if interval.count
        else "Whether weight decay counts early or late is unknown: no seed was finished with both.",
        study=NAME,
        paper=GOLATKAR,
        unit=f"difference in {score_name(part)}",
        interval=interval,
        null=0.0,
        num_runs=2 * interval.count,
        verdict=judged(interval, null=0.0),
    )


def decay_bars(part: Task, made: Design, runs: Mapping[str, Mapping[int, Run]]) -> list[Bars]:
    """Held-out scores of all four."""
    if made.decays is None:
        return []
    words = ("throughout", "first half alone", "second half alone", "never")
    levels = {word: heldout_level(part, runs[kind.name]) for word, kind in zip(words, made.decays, strict=True)}
    bars = tuple(bar(word, level, group=word, shift=shift(part)) for word, level in levels.items() if level.count)
    if not bars:
        return []
    return [
        Bars(
            title=f"A weight decay of {made.weight_decay:g}, early or late",
            x_label=heldout_name(part),
            bars=bars,
            caption="Networks of the same seeds. Intervals hold for new networks and new held-out examples; the claim "
            "pairs seeds and examples, and is surer than these bars.",
        )
    ]
