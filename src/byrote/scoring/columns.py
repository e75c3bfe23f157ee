"""What runs say of each example, column by column."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int, Num, Shaped

from byrote.measures import (
    efficient_memorisation,
    heldout_mean,
    included_mean,
    influence_pairs,
    label_suspicion,
    membership_risk,
    memorisation,
    residual_suspicion,
)
from byrote.records import LOSS_FITTED, MEMORISED, Scores
from byrote.scoring.contradictions import contradictions
from byrote.scoring.given import Given
from byrote.scoring.outputs import Outputs

FALSE_PAIRS = 0.1
"""Of the pairs of influence that are told, at most about this share is chance."""
BLOCK = 2**22
"""Pairs of run and example looked at together."""


@final
@dataclass(frozen=True, kw_only=True)
class Found:
    """The runs that count, and what they say."""

    given: Given
    inclusion: Bool[np.ndarray, "run example"]
    outputs: Outputs
    spoilt: Bool[np.ndarray, "example"]
    """Whether one of the runs said of it what is not finite."""
    test: Float[np.ndarray, "run test_example"] | None
    """How good each run is on each test example; NaN where that is not known."""
    test_ids: Shaped[np.ndarray, "test_example"] | None = None
    covariates: tuple[Num[np.ndarray, "run example"], ...] = ()
    """What else was measured of every run and example."""

    @property
    def quality(self) -> Bool[np.ndarray, "run example"] | Float[np.ndarray, "run example"]:
        """Whether it is right; or else the target's probability; of a number, minus the squared error."""
        outputs = self.outputs
        if outputs.correct is not None:
            return outputs.correct
        assert outputs.loss is not None
        return -outputs.loss if self.given.numbers is not None else np.exp(-outputs.loss)


def columns(found: Found) -> dict[str, pa.Array]:
    """Every column there is of them."""
    given = found.given
    raw = _blockwise(memorisation, found.inclusion, found.quality)
    best, efficient = _efficient(found, raw)
    mem = raw.value if best is None else best
    included = _blockwise(included_mean, found.inclusion, found.quality)
    group = {} if given.groups is None else {"group": pa.array(given.groups)}
    target = pa.nulls(len(given.ids)) if given.targets is None else pa.array(given.targets)
    return {
        "id": pa.array(given.ids),
        "target": target,
        **group,
        **efficient,
        **_with_error("memorisation_raw", raw, found.spoilt),
        **_sides(found),
        **_suspicion(found),
        **_membership(found),
        **({} if found.test is None else _influence(found, mem)),
        "count": pa.array(raw.count),
        "status": pa.array(_status(found, mem, included)),
    }


def _efficient(found: Found, raw: Scores) -> tuple[Float[np.ndarray, "example"] | None, dict[str, pa.Array]]:
    """The memorisation score that makes use of margins, where there are any; of numbers the published one."""
    correct, margin = found.outputs.correct, found.outputs.margin
    if correct is None or margin is None:
        empty = pa.nulls(len(found.spoilt), pa.float64())
        nothing = {f"memorisation{ending}": empty for ending in ("", "_se", "_low", "_high")}
        is_number = found.given.numbers is not None
        return None, nothing | (_with_error("memorisation", raw, found.spoilt) if is_number else {})
    best = efficient_memorisation(found.inclusion, correct, margin=margin, covariates=found.covariates)
    parts = {"": best.value, "_se": best.se, "_low": best.low, "_high": best.high}
    return best.value, {
        f"memorisation{ending}": _numbers(np.where(found.spoilt, np.nan, part)) for ending, part in parts.items()
    }


def _sides(found: Found) -> dict[str, pa.Array]:
    """What runs say that were not, and that were, trained on the example."""
    outputs, inclusion, spoilt = found.outputs, found.inclusion, found.spoilt
    if found.given.numbers is not None:
        assert outputs.loss is not None
        heldout = _blockwise(heldout_mean, inclusion, outputs.loss)
        own = _blockwise(included_mean, inclusion, outputs.loss)
        return _with_error("heldout_error", heldout, spoilt) | _with_error("self_error", own, spoilt)
    nothing = Scores(
        value=np.full(len(spoilt), np.nan), se=np.full(len(spoilt), np.nan), count=np.zeros(len(spoilt), int)
    )
    right = nothing if outputs.correct is None else _blockwise(heldout_mean, inclusion, outputs.correct)
    sure = outputs.probability
    heldout = nothing if sure is None else _blockwise(heldout_mean, inclusion, sure)
    own = nothing if sure is None else _blockwise(included_mean, inclusion, sure)
    return {
        **_with_error("heldout_correct", right, spoilt),
        **_with_error("heldout_probability", heldout, spoilt),
        **_with_error("self_confidence", own, spoilt),
    }


