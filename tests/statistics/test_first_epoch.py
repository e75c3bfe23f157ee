"""The null of first-epoch difficulty: how often chance alone is called a difference."""

import numpy as np
import pytest

from byrote.measures import first_epoch_difficulty


@pytest.mark.parametrize("num_runs", [2, 5, 40])
def test_p_values_of_equally_hard_examples_are_uniform(num_runs):
    """Of 1,000 nulls with rates that differ between runs, 5 % are below 0.05, to within four standard errors."""
    rng = np.random.default_rng(num_runs)
    p_values = np.array(
        [
            first_epoch_difficulty(rng.random((num_runs, 200)) > rng.uniform(0.1, 0.6, size=(num_runs, 1))).p_value
            for _ in range(1000)
        ]
    )
    for level in (0.05, 0.5):
        assert abs((p_values < level).mean() - level) < 4 * (level * (1 - level) / 1000) ** 0.5
