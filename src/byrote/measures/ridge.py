"""Linear probes without a split: what ridge regression says of each example when it is left out, in closed form."""

import numpy as np
from jaxtyping import Float, Num, Shaped

SINGULAR = 1e-10
"""An example whose leverage is nearer to 1 cannot be left out: without it the fit is not determined."""


def ridge_left_out(
    features: Num[np.ndarray, "example feature"],
    targets: Num[np.ndarray, "target_example output"],
    *,
    ridge: float,
    groups: Shaped[np.ndarray, "grouped_example"] | None = None,
) -> Float[np.ndarray, "example output"]:
    """Predict each example by a ridge regression that was fitted without it, or without its whole group.

    With H = 11ᵀ/n + X̄(X̄ᵀX̄ + λI)⁻¹X̄ᵀ, X̄ centred, and r = y − Hy: ŷ₍₋ᵢ₎ = yᵢ − rᵢ/(1 − h_ii); of a group g,
    ŷ₍₋g₎ = y_g − (I − H_gg)⁻¹r_g. The intercept bears no penalty, and is left out and fitted anew, too. One
    decomposition of the smaller side, for all.

    Without features what is predicted is the mean of the others:

    >>> ridge_left_out(np.zeros((3, 1)), np.array([[0.0], [3.0], [6.0]]), ridge=1.0).round(9).tolist()
    [[4.5], [3.0], [1.5]]

    Args:
        features: X.
        targets: y, one-hot for classes.
        ridge: λ, above 0.
        groups: examples of one group are left out together; None: one by one.

    Raises:
        ValueError: shapes do not fit, something is not finite, λ is not above 0, there are fewer than two examples, or
            all of them are one group.

    Cook & Weisberg 1982, Residuals and Influence in Regression; Allen 1974, The Relationship between Variable Selection
    and Data Augmentation and a Method for Prediction
    """
    _check(features, targets, groups, ridge=ridge)
    x, y = features.astype(np.float64), targets.astype(np.float64)
    vectors, values, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    shares = values**2 / (values**2 + ridge)
    fitted = y.mean(0) + vectors @ (shares[:, None] * (vectors.T @ y))
    left = y - fitted
    if groups is None:
        leverage = 1 / len(x) + np.square(vectors) @ shares
        return y - left / np.maximum(1 - leverage, SINGULAR)[:, None]
    found = np.empty_like(y)
    for group in np.unique(groups):
        own = groups == group
        hat = 1 / len(x) + (vectors[own] * shares) @ vectors[own].T
        found[own] = y[own] - np.linalg.solve(np.eye(len(hat)) - hat, left[own])
    return found


def _check(features: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, *, ridge: float) -> None:
    count = len(features)
    if count < 2 or len(targets) != count or (groups is not None and len(groups) != count):
        raise ValueError(
            f"Expected targets, and groups if there are any, for each of at least two examples, got {count:,} examples "
            f"and {len(targets):,} targets{'' if groups is None else f' and {len(groups):,} groups'}."
        )
    if groups is not None and len(np.unique(groups)) < 2:
        raise ValueError("Expected at least two groups, got one: without it no example is left to learn from.")
    if not (0 < ridge < np.inf):
        raise ValueError(f"Expected a ridge above 0, got {ridge!r}.")
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise ValueError("Expected finite features and targets, got some that are not.")
