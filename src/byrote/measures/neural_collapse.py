"""Whether features have collapsed to one point for each class, and the classes to a simplex."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics.pairwise import euclidean_distances  # pyright: ignore
from torch import Tensor

CollapseStatus = Literal["measured", "too few classes", "too few examples", "constant features", "not finite"]
ROUNDING = 1e-7
"""Of the largest number: class means that differ by less are one."""


@final
@dataclass(frozen=True, kw_only=True)
class NeuralCollapse:
    """NC1 to NC4, all 0 where features have collapsed; None where one is not measured."""

    within: float | None
    """NC1: spread within classes against that between them, Tr(Σ_W Σ_B⁺)/C."""
    unequal_norms: float | None
    """NC2: standard deviation of the class means' distances from the centre, over their mean."""
    unequal_angles: float | None
    """NC2: standard deviation of the cosines between centred class means."""
    beyond_simplex: float | None
    """NC2: mean over pairs of |cos + 1/(C − 1)|: how far the class means are from being as far apart as can be."""
    unaligned: float | None
    """NC3: ‖W/‖W‖ − M/‖M‖‖_F of the last layer's weights and the centred class means, from 0 to 2."""
    disagreement: float | None
    """NC4: share of examples for which the network's answer is not the nearest class mean's."""
    status: CollapseStatus
    count: int
    """Examples."""
    num_classes: int
    """C, that occur."""


class _Classes(NamedTuple):
    means: Float[np.ndarray, "class feature"]
    member: Int[np.ndarray, "example"]
    """Which of the means is an example's own."""

    @property
    def centred(self) -> Float[np.ndarray, "class feature"]:
        return self.means - self.means.mean(0)


def neural_collapse(
    features: Float[Tensor, "example feature"],
    targets: Int[Tensor, "target_example"],
    *,
    weights: Float[Tensor, "output weight_feature"] | None = None,
    outputs: Float[Tensor, "answered output"] | None = None,
) -> NeuralCollapse:
    """Measure whether the examples of a class have become one to the network.

    With class means μ_c, their mean μ_G, Σ_W = mean_i (h_i − μ_c)(h_i − μ_c)ᵀ and Σ_B = mean_c (μ_c − μ_G)(μ_c − μ_G)ᵀ:
    NC1 = Tr(Σ_W Σ_B⁺)/C; NC2 from norms and cosines of μ_c − μ_G; NC3 = ‖W/‖W‖_F − M/‖M‖_F‖_F with M's rows
    μ_c − μ_G; NC4 = share of i for which argmax_a z_ia ≠ argmin_c ‖h_i − μ_c‖. Classes weigh the same. In float64.

    Two classes at one point each, which two classes always have opposite each other:

    >>> import torch
    >>> x, y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 0, 1])
    >>> found = neural_collapse(x, y)
    >>> found.within, found.beyond_simplex
    (0.0, 0.0)

    Args:
        features: of the last hidden layer, or of any other, flattened; of training examples.
        targets: class codes.
        weights: of the last layer, a row for each class code; None: no NC3.
        outputs: of the network on these examples, a column for each class code; None: no NC4.

    Raises:
        ValueError: features, targets, weights and outputs do not fit each other.

    Papyan, Han & Donoho 2020, Prevalence of Neural Collapse during the Terminal Phase of Deep Learning Training,
    https://arxiv.org/abs/2008.08186
    """
    _check(features, targets, weights, outputs)
    codes, member = np.unique(_array(targets), return_inverse=True)
    count, number = len(features), len(codes)
    if number < 2 or count <= number:
        return _unknown("too few classes" if number < 2 else "too few examples", count, number)
    if not bool(features.isfinite().all()):
        return _unknown("not finite", count, number)
    wide = _array(features.double())
    classes = _Classes(np.stack([wide[member == code].mean(0) for code in range(number)]), member)
    norms = np.linalg.norm(classes.centred, axis=1)
    if norms.min() <= ROUNDING * np.abs(wide).max(initial=0.0):
        return _unknown("constant features", count, number)
    cosines = (classes.centred @ classes.centred.T / np.outer(norms, norms))[np.triu_indices(number, 1)]
    return NeuralCollapse(
        within=_within(wide, classes),
        unequal_norms=float(norms.std() / norms.mean()),
        unequal_angles=float(cosines.std()),
        beyond_simplex=float(np.abs(cosines + 1 / (number - 1)).mean()),
        unaligned=None if weights is None else _unaligned(_array(weights.double())[codes], classes),
        disagreement=None if outputs is None else _disagreement(wide, _array(outputs), classes, codes),
        status="measured",
        count=count,
        num_classes=number,
    )


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def _within(features: Float[np.ndarray, "example feature"], classes: _Classes) -> float:
    """In the plane of the class means, where Σ_B⁺ has all it has: nothing of size feature × feature is made."""
    number = len(classes.means)
    _, values, directions = np.linalg.svd(classes.centred, full_matrices=False)
    scale = max(float(values[0]), float(np.linalg.norm(classes.means)))  # What centring rounds is of this size.
    kept = values > scale * number * np.finfo(np.float64).eps
    kept[number - 1 :] = False  # Centred means have one direction less than there are classes.
    along = (features - classes.means[classes.member]) @ directions[kept].T
    return float((np.square(along).mean(0) / (values[kept] ** 2 / number)).sum() / number)


def _unaligned(weights: Float[np.ndarray, "class feature"], classes: _Classes) -> float:
    apart = weights / np.linalg.norm(weights) - classes.centred / np.linalg.norm(classes.centred)
    return float(np.linalg.norm(apart))


def _disagreement(
    features: Float[np.ndarray, "example feature"],
    outputs: Float[np.ndarray, "example output"],
    classes: _Classes,
    codes: Int[np.ndarray, "class"],
) -> float:
    nearest = codes[np.asarray(euclidean_distances(features, classes.means), np.float64).argmin(1)]
    return float((outputs.argmax(1) != nearest).mean())


def _check(features: Tensor, targets: Tensor, weights: Tensor | None, outputs: Tensor | None) -> None:
    if len(targets) != len(features):
        raise ValueError(f"Expected one target for each of {len(features):,} examples, got {len(targets):,}.")
    most = int(targets.max()) + 1 if len(targets) else 0
    if weights is not None and (weights.shape[1] != features.shape[1] or len(weights) < most):
        raise ValueError(
            f"Expected weights of {features.shape[1]:,} features for each of {most:,} classes, got shape "
            f"{tuple(weights.shape)}. For a layer that is not the last one there are none."
        )
    if outputs is not None and (len(outputs) != len(features) or outputs.shape[1] < most):
        raise ValueError(
            f"Expected outputs of {len(features):,} examples for each of {most:,} classes, got shape "
            f"{tuple(outputs.shape)}."
        )


def _unknown(status: CollapseStatus, count: int, num_classes: int) -> NeuralCollapse:
    return NeuralCollapse(
        within=None,
        unequal_norms=None,
        unequal_angles=None,
        beyond_simplex=None,
        unaligned=None,
        disagreement=None,
        status=status,
        count=count,
        num_classes=num_classes,
    )
