"""Probes of networks that may not allow them."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from byrote.core import ByroteError

FAILURE = "failure"
"""Stands in a probe's result for what could not be computed."""
LENGTH = 400
"""Bytes of a reason."""

Computed = Mapping[str, Shaped[Tensor, "run ..."]]


def attempt(compute: Callable[[], Computed], *, num_runs: int, optional: bool) -> Computed:
    """What is computed; or, if it is optional and the network does not allow it, the reason as UTF-8 bytes.

    Raises:
        ByroteError, TypeError, ValueError: as `compute` does, unless it is optional.
    """
    try:
        return compute()
    except (ByroteError, TypeError, ValueError) as error:
        if not optional:
            raise
        reason = str(error).encode()[:LENGTH].ljust(LENGTH, b"\0")
        return {FAILURE: torch.tensor(list(reason), dtype=torch.uint8).expand(num_runs, LENGTH)}


def reason_of(values: Mapping[str, np.ndarray]) -> str:
    """Why a probe's result, a row for every moment, holds nothing; empty where it holds something."""
    if FAILURE not in values:
        return ""
    return bytes(np.asarray(values[FAILURE])[0].tolist()).rstrip(b"\0").decode(errors="ignore")
