"""Numbers whose noise is uneven, skewed or heavy-tailed, and of which none is wrong: nothing may be said to be."""

from collections.abc import Callable

import numpy as np
import pytest

from byrote.measures import LabelErrors, flag_label_errors, residual_errors

EXAMPLES, RUNS, SEEDS = 1500, 10, 6

Noise = Callable[[np.random.Generator, np.ndarray], np.ndarray]
NOISES: dict[str, Noise] = {
    "larger for a tenth": lambda rng, x: rng.normal(size=len(x)) * np.where(rng.random(len(x)) < 0.1, 1.0, 0.15),
    "larger where the target is": lambda rng, x: rng.normal(size=len(x)) * np.where(x > 1.2, 1.0, 0.15),
    "skewed": lambda rng, x: 0.2 * (np.exp(rng.normal(size=len(x))) - 1.6),
    "heavy-tailed": lambda rng, x: 0.2 * rng.standard_t(3, size=len(x)),
}


def judged(noise: Noise, *, seed: int, fraction: float) -> tuple[LabelErrors, np.ndarray]:
    """Networks that know the noiseless number but for a little; a share of the numbers is exchanged."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=EXAMPLES)
    wrong = rng.random(EXAMPLES) < fraction
    given = x + noise(rng, x)
    given = np.where(wrong, rng.permutation(given), given)
    left_out = np.arange(RUNS)[:, None] % 4 == np.arange(EXAMPLES) % 4
    return residual_errors(~left_out, x + 0.1 * rng.normal(size=(RUNS, EXAMPLES)), given), wrong


@pytest.mark.parametrize("kind", NOISES)
def test_noise_is_hardly_ever_taken_for_wrong_numbers(kind: str) -> None:
    """Nothing is flagged in five of six tasks, and nowhere more than one in a hundred."""
    flagged = [flag_label_errors(judged(NOISES[kind], seed=seed, fraction=0)[0].probability.value) for seed in range(6)]
    assert sum(each.any() for each in flagged) <= SEEDS / 6
    assert max(each.mean() for each in flagged) <= 0.01


@pytest.mark.parametrize("kind", ["larger for a tenth", "skewed"])
def test_where_noise_and_wrong_numbers_cannot_be_told_apart_that_is_said(kind: str) -> None:
    found = [judged(NOISES[kind], seed=seed, fraction=0.05)[0] for seed in range(SEEDS)]
    assert {each.status for each in found} == {"not told from noise"}
    assert all(np.isnan(each.probability.value).all() and np.isnan(each.wrong.value) for each in found)
    assert all(set(each.rank.tolist()) == set(range(1, EXAMPLES + 1)) for each in found)


@pytest.mark.parametrize("fraction", [0.02, 0.05, 0.1])
def test_wrong_numbers_are_still_found_where_noise_is_even(fraction: float) -> None:
    found = [
        judged(lambda rng, x: 0.2 * rng.normal(size=len(x)), seed=seed, fraction=fraction) for seed in range(SEEDS)
    ]
    told = [(each, wrong) for each, wrong in found if each.status == "judged"]
    assert len(told) >= SEEDS - 1
    flags = [(flag_label_errors(each.probability.value), wrong) for each, wrong in told]
    number, right = sum(int(f.sum()) for f, _ in flags), sum(int((f & ~wrong).sum()) for f, wrong in flags)
    assert number > 0.4 * fraction * EXAMPLES * len(told)
    assert right / number <= 0.1 + 2 * (0.09 / number) ** 0.5