def _suspicion(found: Found) -> dict[str, pa.Array]:
    """How doubtful each target is, and what held-out runs say instead."""
    given, mean = found.given, found.outputs.heldout
    if mean is None:
        sure = found.outputs.probability
        doubt = np.nan if sure is None else 1 - _blockwise(heldout_mean, found.inclusion, sure).value
        suspicion = np.where(found.spoilt, np.nan, doubt)
        return {"label_suspicion": _numbers(suspicion), "heldout_target": pa.nulls(len(suspicion))}
    if given.numbers is not None:
        said = np.where(found.spoilt, np.nan, mean[:, 0])
        return {"label_suspicion": _numbers(residual_suspicion(said, given.numbers)), "heldout_target": _numbers(said)}
    assert given.codes is not None
    doubted = label_suspicion(np.where(found.spoilt[:, None], np.nan, mean), given.codes)
    names = np.arange(mean.shape[1]) if given.classes is None else np.asarray(given.classes)
    suggested = pa.array(names[doubted.suggested], mask=np.isnan(doubted.suspicion))
    return {"label_suspicion": _numbers(doubted.suspicion), "heldout_target": suggested}


def _membership(found: Found) -> dict[str, pa.Array]:
    """How well runs that were trained on an example can be told from the others by LiRA's statistic."""
    outputs = found.outputs
    if found.given.numbers is not None:
        assert outputs.loss is not None
        statistic = -np.sqrt(outputs.loss)
    elif outputs.log_odds is None:
        empty = pa.nulls(len(found.spoilt), pa.float64())
        return {"membership_risk": empty, "membership_risk_se": empty}
    else:
        statistic = outputs.log_odds
    known = np.where(np.isfinite(statistic), statistic, np.nan)
    risk = _blockwise(lambda mask, values: membership_risk(values, mask).auc, found.inclusion, known)
    return _with_error("membership_risk", risk, found.spoilt)


def _influence(found: Found, mem: Float[np.ndarray, "example"]) -> dict[str, pa.Array]:
    """Which test examples depend on each memorised training example."""
    assert found.test is not None
    assert found.test_ids is not None
    runs, tests = _known_tests(found.test)
    if not runs.any() or not tests.any():
        empty = pa.nulls(len(found.spoilt), pa.float64())
        return dict.fromkeys(("num_influenced", "largest_influence", "largest_influence_se"), empty) | {
            "most_influenced": pa.nulls(len(found.spoilt), pa.array(found.test_ids).type)
        }
    known = np.where(found.spoilt, np.nan, mem)
    pairs = influence_pairs(
        found.inclusion[runs], found.test[runs][:, tests], memorisation=known, false_discovery_rate=FALSE_PAIRS
    )
    examples, strongest, counts = np.unique(pairs.train, return_index=True, return_counts=True)
    none = np.ones(len(found.spoilt), bool)
    none[examples] = False

    def placed(values: Shaped[np.ndarray, "pair"]) -> pa.Array:
        column = np.zeros(len(none), values.dtype)
        column[examples] = values[strongest]
        return pa.array(column, mask=none)

    number = np.zeros(len(none), np.int64)
    number[examples] = counts
    return {
        "num_influenced": pa.array(number),
        "largest_influence": placed(pairs.influence.value),
        "largest_influence_se": placed(pairs.influence.se),
        "most_influenced": placed(found.test_ids[tests][pairs.test]),
    }


def _known_tests(
    test: Float[np.ndarray, "run test_example"],
) -> tuple[Bool[np.ndarray, "run"], Bool[np.ndarray, "test_example"]]:
    """Runs and test examples between which all is known: without those of which most is not, and then without the
    runs, or the test examples, that something is not known of, whichever are fewer in proportion.
    """
    known = ~np.isnan(test)
    tests = known.mean(0) >= 0.5
    runs = known[:, tests].mean(1) >= 0.5 if tests.any() else np.zeros(len(test), bool)
    if not runs.any():
        return runs, tests
    whole_runs, whole_tests = runs & known[:, tests].all(1), tests & known[runs].all(0)
    if (whole_runs.sum() / runs.sum()) >= (whole_tests.sum() / tests.sum()):
        return whole_runs, tests
    return runs, whole_tests


