"""Numbers drawn from where they are used: uniform, normal, independent of one another, the same everywhere.

Every bound is five standard deviations of the statistic under the hypothesis that the engine's promise holds, over
numbers that are fixed.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest
from torch import Tensor

from byrote.core import derive
from byrote.training.draws import bits, kept, narrow, normal, run_keys
from byrote.training.layers import CALLS
from byrote.training.learn import NOISE

CPU = torch.device("cpu")
NUMBER = 1 << 16
FIVE = 5 / math.sqrt(NUMBER)
"""Of a correlation of as many independent pairs."""
KEYS = run_keys(range(4), "draws", device=CPU)


def uniform(key: Tensor, number: int = NUMBER) -> np.ndarray:
    """In (0, 1)."""
    return (bits(key, (number,)).double() + 0.5).numpy() / 2**31


def correlation(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.corrcoef(one, two)[0, 1])


@pytest.mark.parametrize("run", range(4))
def test_bits_are_uniform(run: int) -> None:
    drawn = bits(KEYS[run], (NUMBER,))
    assert int(drawn.min()) >= 0
    assert kstest(uniform(KEYS[run]), "uniform").pvalue > 1e-5
    counts = np.bincount(drawn.numpy() >> 21, minlength=1024)
    assert chi2(1023).sf(((counts - NUMBER / 1024) ** 2 / (NUMBER / 1024)).sum()) > 1e-5
    for place in range(31):
        ones = ((drawn >> place) & 1).double().mean()
        assert abs(float(ones) - 0.5) < 5 * 0.5 / math.sqrt(NUMBER)


@pytest.mark.parametrize("lag", [1, 2, 3, 7, 8, 32, 64, 100, 128, 256, 512, 784, 1024, 4096])
def test_neighbours_are_independent(lag: int) -> None:
    """Of places in a row, and of rows of usual widths."""
    drawn = uniform(KEYS[0])
    assert abs(correlation(drawn[:-lag], drawn[lag:])) < 5 / math.sqrt(NUMBER - lag)
    low = bits(KEYS[0], (NUMBER,)).numpy() & 1
    assert abs(correlation(low[:-lag], low[lag:])) < 5 / math.sqrt(NUMBER - lag)


def places() -> dict[str, Tensor]:
    """Keys of runs, steps, layers and calls that lie close together, and of noise."""
    found: dict[str, Tensor] = {}
    for run, step in itertools.product(range(3), (0, 1, 2, 1000)):
        here = narrow(KEYS[run], step)
        for layer, call in itertools.product((0, 1), (0, 1)):
            found[f"run {run}, step {step}, layer {layer}, call {call}"] = narrow(here, CALLS * layer + call)
        found[f"run {run}, step {step}, noise"] = narrow(here, NOISE)
    return found


def test_runs_steps_layers_and_calls_draw_independently() -> None:
    keys = places()
    drawn = np.stack([uniform(key) for key in keys.values()])
    correlations = np.corrcoef(drawn)[np.triu_indices(len(drawn), 1)]
    assert np.abs(correlations).max() < 5.5 / math.sqrt(NUMBER)  # the largest of 1770
    scaled = correlations * math.sqrt(NUMBER)
    assert abs(scaled.std() - 1) < 5 / math.sqrt(2 * len(scaled))
    thrown = np.stack([kept(key, (NUMBER,), torch.tensor(0.1)).numpy() for key in keys.values()]).astype(float)
    assert np.abs(np.corrcoef(thrown)[np.triu_indices(len(drawn), 1)]).max() < 5.5 / math.sqrt(NUMBER)


def test_no_two_places_share_a_key() -> None:
    steps = narrow(KEYS[:, None], 0)
    assert steps.shape == (4, 1, 2)
    keys = torch.stack([narrow(KEYS, step) for step in range(2000)])
    assert len(torch.unique(keys.reshape(-1, 2), dim=0)) == 4 * 2000
    assert len(set(run_keys(range(5000), "draws", device=CPU)[:, 0].tolist())) > 4990
    assert len({tuple(key) for key in run_keys(range(5000), "draws", device=CPU).tolist()}) == 5000


def test_another_purpose_is_another_key() -> None:
    assert derive(0, "draws") != derive(0, "inspection")
    assert not torch.equal(KEYS, run_keys(range(4), "inspection", device=CPU))


@pytest.mark.parametrize("rate", [0.0, 1e-4, 0.1, 0.5, 0.9, 0.999])
def test_what_is_kept_is_kept_as_often_as_asked(rate: float) -> None:
    drawn = torch.stack([kept(key, (NUMBER,), torch.tensor(rate, dtype=torch.float64)) for key in KEYS])
    error = math.sqrt(rate * (1 - rate) / drawn.numel())
    assert abs(float(drawn.double().mean()) - (1 - rate)) <= 5 * error


def test_a_higher_rate_drops_what_a_lower_one_does() -> None:
    """So that a sweep over rates compares like with like."""
    low, high = (kept(KEYS[0], (1000,), torch.tensor(rate)) for rate in (0.2, 0.6))
    assert bool((low | ~high).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_numbers_are_normal(dtype: torch.dtype) -> None:
    drawn = normal(KEYS[1], torch.empty(NUMBER, dtype=dtype))
    assert drawn.dtype == dtype
    values = drawn.double().numpy()
    assert np.isfinite(values).all()
    assert kstest(values, "norm").pvalue > 1e-5
    assert abs(values.mean()) < FIVE
    assert abs(values.var() - 1) < FIVE * math.sqrt(2)
    assert abs((values**3).mean()) < FIVE * math.sqrt(15)
    assert abs((values**4).mean() - 3) < FIVE * math.sqrt(96)
    for lag in (1, 2, 64):
        assert abs(correlation(values[:-lag], values[lag:])) < 5 / math.sqrt(NUMBER - lag)


def test_normal_numbers_are_the_same_in_either_precision() -> None:
    narrow_, wide = (normal(KEYS[1], torch.empty(NUMBER, dtype=dtype)) for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(narrow_.double(), wide, rtol=1e-3, atol=1e-5)


def test_the_shape_is_only_how_numbers_are_laid_out() -> None:
    flat = bits(KEYS[2], (6000,))
    assert torch.equal(bits(KEYS[2], (20, 300)), flat.view(20, 300))
    assert torch.equal(bits(KEYS[2], (3, 4, 5, 100)).flatten(), flat)
    assert torch.equal(bits(KEYS[2], (100,)), flat[:100])


def test_a_stack_of_runs_draws_what_each_draws_alone() -> None:
    together = torch.func.vmap(lambda key: bits(key, (7, 5)))(KEYS)
    both = torch.func.vmap(lambda key, rate: kept(narrow(key, 3), (7, 5), rate))(KEYS, torch.full((4,), 0.3))
    for key, one, mask in zip(KEYS, together, both, strict=True):
        assert torch.equal(bits(key, (7, 5)), one)
        assert torch.equal(kept(narrow(key, 3), (7, 5), torch.tensor(0.3)), mask)
    assert torch.equal(narrow(KEYS, 9), torch.stack([narrow(key, 9) for key in KEYS]))


def test_keys_are_left_as_they_were() -> None:
    before = KEYS.clone()
    narrow(KEYS, 5)
    bits(KEYS[0], (10,))
    kept(KEYS[0], (10,), torch.tensor(0.5))
    normal(KEYS[0], torch.empty(10))
    assert torch.equal(KEYS, before)


def test_the_hash_is_the_one_that_is_named() -> None:
    """lowbias32 in plain integers, on a counter that is spread and mixed with the key twice."""

    def mixed(word: int) -> int:
        word ^= word >> 16
        word = word * 0x7FEB352D & 0xFFFFFFFF
        word ^= word >> 15
        word = word * 0x846CA68B & 0xFFFFFFFF
        return word ^ word >> 16

    first, second = (word & 0xFFFFFFFF for word in KEYS[0].tolist())
    expected = [
        mixed((mixed((counter * 0x9E3779B9 + first) & 0xFFFFFFFF) + second) & 0xFFFFFFFF) & 0x7FFFFFFF
        for counter in range(50)
    ]
    assert bits(KEYS[0], (50,)).tolist() == expected
