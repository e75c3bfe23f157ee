"""Random numbers as a function of where they are used: the same on every device and however the work is cut.

A counter is mixed with the keys of its run, step, layer and call by two rounds of an integer hash (the finaliser
`lowbias32`), so nothing is drawn from a generator and nothing depends on what was drawn before.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from byrote.core import derive

WEYL = -1640531527
"""2³² divided by the golden ratio, as a signed integer: spreads neighbouring counters."""
FIRST, SECOND = 0x7FEB352D, -2073254261


def run_keys(seeds: Sequence[int], purpose: str, *, device: torch.device) -> Int[Tensor, "run 2"]:
    """Two 32-bit words for every run."""
    words = [derive(seed, purpose) for seed in seeds]
    pairs = [[_signed(word >> 31), _signed(word)] for word in words]
    return torch.tensor(pairs, dtype=torch.int32, device=device)


def _signed(word: int) -> int:
    word &= 0xFFFFFFFF
    return word - (1 << 32) if word >> 31 else word


def narrow(keys: Int[Tensor, "*run 2"], number: int) -> Int[Tensor, "*run 2"]:
    """The keys of a step, layer or call of these runs."""
    shift = _signed((number + 1) * 0x9E3779B9)
    return _mix(keys + torch.tensor([shift, _signed(shift * 31 + 7)], dtype=torch.int32, device=keys.device))


def bits(key: Int[Tensor, "2"], shape: Sequence[int]) -> Int[Tensor, "..."]:
    """Independent 31-bit integers, uniform in [0, 2³¹)."""
    counter = torch.arange(math.prod(shape), dtype=torch.int32, device=key.device)
    return _mix(_mix(counter.mul_(WEYL) + key[0]).add_(key[1])).bitwise_and_(0x7FFFFFFF).reshape(*shape)


def kept(key: Int[Tensor, "2"], shape: Sequence[int], rate: Float[Tensor, ""]) -> Bool[Tensor, "..."]:
    """True with probability 1 − rate, independently."""
    return bits(key, shape) >= (rate * 2**31).to(torch.int32)


def uniform(key: Int[Tensor, "2"], like: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Numbers in (0, 1) of the shape and dtype of `like`, independently."""
    return (bits(key, like.shape).to(like.dtype) + 0.5) / 2**31


def normal(key: Int[Tensor, "2"], like: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Standard normal numbers of the shape and dtype of `like` (Box & Muller 1958)."""
    radius = uniform(narrow(key, 0), like)
    angle = bits(narrow(key, 1), like.shape).to(like.dtype) / 2**31
    # In float32 a number near 2³¹ rounds up to it, and the logarithm of 1 is a harmless 0.
    return torch.sqrt(-2 * torch.log(radius)) * torch.cos(2 * math.pi * angle)


def _mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Change a tensor of its own in place: nobody else may hold it."""
    x ^= (x >> 16).bitwise_and_(0xFFFF)
    x *= FIRST
    x ^= (x >> 15).bitwise_and_(0x1FFFF)
    x *= SECOND
    x ^= (x >> 16).bitwise_and_(0xFFFF)
    return x
