"""Weights of one training with the lengths of another."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor


def with_norms_of(
    weights: Mapping[str, Float[Tensor, "..."]], like: Mapping[str, Float[Tensor, "..."]]
) -> dict[str, Float[Tensor, "..."]]:
    """Give every parameter the length that it has in another set of weights, such as at initialisation.

    w ← w·‖w₀‖/‖w‖, parameter by parameter: what is left of a training is the directions that it chose.

    >>> from torch import tensor
    >>> with_norms_of({"weight": tensor([3.0, 4.0])}, {"weight": tensor([0.0, 10.0])})
    {'weight': tensor([6., 8.])}

    Args:
        weights: of a network, by name.
        like: those that have the lengths.

    Returns:
        New weights; a parameter that is 0 on either side is as it was.

    Raises:
        ValueError: they have not the same names and shapes.

    Maennel et al. 2020, What Do Neural Networks Learn When Trained With Random Labels?, https://arxiv.org/abs/2006.10455
    """
    shapes, wanted = ({name: tuple(part.shape) for name, part in own.items()} for own in (weights, like))
    if shapes != wanted:
        differing = sorted({name for name, _ in set(shapes.items()) ^ set(wanted.items())})
        raise ValueError(f"Expected weights of the same names and shapes, got others for {', '.join(differing)}.")
    found: dict[str, Float[Tensor, "..."]] = {}
    for name, part in weights.items():
        length, goal = _length(part), _length(like[name])
        found[name] = part * (goal / length) if length > 0 and goal > 0 else part.clone()
    return found


def _length(part: Float[Tensor, "..."]) -> float:
    return float(part.detach().double().square().sum().sqrt())
