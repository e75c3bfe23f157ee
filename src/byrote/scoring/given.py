"""What a user gives, checked: every error says what was expected, what came and what to do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

from byrote.scoring.arrays import as_array
from byrote.scoring.outputs import log_probabilities

WHOLE = ("logits", "predictions")
"""Outputs from which everything else is computed."""
NEEDED = "Give logits=… (or predictions=… for numbers); or what was kept of them: correct, margin, loss, probability."

INDICES = " Of indices make a mask: mask = np.zeros((num_runs, num_examples), bool); mask[run, indices[run]] = True."


@final
@dataclass(frozen=True, kw_only=True)
class Given:
    """Arrays of one kind each, of shapes that fit."""

    inclusion: Bool[np.ndarray, "run example"]
    logits: Iterable[Any] | None = None
    """One array for each run."""
    predictions: Num[np.ndarray, "run example"] | None = None
    kept: Mapping[str, Num[np.ndarray, "run example"] | Bool[np.ndarray, "run example"]]
    """Of correct, margin, loss and probability what there is."""
    codes: Int[np.ndarray, "example"] | None = None
    """Columns of the targets' classes."""
    numbers: Float[np.ndarray, "example"] | None = None
    """Targets of a regression."""
    covariates: tuple[Num[np.ndarray, "run example"], ...]
    targets: Shaped[np.ndarray, "example"] | None
    """As they came."""
    classes: tuple[Any, ...] | None
    ids: Shaped[np.ndarray, "example"]
    groups: Shaped[np.ndarray, "example"] | None
    from_probability: bool = False
    """Whether the logits are logarithms of probabilities that were given."""


def checked(
    inclusion: Any,
    *,
    targets: Any,
    outputs: Mapping[str, Any],
    covariates: Any,
    classes: Any,
    ids: Any,
    groups: Any,
) -> Given:
    """Check everything that does not need the logits to be read.

    Raises:
        TypeError: of the wrong kind, or outputs of two kinds.
        ValueError: of the wrong shape, or out of range.
    """
    mask = _mask(inclusion)
    given = {name: value for name, value in outputs.items() if value is not None}
    whole = [name for name in WHOLE if name in given]
    if not given or (whole and len(given) > 1):
        came = f"both {' and '.join(given)}" if given else "nothing"
        raise TypeError(f"Expected outputs of one kind, got {came}. {NEEDED}")
    names = None if classes is None else tuple(column(classes, name="classes", length=None).tolist())
    num_examples = int(mask.shape[1])
    shown = None if targets is None else _beside(targets, mask, name="targets")
    full = "probability" in given and _depth(given["probability"]) == 3
    if targets is None and (whole or full):
        raise TypeError(f"Expected targets beside {next(iter(given))}: one for each of {num_examples} examples.")
    rest: dict[str, Any] = {}
    if "logits" in given:
        rest = {"logits": _runs(given["logits"], mask, name="logits"), "codes": class_codes(shown, names)}
    elif full:
        runs = _runs(given.pop("probability"), mask, name="probability")
        rest = {"from_probability": True, "logits": log_probabilities(runs), "codes": class_codes(shown, names)}
    elif "predictions" in given:
        rest = {"predictions": _matrix(given["predictions"], mask, name="predictions"), "numbers": numeric(shown)}
    kept = {name: _matrix(value, mask, name=name) for name, value in given.items() if name not in WHOLE}
    if full and kept:
        raise TypeError(f"Expected outputs of one kind, got probability of all classes and {' and '.join(kept)}.")
    if "correct" in kept:
        kept["correct"] = _as_mask(kept["correct"], name="correct")
    return Given(
        inclusion=mask,
        kept=kept,
        covariates=tuple(_covariate(each, mask) for each in (() if covariates is None else covariates)),
        targets=shown,
        classes=names,
        ids=np.arange(num_examples) if ids is None else unique(_beside(ids, mask, name="ids"), name="ids"),
        groups=None if groups is None else _beside(groups, mask, name="groups"),
        **rest,
    )


def _mask(inclusion: Any) -> Bool[np.ndarray, "run example"]:
    try:
        array = as_array(inclusion, name="inclusion")
    except TypeError as error:
        raise TypeError(f"{error}{INDICES}") from error.__cause__
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"Expected inclusion as a mask of shape [run, example], a run and an example at least, got shape "
            f"{array.shape}."
        )
    return _as_mask(array, name="inclusion")


def _as_mask(array: np.ndarray, *, name: str) -> Bool[np.ndarray, "run example"]:
    if array.dtype.kind == "b":
        return array
    if not ((array == 0) | (array == 1)).all():
        raise TypeError(f"Expected {name} as a mask, True or False, got {_no_mask(array, name=name)}")
    return array.astype(bool)


def _no_mask(array: np.ndarray, *, name: str) -> str:
    """What is there in place of a mask, and how it becomes one."""
    strange = array[~np.isfinite(array)]
    if strange.size:
        return f"{strange.flat[0]:g}. Say True or False of every run and example."
    if ((array == -1) | (array == 1)).all():
        return f"−1 and 1. For a mask: {name} == 1."
    is_indices = name == "inclusion" and (array >= 0).all() and (array == np.rint(array)).all()
    return f"numbers up to {array.max():g}.{INDICES if is_indices else ''}"


def _matrix(values: Any, mask: np.ndarray, *, name: str) -> Num[np.ndarray, "run example"] | Bool[np.ndarray, "..."]:
    array = as_array(values, name=name)
    if array.shape == (*mask.shape, 1):
        array = array[:, :, 0]
    if array.shape != mask.shape:
        raise ValueError(f"Expected {name} {_like(mask)}, got {array.shape}.{_transposed(array.shape, mask)}")
    return array


