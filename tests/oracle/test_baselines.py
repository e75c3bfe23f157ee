"""Baselines against scikit-learn's own, closed forms and known accuracies."""

import inspect
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier

from byrote.baselines import fit_baseline, kernel
from byrote.records import Baseline, ExactMatch, Forest, KernelMachine, NearestNeighbours

EVERY: list[Baseline] = [
    ExactMatch(),
    NearestNeighbours(num_neighbours=3),
    Forest(num_trees=5),
    KernelMachine(kernel="gaussian"),
    KernelMachine(kernel="laplacian"),
]


class Data(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    queries: np.ndarray
    answers: np.ndarray


@pytest.fixture(scope="module")
def digits() -> Data:
    loaded = load_digits(return_X_y=True)
    x, y = np.asarray(loaded[0]) / 16, np.asarray(loaded[1])
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order]
    return Data(x[:1400], y[:1400], x[1400:], y[1400:])


@pytest.fixture(scope="module")
def wave() -> Data:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, size=(300, 1))
    y = 100 + np.sin(2 * x[:, 0])
    return Data(x[:200], y[:200], x[200:], y[200:])


def outputs(baseline: Baseline, data: Data, *, num_classes: int = 10, seed: int = 0) -> np.ndarray:
    fitted = fit_baseline(baseline, x=data.x, y=data.y, queries=data.queries, num_classes=num_classes, seed=seed)
    return fitted.outputs


@pytest.mark.parametrize(
    ("baseline", "least"),
    [
        (NearestNeighbours(), 0.98),
        (Forest(), 0.96),
        (KernelMachine(kernel="gaussian"), 0.98),
        (KernelMachine(kernel="laplacian"), 0.98),
    ],
)
def test_digits_are_read_as_well_as_is_known(baseline, least, digits):
    assert (outputs(baseline, digits).argmax(1) == digits.answers).mean() > least


@pytest.mark.parametrize("baseline", EVERY, ids=str)
def test_scores_come_in_class_order_for_classes_that_do_not_occur_too(baseline, digits):
    some = digits._replace(x=digits.x[:150], y=2 * digits.y[:150] + 1)
    scores = outputs(baseline, some, num_classes=20)
    assert scores.shape == (len(digits.queries), 20)
    assert scores.sum(1) == pytest.approx(np.ones(len(scores)))
    assert not scores[:, ::2].any()
    trained = some._replace(queries=some.x)
    assert (outputs(baseline, trained, num_classes=20).argmax(1) == some.y).mean() > 0.9


@pytest.mark.parametrize("baseline", EVERY, ids=str)
def test_the_same_seed_gives_the_same_answer(baseline, digits):
    some = digits._replace(x=digits.x[:150], y=digits.y[:150])
    assert np.array_equal(outputs(baseline, some, seed=2**62), outputs(baseline, some, seed=2**62))


@pytest.mark.parametrize("baseline", EVERY[1:], ids=str)
def test_numbers_are_predicted_in_their_own_unit(baseline, wave):
    predicted = outputs(baseline, wave, num_classes=0)
    assert predicted.shape == (100, 1)
    error = ((predicted[:, 0] - wave.answers) ** 2).mean()
    assert 1 - error / wave.answers.var() > 0.95


def test_a_table_knows_what_it_holds_and_guesses_elsewhere():
    x = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [0.0, 5.0]])
    y = np.array([2, 2, 1, 1])
    queries = np.array([[1.0, 2.0], [-0.0, 5.0], [7.0, 7.0]])
    fitted = fit_baseline(ExactMatch(), x=x, y=y, queries=queries, num_classes=3, seed=0)
    assert fitted.outputs == pytest.approx(np.array([[0, 1 / 3, 2 / 3], [0, 1, 0], [0, 0.5, 0.5]]))
    assert fitted.note == "66.7 % of what it was asked is in the table"
    numbers = fit_baseline(ExactMatch(), x=x, y=y.astype(float), queries=queries, num_classes=0, seed=0)
    assert numbers.outputs[:, 0] == pytest.approx([5 / 3, 1, 1.5])


@pytest.mark.parametrize("num_neighbours", [1, 5])
def test_neighbours_vote_as_in_scikit_learn(num_neighbours, digits):
    theirs = KNeighborsClassifier(num_neighbours, algorithm="brute").fit(digits.x, digits.y)
    ours = outputs(NearestNeighbours(num_neighbours=num_neighbours), digits)
    assert ours == pytest.approx(np.asarray(theirs.predict_proba(digits.queries)))


def test_more_neighbours_than_examples_are_all_of_them():
    x, y = np.array([[0.0], [1.0]]), np.array([0, 1])
    fitted = fit_baseline(NearestNeighbours(num_neighbours=5), x=x, y=y, queries=x, num_classes=2, seed=0)
    assert (fitted.outputs == 0.5).all()
    assert fitted.note == "2 neighbours, as there are no more training examples"


