"""What a recorder's sums say of each example, as a table."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int, Num

from byrote.measures import aum_flags
from byrote.scoring.table import Table
from byrote.scoring.tally import Rule, Tally
from byrote.scoring.typed import kind_notes, typed_table

FEWEST_THRESHOLDS = 100
"""Of fewer, the 99th percentile is about the largest."""
NEVER, STRANGE, CHANGED, LESS, RECORDED = (
    "never seen",
    "not finite",
    "target changed",
    "seen less often",
    "recorded",
)
"""Statuses: never visited; an output or target was NaN or infinite; the target was not the same at every visit; fewer
visits than others have, so that its sums are of less; none of these."""


def recorded_table(
    tally: Tally, *, names: Sequence[Hashable], rule: Rule, threshold_rows: Int[np.ndarray, "threshold"] | None
) -> Table:
    """One row for each example."""
    kept = {name: value.cpu().numpy()[..., :-1] for name, value in tally.tensors().items()}
    visits, seen = kept["visits"], kept["visits"] > 0
    loss, margin, error, followed, squares = kept["sums"].astype(np.float64)
    mean = _share(followed, visits)
    strange = np.asarray(~np.isfinite(kept["sums"]).all(0))
    visited, seen = seen, seen & ~strange
    judged = seen & (not rule.regression or rule.fitted_below is not None)
    aum = np.where(seen & (not rule.regression), _share(margin, visits), np.nan)
    spread = np.sqrt(np.maximum(_share(squares, visits) - mean**2, 0))
    one = _deviation(kept["target"][seen]) if rule.regression else 1.0
    columns = {
        "id": _ids(names),
        "target": pa.array(kept["target"], mask=~visited),
        "csl": _numbers(np.where(seen, loss / one**2, np.nan)),
        "aum": _numbers(aum),
        "el2n": _numbers(np.where(seen, _share(error, kept["early"]) / one, np.nan)),
        "mean_residual" if rule.regression else "confidence": _numbers(np.where(seen, mean / one, np.nan)),
        "variability": _numbers(np.where(seen, spread / one, np.nan)),
        "correctness": _numbers(np.where(judged, _share(kept["right"], visits), np.nan)),
        "forgetting_events": _numbers(np.where(judged, kept["forgotten"], np.nan)),
        "never_learnt": _numbers(np.where(judged, kept["right"] == 0, np.nan)),
        "num_updates": pa.array(visits.astype(np.int64)),
        "status": pa.array(_status(visits, strange=strange, changed=kept["changed"])),
    }
    flags = None if threshold_rows is None else _flags(aum, threshold_rows)
    table = typed_table(columns if flags is None else columns | {"aum_flagged": flags.column})
    by_kind = kind_notes(table, kind="numbers" if rule.regression else "classes")
    return Table(table).with_notes([*([] if flags is None else flags.notes), *by_kind])


def _deviation(targets: Num[np.ndarray, "seen"]) -> float:
    """The targets' standard deviation, which errors of numbers are told in; 1 where they do not vary."""
    return float(targets.std()) or 1.0 if len(targets) else 1.0


def _status(
    visits: Int[np.ndarray, "example"], *, strange: Bool[np.ndarray, "example"], changed: Bool[np.ndarray, "example"]
) -> list[str]:
    tests = [visits == 0, strange, changed, visits < visits.max()]
    return np.select(tests, [NEVER, STRANGE, CHANGED, LESS], RECORDED).tolist()


class _Flags(NamedTuple):
    column: pa.Array
    notes: list[str]


def _flags(aum: Float[np.ndarray, "example"], rows: Int[np.ndarray, "threshold"]) -> _Flags:
    threshold = np.zeros(len(aum), bool)
    threshold[rows] = True
    found = aum_flags(aum, threshold)
    notes = [
        f"aum_flagged: with {found.num_threshold} threshold examples the threshold, an AUM of {found.threshold:.3g}, "
        f"is about their largest and says little. Give {FEWEST_THRESHOLDS} or more."
    ]
    column = pa.array(found.flagged, mask=threshold | np.isnan(aum))
    return _Flags(column, notes if found.num_threshold < FEWEST_THRESHOLDS else [])


def _share(values: np.ndarray, counts: np.ndarray) -> Float[np.ndarray, "example"]:
    """NaN where there is nothing to divide by."""
    return np.divide(values, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _numbers(values: Float[np.ndarray, "example"]) -> pa.Array:
    """Null where nothing is known."""
    return pa.array(values, from_pandas=True)


def _ids(names: Sequence[Hashable]) -> pa.Array:
    """As they are; as text where Arrow has no kind for them."""
    try:
        return pa.array(names)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([str(name) for name in names])
