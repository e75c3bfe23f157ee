"""Columns that are the target under another name."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num, Shaped
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # pyright: ignore[reportMissingTypeStubs]

SAMPLE = 5000
"""Rows on which all columns are first looked at."""
PREFILTER = 0.95
"""What a column must reach on these rows to be looked at on all."""
AGREEMENT = 0.99
"""Rows on which a copy must agree with the target."""
CORRELATION = 0.9999
"""Rank correlation above which a numeric column is a copy."""
SUSPICIOUS = 0.99
"""Held-out score that one column alone should not reach …"""
EASY = 0.9
"""… unless always giving the same answer scores this already."""


class TargetColumn(NamedTuple):
    """A raw column that gives the target away."""

    column: int
    """The raw column."""
    heldout_score: float
    """Test accuracy (R² for regression) of a small tree on this column alone."""
    baseline_score: float
    """Test accuracy of the commonest class (R² of the mean)."""
    is_copy: bool
    """Column and target determine each other; otherwise the column merely predicts it suspiciously well."""


def target_columns(
    x_train: Num[np.ndarray, "example feature"],
    y_train: Shaped[np.ndarray, "example"],
    x_test: Num[np.ndarray, "test_example feature"],
    y_test: Shaped[np.ndarray, "test_example"],
    *,
    columns: tuple[int, ...],
    regression: bool,
) -> tuple[TargetColumn, ...]:
    """Find raw columns that alone give the target.

    A *copy*: its values and the classes determine each other one-to-one on at least 99 % of training and of test rows,
    with at most a tenth of the errors that always giving the commonest class would make; for a numeric target, its rank
    correlation with the target is beyond ±0.9999 on both. A *suspicious* column: a small decision tree on it alone
    scores at least 0.99 on the test rows, where always giving the commonest class (or the mean) scores below 0.9.

    >>> x = np.array([[0.0, 7.0], [1.0, 3.0]] * 50)
    >>> y = np.array([1, 0] * 50)
    >>> target_columns(x[:, 1:], y, x[:, 1:], y, columns=(4,), regression=False)
    (TargetColumn(column=4, heldout_score=1.0, baseline_score=0.5, is_copy=True),)

    Args:
        x_train: encoded training inputs.
        y_train: training targets, class codes or numbers.
        x_test: encoded test inputs.
        y_test: test targets.
        columns: for each feature, the raw column it was encoded from: the features of a one-hot encoded column count
            as that one column.
        regression: the targets are numbers.

    Returns:
        The columns found, in order; none in the ordinary case.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    _check(x_train, y_train, x_test, y_test, columns)
    first = _seeded_rows(len(x_train)), _seeded_rows(len(x_test))
    sample = (x_train[first[0]], y_train[first[0]], x_test[first[1]], y_test[first[1]])
    found: list[TargetColumn] = []
    for column in dict.fromkeys(columns):
        features = np.flatnonzero(np.asarray(columns) == column)
        if _varies(sample[0][:, features]) and _is_candidate(_only(sample, features), regression=regression):
            full = _judge(column, _only((x_train, y_train, x_test, y_test), features), regression=regression)
            found.extend([] if full is None else [full])
    return tuple(sorted(found))


Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Training inputs and targets, test inputs and targets."""


def _judge(column: int, split: Split, *, regression: bool) -> TargetColumn | None:
    baseline, score = _baseline_score(split, regression=regression), _tree_score(split, regression=regression)
    is_copy = _is_copy(split, regression=regression)
    if is_copy or (score >= SUSPICIOUS and baseline < EASY):
        return TargetColumn(column, score, baseline, is_copy)
    return None


def _is_candidate(split: Split, *, regression: bool) -> bool:
    return _is_copy(split, regression=regression, slack=5.0) or _tree_score(split, regression=regression) >= PREFILTER


def _is_copy(split: Split, *, regression: bool, slack: float = 1.0) -> bool:
    x_train, y_train, x_test, y_test = split
    if regression:
        least = 1 - slack * (1 - CORRELATION)
        return x_train.shape[1] == 1 and all(
            abs(_rank_correlation(x[:, 0], y)) > least for x, y in ((x_train, y_train), (x_test, y_test))
        )
    values = np.unique(np.concatenate([x_train, x_test]), axis=0, return_inverse=True)[1].ravel()
    if values.max() > 4 * (y_train.max() + 1) + 100:
        return False
    known = _one_to_one(values[: len(x_train)], y_train, num_values=int(values.max()) + 1)
    commonest = int(np.bincount(y_train).argmax())
    return all(
        float((known[value] != y).mean()) <= slack * min(1 - AGREEMENT, float((y != commonest).mean()) / 10)
        for value, y in ((values[: len(x_train)], y_train), (values[len(x_train) :], y_test))
    )


def _one_to_one(
    values: Int[np.ndarray, "example"], y: Int[np.ndarray, "example"], *, num_values: int
) -> Int[np.ndarray, "value"]:
    """For each value its class, where each is the other's commonest partner; −1 elsewhere, unseen values too."""
    counts = np.zeros((num_values, int(y.max()) + 1), np.int64)
    np.add.at(counts, (values, y), 1)
    partner = counts.argmax(1)
    mutual = counts.argmax(0)[partner] == np.arange(len(counts))
    return np.where(mutual & (counts.max(1) > 0), partner, -1)


