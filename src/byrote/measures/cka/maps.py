"""How alike many representations of the same examples are, every one with every other: layers, runs, moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from byrote.measures.cka.pairs import Cka, CkaStatus, compared, side_of


@final
@dataclass(frozen=True, kw_only=True)
class CkaMap:
    """Alignment of every representation with every other, as from `linear_cka`."""

    value: Float[np.ndarray, "one other"]
    """NaN where `status` says why."""
    se: Float[np.ndarray, "one other"]
    """From leaving out one example at a time; NaN where there is none."""
    status: Shaped[np.ndarray, "one other"]
    """"measured", or why not, in the words of `CkaStatus`."""
    count: int
    """Examples."""
    survives_rescaling: bool = True


def cka_map(
    ones: Sequence[Float[Tensor, "example _"]],
    others: Sequence[Float[Tensor, "example _"]] | None = None,
    *,
    unbiased: bool = False,
) -> CkaMap:
    """Compare many representations of the same examples, such as all layers of some runs, with one another.

    Each pair as in `linear_cka`; a representation is centred once, and kept as features or, if these are more than
    examples, as Gram matrix.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [1.0, 5.0]])
    >>> found = cka_map([x, 3 * x, torch.ones(4, 7)])
    >>> found.value[:2, :2].round(12).tolist(), found.status[0].tolist()
    ([[1.0, 1.0], [1.0, 1.0]], ['measured', 'measured', 'constant features'])

    Args:
        ones: features, each with columns of its own number; of a layer with more than one axis, flattened.
        others: what they are compared with; None: one another.
        unbiased: whether the unbiased estimate is taken: with fewer examples than features the other one finds
            everything alike.

    Raises:
        ValueError: there is nothing to compare, or they have not as many examples.

    Kornblith et al. 2019, Similarity of Neural Network Representations Revisited, https://arxiv.org/abs/1905.00414;
    Nguyen et al. 2021, Do Wide and Deep Networks Learn the Same Things?, https://arxiv.org/abs/2010.15327
    """
    counts = sorted({len(rows) for rows in [*ones, *(others or ())]})
    if not ones or (others is not None and not others) or len(counts) > 1:
        raise ValueError(
            f"Expected at least one representation on each side, all of the same examples, got {len(ones)} and "
            f"{len(ones if others is None else others)}, of {' or '.join(f'{count:,}' for count in counts)} examples."
        )
    rows = [side_of(part, unbiased=unbiased) for part in ones]
    columns = rows if others is None else [side_of(part, unbiased=unbiased) for part in others]
    found: dict[tuple[int, int], Cka] = {}
    for i, one in enumerate(rows):
        for j, other in enumerate(columns):
            mirrored = found.get((j, i)) if others is None else None
            found[i, j] = mirrored or compared(one, other, count=counts[0], unbiased=unbiased)
    return _mapped(found, shape=(len(rows), len(columns)), count=counts[0])


def _mapped(found: dict[tuple[int, int], Cka], *, shape: tuple[int, int], count: int) -> CkaMap:
    value, se = np.full(shape, np.nan), np.full(shape, np.nan)
    status: list[CkaStatus] = []
    for place, pair in found.items():
        value[place] = np.nan if pair.value is None else pair.value
        se[place] = np.nan if pair.se is None else pair.se
        status.append(pair.status)
    return CkaMap(value=value, se=se, status=np.array(status).reshape(shape), count=count)
