"""Laws of randomisation, subsets, samples and splits."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from byrote.core import DataError
from byrote.data import (
    Examples,
    Task,
    balanced_subset,
    inclusion,
    load,
    randomise_inputs,
    randomise_targets,
    sample_positions,
    split,
    standardise,
)
from byrote.records import (
    AllExamples,
    BalancedSubset,
    CorruptedLabels,
    GaussianInputs,
    Learner,
    LeftOut,
    ModelSpec,
    PermutedColumns,
    PermutedLabels,
    RandomInputs,
    ReplacedLabels,
    RunSpec,
    Sample,
    ShuffledInputs,
    TrueInputs,
    TrueLabels,
)

FRACTIONS = st.floats(0, 1)
DRAWS = st.integers(0, 2**31)
SHAPES = st.sampled_from([(7,), (4, 5), (3, 4, 5)])
KEPT_SHARES = st.sampled_from([(1, 10), (1, 4), (1, 2), (2, 3), (7, 10), (9, 10)])


def labelled(num_examples: int, num_classes: int, *, seed: int = 0) -> Task:
    y = np.arange(num_examples) % num_classes
    x = np.random.default_rng(seed).standard_normal((num_examples, 3))
    return Task(train=Examples(x, y), test=Examples(x[:5], y[:5]))


def numbered(num_examples: int, *, seed: int = 0) -> Task:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((num_examples, 3)), rng.standard_normal(num_examples)
    return Task(train=Examples(x, y), test=Examples(x[:5], y[:5]))


def shaped(shape: tuple[int, ...], *, num_examples: int = 12, seed: int = 0) -> Task:
    """Every value of every input is another one, so that a permutation can be read off."""
    values = np.random.default_rng(seed).permutation(num_examples * int(np.prod(shape))).astype(np.float64)
    x, y = values.reshape(num_examples, *shape), np.arange(num_examples) % 2
    return Task(train=Examples(x[:8], y[:8]), test=Examples(x[8:], y[8:]))


# --- targets ---------------------------------------------------------------------------------------------------------


@given(draw=DRAWS, task=st.sampled_from([labelled(60, 4), numbered(60)]))
def test_corrupting_a_fraction_of_zero_is_the_identity(draw: int, task: Task) -> None:
    for labels in (CorruptedLabels(fraction=0.0, draw=draw), TrueLabels()):
        targets, changed = randomise_targets(task, labels)
        np.testing.assert_array_equal(targets, task.train.y)
        assert not changed.any()


@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_a_share_of_q_times_one_minus_one_over_k_really_changes(num_classes: int, fraction: float) -> None:
    task = labelled(30_000, num_classes)
    changed = randomise_targets(task, CorruptedLabels(fraction=fraction, draw=5)).changed
    expected = fraction * (1 - 1 / num_classes)
    standard_error = np.sqrt(expected * (1 - expected) / len(changed))
    assert abs(changed.mean() - expected) < 4 * standard_error


def test_random_labels_are_uniform_whatever_the_true_ones_are() -> None:
    y = np.repeat([0, 1, 2, 3], [27_000, 1_000, 1_000, 1_000])
    task = Task(train=Examples(np.zeros((len(y), 1)), y), test=Examples(np.zeros((1, 1)), [0]))
    targets = randomise_targets(task, CorruptedLabels(fraction=1.0, draw=3)).targets
    for class_of in range(4):
        among_it = targets[y == class_of]
        z = (np.bincount(among_it, minlength=4) - len(among_it) / 4) / np.sqrt(len(among_it) * 3 / 16)
        assert np.abs(z).max() < 4


@given(first=FRACTIONS, second=FRACTIONS, draw=DRAWS)
def test_of_one_draw_a_larger_fraction_changes_a_superset(first: float, second: float, draw: int) -> None:
    task = labelled(80, 5)
    fewer, more = (randomise_targets(task, CorruptedLabels(fraction=q, draw=draw)) for q in sorted((first, second)))
    assert not (fewer.changed & ~more.changed).any()
    np.testing.assert_array_equal(fewer.targets[fewer.changed], more.targets[fewer.changed])


@given(fraction=FRACTIONS, draw=DRAWS, task=st.sampled_from([labelled(60, 4), numbered(60)]))
def test_what_is_not_marked_as_changed_is_as_it_was(fraction: float, draw: int, task: Task) -> None:
    before = task.train.y.copy()
    targets, changed = randomise_targets(task, CorruptedLabels(fraction=fraction, draw=draw))
    np.testing.assert_array_equal(targets != task.train.y, changed)
    np.testing.assert_array_equal(task.train.y, before)


@given(draw=DRAWS, within=st.booleans())
def test_permuted_targets_are_exchanged_among_all_or_within_groups(draw: int, within: bool) -> None:
    groups = np.repeat(["c", "a", "b"], [30, 1, 19])[np.random.default_rng(1).permutation(50)]
    y = np.random.default_rng(0).normal(size=50)
    task = Task(train=Examples(np.zeros((50, 1)), y, groups=groups), test=Examples(np.zeros((1, 1)), [0.5]))
    targets, changed = randomise_targets(task, PermutedLabels(draw=draw, within_groups=within))
    np.testing.assert_array_equal(np.sort(targets), np.sort(y))
    np.testing.assert_array_equal(changed, targets != y)
    kept = all((np.sort(targets[groups == one]) == np.sort(y[groups == one])).all() for one in "abc")
    assert kept == within
    assert changed.mean() > 0.5


def test_every_order_of_permuted_targets_is_equally_likely() -> None:
    y = np.array([1.0, 2.0, 3.0])
    task = Task(train=Examples(np.zeros((3, 1)), y, groups=[0, 0, 0]), test=Examples(np.zeros((1, 1)), [0.5]))
    number = 6000
    for within in (False, True):
        drawn = [randomise_targets(task, PermutedLabels(draw=draw, within_groups=within)) for draw in range(number)]
        counts = np.unique([one.targets for one in drawn], axis=0, return_counts=True)[1]
        assert len(counts) == 6
        z = (counts - number / 6) / np.sqrt(number * 5 / 36)
        assert np.abs(z).max() < 4


@given(fraction=FRACTIONS, draw=DRAWS)
def test_numbers_to_predict_keep_their_marginal(fraction: float, draw: int) -> None:
    task = numbered(50)
    targets = randomise_targets(task, CorruptedLabels(fraction=fraction, draw=draw)).targets
    np.testing.assert_array_equal(np.sort(targets), np.sort(task.train.y))


def test_another_draw_changes_other_examples() -> None:
    task = labelled(1_000, 2)
    one, two = (randomise_targets(task, CorruptedLabels(fraction=0.3, draw=draw)).changed for draw in (0, 1))
    both = int((one & two).sum())
    expected = one.sum() * two.sum() / len(one)
    assert abs(both - expected) < 4 * np.sqrt(expected)


# --- inputs ----------------------------------------------------------------------------------------------------------


def by_position(x: np.ndarray) -> np.ndarray:
    """`[example, channel, position]`, as one reads pixels."""
    channels = x.shape[1] if x.ndim == 4 else 1
    return x.reshape(len(x), channels, -1)


@given(shape=SHAPES, draw=DRAWS)
def test_shuffling_is_one_permutation_for_training_and_test_alike(shape: tuple[int, ...], draw: int) -> None:
    task = shaped(shape)
    train, test, changed = randomise_inputs(task, ShuffledInputs(draw=draw))
    before, after = by_position(task.train.x), by_position(train)
    order = [int(np.flatnonzero(before[0, 0] == value)[0]) for value in after[0, 0]]
    np.testing.assert_array_equal(after, before[..., order])
    np.testing.assert_array_equal(by_position(test), by_position(task.test.x)[..., order])
    assert changed.all()


@given(shape=SHAPES, draw=DRAWS)
def test_random_pixels_permute_each_examples_own_pixels(shape: tuple[int, ...], draw: int) -> None:
    task = shaped(shape)
    randomised = randomise_inputs(task, RandomInputs(draw=draw))
    for before, after in ((task.train.x, randomised.train), (task.test.x, randomised.test)):
        old, new = by_position(before), by_position(after)
        for example in range(len(old)):
            pixels = {tuple(pixel) for pixel in old[example].T}
            assert {tuple(pixel) for pixel in new[example].T} == pixels


def test_random_pixels_are_permuted_otherwise_in_every_example() -> None:
    x = np.tile(np.arange(40.0), (20, 1))
    task = Task(train=Examples(x, np.arange(20) % 2), test=Examples(x, np.arange(20) % 2))
    train, test, _ = randomise_inputs(task, RandomInputs(draw=0))
    assert len(np.unique(np.concatenate([train, test]), axis=0)) == 40


def test_every_pixel_goes_everywhere_equally_often() -> None:
    num_examples, num_features = 6_000, 6
    x = np.tile(np.arange(float(num_features)), (num_examples, 1))
    task = Task(train=Examples(x, np.arange(num_examples) % 2), test=Examples(x[:2], [0, 1]))
    train = randomise_inputs(task, RandomInputs(draw=1)).train
    share = 1 / num_features
    for place in range(num_features):
        counts = np.bincount(train[:, place].astype(int), minlength=num_features)
        z = (counts - num_examples * share) / np.sqrt(num_examples * share * (1 - share))
        assert np.abs(z).max() < 4


@pytest.mark.parametrize("shape", [(7,), (4, 5), (3, 4, 5)])
def test_gaussian_inputs_have_the_mean_and_variance_of_the_data(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, y = 3 + 5 * rng.standard_normal((2_000, *shape)), np.arange(2_000) % 2
    task = Task(train=Examples(x, y), test=Examples(x, y))
    randomised = randomise_inputs(task, GaussianInputs(draw=2))
    for drawn in (randomised.train, randomised.test):
        assert abs(drawn.mean() - x.mean()) < 4 * x.std() / np.sqrt(drawn.size)
        assert abs(drawn.std() / x.std() - 1) < 4 / np.sqrt(2 * drawn.size)
    assert randomised.changed.all()
    assert abs(np.corrcoef(randomised.train.ravel(), x.ravel())[0, 1]) < 4 / np.sqrt(x.size)


def test_inputs_are_normalised_and_true_ones_are_otherwise_untouched() -> None:
    task = shaped((3, 4, 5))
    task = replace(task, normalise=standardise(task.train.x, per_feature=False))
    train, test, changed = randomise_inputs(task, TrueInputs())
    assert train.mean() == pytest.approx(0, abs=1e-12)
    assert train.std() == pytest.approx(1)
    np.testing.assert_allclose(test, (task.test.x - task.train.x.mean()) / task.train.x.std())
    assert not changed.any()


@given(num_columns=st.integers(1, 4), draw=DRAWS)
def test_permuted_columns_keep_their_values_and_lose_their_rows(num_columns: int, draw: int) -> None:
    """Of each raw column, which may be several features."""
    rng = np.random.default_rng(0)
    columns = tuple(np.repeat([f"c{number}" for number in range(num_columns)], 2).tolist())
    x = rng.normal(size=(60, len(columns)))
    task = Task(
        train=Examples(x[:40], np.arange(40) % 2),
        test=Examples(x[40:], np.arange(20) % 2),
        modality="table",
        feature_columns=columns,
    )
    dealt = randomise_inputs(task, PermutedColumns(draw=draw))
    assert dealt.changed.all()
    for before, after in ((task.train.x, dealt.train), (task.test.x, dealt.test)):
        for first in range(0, len(columns), 2):
            own = slice(first, first + 2)
            assert sorted(map(tuple, after[:, own])) == sorted(map(tuple, before[:, own]))
            assert (after[:, own] != before[:, own]).any()
        if num_columns > 1:
            whole = {tuple(row) for row in before}
            assert sum(tuple(row) in whole for row in after) <= 6


@pytest.mark.parametrize("kind", [ShuffledInputs, RandomInputs, GaussianInputs, PermutedColumns])
def test_inputs_of_one_draw_are_the_same_and_of_another_are_others(kind: type) -> None:
    task = shaped((7,))
    first, again, other = (randomise_inputs(task, kind(draw=draw)) for draw in (0, 0, 1))
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.test, again.test)
    assert (first.train != other.train).any()


# --- subsets ---------------------------------------------------------------------------------------------------------


@given(share=KEPT_SHARES, num_units=st.integers(1, 70), draw=DRAWS)
def test_every_unit_is_left_out_equally_often(share: tuple[int, int], num_units: int, draw: int) -> None:
    kept, of = share
    block = [
        balanced_subset(num_units=num_units, fraction=kept / of, draw=draw, index=index) for index in range(2 * of)
    ]
    np.testing.assert_array_equal(np.sum(block, axis=0), 2 * kept)
    np.testing.assert_array_equal(np.sum(block[:of], axis=0), kept)


@given(share=KEPT_SHARES, num_units=st.integers(1, 70), draw=DRAWS, index=st.integers(0, 40))
def test_each_subset_has_the_fraction_asked_for(share: tuple[int, int], num_units: int, draw: int, index: int) -> None:
    fraction = share[0] / share[1]
    size = balanced_subset(num_units=num_units, fraction=fraction, draw=draw, index=index).sum()
    assert abs(size - fraction * num_units) < 1


@given(draw=DRAWS, num_runs=st.integers(1, 25))
def test_a_longer_sequence_begins_with_a_shorter_one(draw: int, num_runs: int) -> None:
    task = labelled(30, 3)
    forwards = [inclusion(task, BalancedSubset(fraction=0.7, draw=draw, index=index)) for index in range(num_runs + 10)]
    backwards = [
        inclusion(task, BalancedSubset(fraction=0.7, draw=draw, index=index)) for index in reversed(range(num_runs))
    ]
    np.testing.assert_array_equal(forwards[:num_runs], backwards[::-1])


@pytest.mark.parametrize("index", [0, 4, 9])
def test_each_subset_alone_is_a_uniform_one(index: int) -> None:
    """Units are left out alike often over draws, and so are pairs: no unit and no pair is favoured."""
    num_units, num_draws = 20, 3_000
    masks = np.array(
        [balanced_subset(num_units=num_units, fraction=0.7, draw=draw, index=index) for draw in range(num_draws)]
    ).astype(float)
    z = (masks.mean(0) - 0.7) / np.sqrt(0.7 * 0.3 / num_draws)
    assert np.abs(z).max() < 4.5
    together = (masks.T @ masks / num_draws)[np.triu_indices(num_units, 1)]
    expected = 0.7 * (14 - 1) / (num_units - 1)
    pairs = (together - expected) / np.sqrt(expected * (1 - expected) / num_draws)
    assert np.abs(pairs).max() < 4.5
    assert 0.7 < pairs.std() < 1.3


@given(groups=st.lists(st.integers(0, 8), min_size=4, max_size=60), draw=DRAWS, index=st.integers(0, 20))
def test_groups_go_in_or_stay_out_whole(groups: list[int], draw: int, index: int) -> None:
    y = np.arange(len(groups)) % 2
    task = Task(train=Examples(np.ones((len(y), 1)), y, groups=groups), test=Examples([[1.0]], [0]))
    mask = inclusion(task, BalancedSubset(fraction=0.5, draw=draw, index=index))
    for group in set(groups):
        assert len(set(mask[np.array(groups) == group])) == 1


def test_chosen_examples_are_left_out_and_no_others() -> None:
    task = labelled(6, 2)
    assert inclusion(task, LeftOut(positions=(1, 4), reason="odd")).tolist() == [True, False, True, True, False, True]
    assert inclusion(task, LeftOut(positions=(), reason="none")).all()
    for positions in ((1, 1), (4, 1), (-1, 3)):
        with pytest.raises(ValueError, match="ascending positions"):
            LeftOut(positions=positions, reason="odd")
    with pytest.raises(DataError, match="positions below 6, the number of training examples, got 6"):
        inclusion(task, LeftOut(positions=(6,), reason="odd"))


def test_chosen_targets_are_replaced_and_no_others() -> None:
    task, numbers = labelled(6, 3), numbered(6)
    wanted = (int(task.train.y[1] + 1) % 3, int(task.train.y[4]))
    drawn = randomise_targets(task, ReplacedLabels(positions=(1, 4), targets=wanted))
    assert drawn.targets[[1, 4]].tolist() == list(wanted)
    assert drawn.changed.tolist() == [False, True, False, False, False, False]
    assert drawn.targets.dtype == task.train.y.dtype
    assert randomise_targets(numbers, ReplacedLabels(positions=(2,), targets=(7.5,))).targets[2] == 7.5
    for bad in (3.0, 0.5, -1.0):
        with pytest.raises(DataError, match="class codes from 0 to 2"):
            randomise_targets(task, ReplacedLabels(positions=(1,), targets=(bad,)))
    with pytest.raises(DataError, match="positions below 6"):
        randomise_targets(task, ReplacedLabels(positions=(9,), targets=(0.0,)))
    with pytest.raises(ValueError, match="2 targets, one for each position, got 1"):
        ReplacedLabels(positions=(1, 2), targets=(0.0,))


def test_all_examples_are_all_examples() -> None:
    assert inclusion(labelled(30, 3), AllExamples()).all()


# --- samples and splits ----------------------------------------------------------------------------------------------


def shares_kept(labels: np.ndarray, chosen: np.ndarray) -> None:
    """Every class has its share of what was chosen, to less than one example (systematic: the tick may fall aside)."""
    for label in np.unique(labels):
        expected = len(chosen) * (labels == label).mean()
        assert abs((labels[chosen] == label).sum() - expected) < 1 + 1e-9


@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=6),
    train=st.integers(1, 300),
    test=st.integers(1, 300),
    draw=DRAWS,
)
def test_a_sample_keeps_the_proportions_of_classes(counts: list[int], train: int, test: int, draw: int) -> None:
    y = np.random.default_rng(draw).permutation(np.repeat(np.arange(len(counts)), counts))
    task = Task(train=Examples(np.ones((len(y), 1)), y), test=Examples(np.ones((len(y), 1)), y))
    positions = sample_positions(task, Sample(train=train, test=test, draw=draw))
    for chosen, size in ((positions.train, train), (positions.test, test)):
        assert len(chosen) == min(size, len(y))
        assert (np.diff(chosen) > 0).all()
        shares_kept(y, chosen)


def test_no_sample_is_the_whole_task_and_a_sample_of_numbers_is_of_its_size() -> None:
    task = numbered(40)
    whole = sample_positions(task, None)
    assert (len(whole.train), len(whole.test)) == (40, 5)
    part = sample_positions(task, Sample(train=13, test=2, draw=0))
    assert (len(np.unique(part.train)), len(np.unique(part.test))) == (13, 2)


@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=6),
    test_fraction=st.floats(0.1, 0.5),
    seed=DRAWS,
)
def test_a_split_is_a_partition_that_keeps_the_proportions(counts: list[int], test_fraction: float, seed: int) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    assume(round(len(y) * test_fraction) >= 1)
    train, test = split(y, regression=False, test_fraction=test_fraction, seed=seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(y)))
    assert set(y[train]) == set(y)
    assert abs(len(test) - test_fraction * len(y)) <= len(counts)
    for label, count in enumerate(counts):
        assert abs((y[test] == label).sum() - test_fraction * count) < 2


@given(test_fraction=st.floats(0.51, 0.98), seed=DRAWS)
def test_every_class_keeps_a_training_example_however_much_is_set_aside(test_fraction: float, seed: int) -> None:
    y = np.repeat(np.arange(5), [2, 2, 3, 60, 60])
    train, _ = split(y, regression=False, test_fraction=test_fraction, seed=seed)
    assert set(y[train]) == set(range(5))


@given(seed=DRAWS)
def test_a_split_depends_on_the_seed_alone_and_not_on_what_the_classes_are_called(seed: int) -> None:
    y = np.arange(50) % 3
    names = np.array(["ant", "bee", "cat"])[y]
    by_code, by_name = (split(labels, regression=False, test_fraction=0.2, seed=seed) for labels in (y, names))
    np.testing.assert_array_equal(by_code.test, by_name.test)


def test_another_seed_sets_other_examples_aside() -> None:
    y = np.arange(200) % 2
    tests = [set(split(y, regression=False, test_fraction=0.2, seed=seed).test.tolist()) for seed in range(20)]
    assert len({frozenset(test) for test in tests}) == 20
    times_out = np.bincount([example for test in tests for example in test], minlength=200)
    assert times_out.max() < 4 + 5 * np.sqrt(20 * 0.2 * 0.8)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=8, max_size=40),
    regression=st.booleans(),
    seed=DRAWS,
)
def test_a_split_keeps_groups_whole_and_near_the_fraction(sizes: list[int], regression: bool, seed: int) -> None:
    groups = np.repeat([f"patient {number}" for number in range(len(sizes))], sizes)
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(len(groups)) if regression else np.arange(len(groups)) % 2
    train, test = split(y, regression=regression, test_fraction=0.25, seed=seed, groups=groups)
    assert not set(groups[train]) & set(groups[test])
    assert len(train) + len(test) == len(groups)
    assert len(test) > 0
    assert abs(len(test) / len(groups) - 0.25) <= max(sizes) / len(groups)


def test_a_grouped_split_leaves_no_class_without_training_examples() -> None:
    groups = np.repeat(np.arange(10), 4)
    y = (groups == 3).astype(int)
    for seed in range(20):
        train, test = split(y, regression=False, test_fraction=0.3, seed=seed, groups=groups)
        assert set(y[train]) == {0, 1}
        assert 3 not in groups[test]


@pytest.mark.parametrize(
    ("targets", "options", "words"),
    [
        (["a"] * 9 + ["b"], {}, ["Class 'b' has a single example", "Drop it, or merge it"]),
        (["a"] * 9 + ["b", "c"], {}, ["Class 'b'", "and 1 more classes"]),
        ([0, 1], {}, ["Too few examples to split", "20% of 2"]),
        (list(range(500)), {}, ["500 distinct numbers", "--regression"]),
        (list(range(50)), {}, ["single example", "--regression"]),
        ([0, 1] * 10, {"groups": ["one"] * 20}, ["at least 2 groups", "'one'"]),
        ([0, 1] * 10, {"groups": ["p", "q"] * 10}, ["each of the 2 groups holds the whole of a class", "finer"]),
    ],
)
def test_what_cannot_be_split_is_refused_and_said(targets: list, options: dict, words: list[str]) -> None:
    groups = np.array(options["groups"]) if options else None
    with pytest.raises(DataError) as caught:
        split(np.array(targets), regression=False, test_fraction=0.2, seed=0, groups=groups)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("test_fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_test_fraction_lies_between_zero_and_one(test_fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(np.arange(20) % 2, regression=False, test_fraction=test_fraction, seed=0)


# --- identity --------------------------------------------------------------------------------------------------------


def identities() -> list[str]:
    """What has to be the same everywhere: hashes and draws."""
    task = load("digits", seed=3)
    spec = RunSpec(
        task=task.fingerprint,
        learner=Learner(model=ModelSpec(name="mlp", arguments=(("width", 64),))),
        seed=1,
        order=2,
        labels=CorruptedLabels(fraction=0.3, draw=4),
        inputs=RandomInputs(draw=5),
        subset=BalancedSubset(fraction=0.7, draw=6, index=7),
    )
    draws = (
        randomise_targets(task, spec.labels).targets.sum(),
        np.flatnonzero(inclusion(task, spec.subset)).sum(),
        repr(float(randomise_inputs(task, spec.inputs).train[:, 0, 0].sum())),
    )
    return [task.fingerprint, spec.key, *(str(draw) for draw in draws)]


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_fingerprint_key_and_draws_are_the_same_in_another_process(hash_seed: str) -> None:
    there = subprocess.run(
        [sys.executable, __file__],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"},
    )
    assert there.stdout.split() == identities()


@given(place=st.integers(0, 29), feature=st.integers(0, 2))
def test_other_data_have_another_fingerprint(place: int, feature: int) -> None:
    task = labelled(30, 3)
    x, y = task.train.x.copy(), task.train.y.copy()
    x[place, feature] += 1e-9
    y[place] = (y[place] + 1) % 3
    others = [
        replace(task, train=Examples(x, task.train.y)),
        replace(task, train=task.train.with_targets(y)),
        replace(task, train=Examples(task.train.x, task.train.y, groups=np.arange(30))),
        replace(task, normalise=standardise(task.train.x, per_feature=True)),
        task.part(train=np.delete(np.arange(30), place), test=np.arange(5)),
    ]
    assert len({other.fingerprint for other in (task, *others)}) == 6
    assert replace(task, name="other", notes=("said",)).fingerprint == task.fingerprint


if __name__ == "__main__":
    print(*identities())