def _tree_score(split: Split, *, regression: bool) -> float:
    x_train, y_train, x_test, y_test = split
    tree: Any
    if regression:
        tree = DecisionTreeRegressor(max_leaf_nodes=64, random_state=0)
    else:
        tree = DecisionTreeClassifier(max_leaf_nodes=max(8, 2 * (int(y_train.max()) + 1)), random_state=0)
    tree.fit(x_train, y_train)
    return _score(np.asarray(tree.predict(x_test)), y_test, regression=regression)


def _baseline_score(split: Split, *, regression: bool) -> float:
    _, y_train, _, y_test = split
    answer = y_train.mean() if regression else np.bincount(y_train).argmax()
    return _score(np.full(len(y_test), answer), y_test, regression=regression)


def _score(predicted: np.ndarray, y: np.ndarray, *, regression: bool) -> float:
    if not regression:
        return float((predicted == y).mean())
    total = float(((y - y.mean()) ** 2).sum())
    return 1 - float(((y - predicted) ** 2).sum()) / total if total > 0 else 0.0


def _rank_correlation(x: Num[np.ndarray, "n"], y: Num[np.ndarray, "n"]) -> float:
    """Spearman's; 0 for a column or target that does not vary."""
    first, second = _centred_ranks(x), _centred_ranks(y)
    lengths = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / lengths if lengths > 0 else 0.0


def _centred_ranks(values: Num[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Ties share the mean of their ranks."""
    _, member, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + len(values)) / 2)[member]


def _seeded_rows(num_rows: int) -> Int[np.ndarray, "row"]:
    return np.sort(np.random.default_rng(0).permutation(num_rows)[:SAMPLE])


def _varies(features: np.ndarray) -> bool:
    return bool((features != features[0]).any())


def _only(split: Split, features: Int[np.ndarray, "feature"]) -> Split:
    x_train, y_train, x_test, y_test = split
    return x_train[:, features], y_train, x_test[:, features], y_test


def _check(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, columns: tuple[int, ...]
) -> None:
    if x_train.ndim != 2 or x_test.ndim != 2 or not x_train.shape[1] == x_test.shape[1] == len(columns):
        raise ValueError(
            f"Expected two tables with a column for each of {len(columns)} features, got {x_train.shape} and "
            f"{x_test.shape}."
        )
    if len(x_train) != len(y_train) or len(x_test) != len(y_test) or not len(x_train) or not len(x_test):
        raise ValueError(
            f"Expected a target for each example, got {len(y_train)} for {len(x_train)} and {len(y_test)} for "
            f"{len(x_test)}."
        )