def _covariate(values: Any, mask: np.ndarray) -> Num[np.ndarray, "run example"]:
    array = _matrix(values, mask, name="each of covariates")
    if not np.isfinite(array).all():
        raise ValueError("Expected finite covariates, got NaN or infinity. Leave out the runs that diverged.")
    return array.astype(np.float32) if array.dtype.kind == "b" else array


def _runs(values: Any, mask: np.ndarray, *, name: str) -> Iterable[Any]:
    """One array for each run; their shapes are looked at when they are read."""
    if not isinstance(values, (Tensor, np.ndarray, list, tuple)):
        raise TypeError(f"Expected {name} as an array or a list of arrays, got {type(values).__name__}.")
    if len(values) != len(mask):
        shape = tuple(values.shape) if isinstance(values, (Tensor, np.ndarray)) else f"{len(values)} arrays"
        hint = _transposed(shape[:2], mask) if isinstance(shape, tuple) else ""
        raise ValueError(f"Expected {name} of {len(mask)} runs, as inclusion has, got {shape}.{hint}")
    return values


def _depth(values: Any) -> int:
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], (Tensor, np.ndarray)):
        return 1 + values[0].ndim
    return values.ndim if isinstance(values, Tensor) else np.ndim(values)


def _beside(values: Any, mask: np.ndarray, *, name: str) -> Shaped[np.ndarray, "example"]:
    """One for each example."""
    num_runs, num_examples = mask.shape
    hint = f" Is inclusion, of shape {mask.shape}, transposed? Runs come first." if num_runs != num_examples else ""
    return column(values, name=name, length=num_examples, hints={num_runs: hint})


def column(
    values: Any, *, name: str, length: int | None, hints: Mapping[int, str] | None = None
) -> Shaped[np.ndarray, "example"]:
    """One-dimensional; text and numbers alike, none missing.

    Args:
        values: an array or a list.
        name: what the user calls it.
        length: how many there have to be.
        hints: what to add where there are so many instead.

    Raises:
        TypeError: it has no order, or is one text.
        ValueError: of another shape, or something is missing.
    """
    if isinstance(values, (str, bytes, set, frozenset, Mapping)):
        raise TypeError(f"Expected {name} as a list, in order, got {type(values).__name__} {values!r}."[:200])
    array = as_array(values, name=name) if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or (length is not None and len(array) != length) or not len(array):
        wanted = f"{length}, one for each example" if length is not None else "n, not empty"
        hint = (hints or {}).get(len(array), "") if array.ndim == 1 else ""
        raise ValueError(f"Expected {name} of shape [{wanted}], got {array.shape}.{hint}")
    missing = (
        np.flatnonzero([_is_missing(value) for value in array]) if array.dtype.kind in "OfmM" else np.empty(0, int)
    )
    if len(missing):
        raise ValueError(
            f"Expected {name} of which none is missing, got {len(missing):,} that are, for instance at position "
            f"{missing[0]}. Name them, or leave these examples out."
        )
    return _typed(array) if array.dtype.kind == "O" else array


def _typed(objects: Shaped[np.ndarray, "example"]) -> Shaped[np.ndarray, "example"]:
    """Numbers as numbers, all else as text."""
    try:
        array = np.asarray(objects.tolist())
    except ValueError:  # lists of several lengths
        return objects.astype(str)
    return array if array.ndim == 1 and array.dtype.kind in "biuf" else objects.astype(str)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)


def class_codes(targets: np.ndarray | None, classes: tuple[Any, ...] | None) -> Int[np.ndarray, "example"]:
    """The column of each target's class.

    Raises:
        TypeError: targets are not columns, and classes are not named.
        ValueError: a class twice, or a target that is none of them.
    """
    assert targets is not None
    if classes is not None:
        column = {name: place for place, name in enumerate(classes)}
        if len(column) < len(classes):
            raise ValueError(f"Expected classes that differ, got {list(classes)}.")
        strange = sorted({name for name in targets.tolist() if name not in column}, key=str)
        if strange:
            raise ValueError(f"Expected targets among the classes {list(classes)[:10]}, got {strange[:5]}.")
        return np.array([column[name] for name in targets.tolist()], np.int64)
    whole = targets.dtype.kind in "iub" or (targets.dtype.kind == "f" and (targets == np.rint(targets)).all())
    if not whole:
        raise TypeError(
            f"Expected targets as columns of the logits, 0, 1, 2, …, got {targets[:3].tolist()}. Of named classes say "
            f"which column is which: classes=…; for numbers to predict: predictions=…"
        )
    return targets.astype(np.int64)


def numeric(targets: np.ndarray | None) -> Float[np.ndarray, "example"]:
    """Targets of a regression.

    Raises:
        TypeError: they are no finite numbers.
    """
    assert targets is not None
    if targets.dtype.kind not in "iubf" or not np.isfinite(targets).all():
        raise TypeError(f"Expected finite numbers as targets beside predictions, got {targets[:3].tolist()}.")
    return targets.astype(np.float64)


def unique(ids: Shaped[np.ndarray, "example"], *, name: str) -> Shaped[np.ndarray, "example"]:
    """The same, if each is there once.

    Raises:
        ValueError: one is there twice.
    """
    different, counts = np.unique(ids, return_counts=True)
    if len(different) < len(ids):
        raise ValueError(
            f"Expected unique {name}, got {len(ids) - len(different)} repeated, for instance "
            f"{different[counts > 1][0].item()!r}."
        )
    return ids


def _like(mask: np.ndarray) -> str:
    return f"of shape {mask.shape}, [run, example] as inclusion has"


def _transposed(shape: tuple[int, ...], mask: np.ndarray) -> str:
    return " Is it transposed? Runs come first." if tuple(shape) == mask.shape[::-1] and shape != mask.shape else ""