def _status(found: Found, mem: Float[np.ndarray, "example"], included: Scores) -> list[str]:
    fitted = included.value > (0.5 if found.given.numbers is None else -LOSS_FITTED)
    tests = [found.spoilt, np.isnan(mem), ~fitted, mem >= MEMORISED]
    return np.select(tests, ["not finite", "too few runs", "never fitted", "memorised"], "learnt").tolist()


def notes(found: Found) -> list[str]:
    """What somebody who reads the table has to know."""
    given, told = found.given, list[str]()
    if given.numbers is None and found.outputs.correct is None:
        told.append(
            "memorisation is missing, and memorisation_raw is of the probability of the target. For the published one, "
            "of being right, give correct; for both, margin or logits."
        )
    if given.numbers is not None:
        told.append(
            "Of numbers, memorisation is memorisation_raw: how much smaller the squared error is in runs that were "
            "trained on the example, in variances of the target."
        )
    elif found.outputs.correct is not None and found.outputs.margin is None:
        told.append("memorisation is missing: it needs margins. Give margin or logits; memorisation_raw stands.")
    told.extend(_contradictions(given))
    told.extend(_not_finite(found))
    if given.groups is not None and _splits(found.inclusion, given.groups):
        told.append(
            "Some runs were trained on a part of a group: scores then say what is known without the example, not "
            "without its group."
        )
    few = int((_smaller_side(found.inclusion) == 0).sum())
    if few:
        told.append(
            f"{few:,} of {len(given.ids):,} examples were trained on by all runs or by none: they have no score."
        )
    return told


def _contradictions(given: Given) -> list[str]:
    kept = {name: given.kept.get(name) for name in ("correct", "margin", "loss", "probability")}
    return [found.note() for found in contradictions(**kept)]


def _not_finite(found: Found) -> list[str]:
    told, margin = list[str](), found.given.kept.get("margin")
    if found.spoilt.any():
        told.append(
            f"{int(found.spoilt.sum()):,} of {len(found.spoilt):,} examples have no scores: of each of them some run "
            f"says what is not finite. Leave out such runs, or record again what is missing."
        )
    if margin is not None and np.isinf(margin).any():
        told.append(
            f"{100 * np.isinf(margin).mean():.3g} % of margins are infinite: they are taken to be as large as the "
            f"largest that is finite. From logits they are finite."
        )
    if found.test is not None and np.isnan(found.test).any():
        runs, tests = _known_tests(found.test)
        lost = [
            f"{int((~kept).sum()):,} of {len(kept):,} {name}"
            for kept, name in ((runs, "runs"), (tests, "test examples"))
            if not kept.all()
        ]
        told.append(
            f"{' and '.join(lost)} are not looked at for influence: some of what they say of test examples, or is said "
            f"of them, is not finite."
        )
    return told


def _splits(inclusion: Bool[np.ndarray, "run example"], groups: Shaped[np.ndarray, "example"]) -> bool:
    order = np.argsort(groups, kind="stable")
    together = groups[order][1:] == groups[order][:-1]
    return any(bool((row[order][1:] != row[order][:-1])[together].any()) for row in inclusion)


def _smaller_side(inclusion: Bool[np.ndarray, "run example"]) -> Int[np.ndarray, "example"]:
    included = inclusion.sum(0)
    return np.minimum(included, len(inclusion) - included)


def _blockwise(
    measure: Callable[[np.ndarray, np.ndarray], Scores],
    inclusion: Bool[np.ndarray, "run example"],
    values: Bool[np.ndarray, "run example"] | Float[np.ndarray, "run example"],
) -> Scores:
    """A measure that looks at each example by itself, some examples at a time: it makes copies."""
    num_runs, num_examples = inclusion.shape
    step = max(1, BLOCK // num_runs)
    parts = [
        measure(inclusion[:, begin : begin + step], values[:, begin : begin + step])
        for begin in range(0, num_examples, step)
    ]
    return Scores(
        **{name: np.concatenate([getattr(each, name) for each in parts]) for name in ("value", "se", "count")}
    )


def _with_error(name: str, of: Scores, spoilt: Bool[np.ndarray, "example"]) -> dict[str, pa.Array]:
    return {
        name: _numbers(np.where(spoilt, np.nan, of.value)),
        f"{name}_se": _numbers(np.where(spoilt, np.nan, of.se)),
    }


def _numbers(values: Float[np.ndarray, "example"]) -> pa.Array:
    """Null where nothing is known."""
    return pa.array(values, type=pa.float64(), from_pandas=True)