def test_a_forest_on_all_cores_is_the_one_on_one_core_to_the_last_bit(digits, wave):
    theirs = RandomForestClassifier(20, random_state=7, n_jobs=1).fit(digits.x, digits.y)
    assert np.array_equal(outputs(Forest(num_trees=20), digits, seed=7), theirs.predict_proba(digits.queries))
    numbers = RandomForestRegressor(20, random_state=7, n_jobs=1, max_features=1 / 3).fit(wave.x, wave.y)
    ours = outputs(Forest(num_trees=20), wave, num_classes=0, seed=7)
    assert np.array_equal(ours[:, 0], numbers.predict(wave.queries))


@pytest.mark.parametrize("name", ["gaussian", "laplacian"])
def test_a_kernel_machine_is_kernel_ridge_on_centred_targets(name, digits, monkeypatch):
    monkeypatch.setattr(kernel, "BANDWIDTHS", (0.7,))
    monkeypatch.setattr(kernel, "RIDGES", (1e-3,))
    distances = euclidean_distances(digits.x)
    order = np.random.default_rng(5).permutation(len(digits.x))
    half = len(order) // 2
    sigma = 0.7 * np.median(distances[order[:half], order[half : 2 * half]])

    def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        between = euclidean_distances(first, second)
        return np.exp(-(between**2) / (2 * sigma**2)) if name == "gaussian" else np.exp(-between / sigma)

    targets = np.eye(10)[digits.y]
    ridge = KernelRidge(kernel="precomputed").set_params(alpha=1e-3 * len(digits.x))
    ridge.fit(similarity(digits.x, digits.x), targets - targets.mean(0))
    theirs = targets.mean(0) + ridge.predict(similarity(digits.queries, digits.x))
    assert outputs(KernelMachine(kernel=name), digits, seed=5) == pytest.approx(theirs, abs=1e-8)


@pytest.mark.parametrize("name", ["gaussian", "laplacian"])
def test_landmarks_that_are_all_examples_give_the_exact_solution(name, digits, monkeypatch):
    """Nyström with every example as a landmark solves the same system: (K² + λK)a = KY."""
    some = digits._replace(x=digits.x[:300], y=digits.y[:300])
    monkeypatch.setattr(kernel, "RIDGES", (1e-3,))
    monkeypatch.setattr(kernel, "BLOCK", 128)
    exact = outputs(KernelMachine(kernel=name), some)
    monkeypatch.setattr(kernel, "MOST_EXACT", 299)
    assert outputs(KernelMachine(kernel=name), some) == pytest.approx(exact, abs=1e-6)


def test_few_landmarks_are_said_and_nearly_as_good(digits, monkeypatch):
    monkeypatch.setattr(kernel, "MOST_EXACT", 1000)
    monkeypatch.setattr(kernel, "NUM_LANDMARKS", 400)
    fitted = fit_baseline(KernelMachine(), x=digits.x, y=digits.y, queries=digits.queries, num_classes=10, seed=0)
    assert "Nyström with 400 landmarks of 1,400 training examples" in fitted.note
    assert (fitted.outputs.argmax(1) == digits.answers).mean() > 0.96


def test_bandwidth_is_chosen_to_suit_the_data(wave):
    """A wave of three periods is far narrower than the median distance."""
    fast = wave._replace(y=np.sin(12 * wave.x[:, 0]), answers=np.sin(12 * wave.queries[:, 0]))
    fitted = fit_baseline(KernelMachine(), x=fast.x, y=fast.y, queries=fast.queries, num_classes=0, seed=0)
    assert fitted.note.startswith("bandwidth 0.125 median distances and ridge 1e-06·n, chosen on 40 of 200")
    assert np.abs(fitted.outputs[:, 0] - fast.answers).mean() < 0.01


@pytest.mark.parametrize("baseline", EVERY, ids=str)
@pytest.mark.parametrize("num_examples", [1, 2, 7])
def test_a_handful_of_identical_examples_is_answered(baseline, num_examples):
    x, y = np.zeros((num_examples, 3), np.float32), np.ones(num_examples, int)
    fitted = fit_baseline(baseline, x=x, y=y, queries=np.zeros((2, 3), np.float32), num_classes=2, seed=0)
    assert fitted.outputs == pytest.approx(np.array([[0.0, 1.0]] * 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": np.zeros((2, 4))}, "same features"),
        ({"y": np.zeros(2, int)}, "one target for each"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, "at least one example"),
        ({"y": np.array([0, 1, 2])}, "class codes from 0 to 1, got 0 to 2"),
        ({"y": np.zeros(3)}, "class codes from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    data = {"x": np.zeros((3, 3)), "y": np.zeros(3, int), "queries": np.zeros((2, 3)), "num_classes": 2, "seed": 0}
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(fit_baseline)(ExactMatch(), **{**data, **changes})
