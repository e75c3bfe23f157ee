"""What the training trace alone says of each example, without a single extra run."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from byrote.records import Scores


class ForgettingEvents(NamedTuple):
    """How often each example was forgotten, and which were never known."""

    events: Int[np.ndarray, "example"]
    """Times a right answer turned wrong."""
    never_learnt: Bool[np.ndarray, "example"]
    """Never answered right; such an example has no event and yet is the hardest there is."""


class DataMap(NamedTuple):
    """Where each example lies on the map of its data set: easy, hard or ambiguous."""

    confidence: Float[np.ndarray, "example"]
    """Mean probability of its target over training."""
    variability: Float[np.ndarray, "example"]
    """Standard deviation of that probability over training, all moments counted (not one fewer)."""
    correctness: Float[np.ndarray, "example"]
    """Share of the moments at which it was answered right."""


def csl(loss: Float[np.ndarray, "moment example"]) -> Float[np.ndarray, "example"]:
    """Sum each example's loss over training: the cumulative sample loss.

    CSL(i) = Σ_t ℓ_t(i). High for examples that are learnt late or never, such as those with a wrong label.

    >>> csl(np.array([[2.0, 0.5], [1.0, 0.25]]))
    array([3.  , 0.75])

    Args:
        loss: each example's loss at each moment of the trace.

    Returns:
        One sum per example, in the loss's unit, at least 0 when the loss is.

    Raises:
        ValueError: no moments.

    Ravikumar et al. 2025, Towards Memorization Estimation: Fast, Formal and Free, ICML
    """
    _check_moments(loss)
    return loss.sum(0, dtype=np.float64)


def aum(margin: Float[np.ndarray, "moment example"]) -> Float[np.ndarray, "example"]:
    """Average each example's margin over training: the area under the margin.

    AUM(i) = mean over t of z_y − max_{c≠y} z_c, on logits. Low, often negative, for wrong labels.

    >>> aum(np.array([[1.0, -2.0], [3.0, 0.0]]))
    array([ 2., -1.])

    Args:
        margin: each example's margin at each moment of the trace.

    Returns:
        One mean per example, in logits; NaN for regression, where a margin is undefined.

    Raises:
        ValueError: no moments.

    Pleiss et al. 2020, Identifying Mislabeled Data using the Area Under the Margin Ranking,
    https://arxiv.org/abs/2001.10528
    """
    _check_moments(margin)
    return margin.mean(0, dtype=np.float64)


def forgetting_events(correct: Bool[np.ndarray, "moment example"]) -> ForgettingEvents:
    """Count how often each example, once answered right, was answered wrong at the next moment.

    events(i) = Σ_t correct_t(i)·(1 − correct_{t+1}(i)).

    >>> forgetting_events(np.array([[False, True], [False, False], [False, True]]))
    ForgettingEvents(events=array([0, 1]), never_learnt=array([ True, False]))

    Args:
        correct: whether each example was answered right at each moment, in order; of numbers, whether the loss was
            below what counts as fitted.

    Returns:
        Counts in [0, ⌊moments/2⌋], and the examples that were never answered right.

    Raises:
        TypeError: answers are numbers, not True or False.
        ValueError: no moments.

    Toneva et al. 2019, An Empirical Study of Example Forgetting, https://arxiv.org/abs/1812.05159
    """
    if correct.dtype.kind != "b":
        raise TypeError(f"Expected right answers as True or False, got {correct.dtype}. Of 0 and 1: correct == 1.")
    _check_moments(correct)
    return ForgettingEvents(
        events=(correct[:-1] & ~correct[1:]).sum(0),
        never_learnt=np.asarray(~correct.any(0)),
    )


def data_map(probability: Float[np.ndarray, "moment example"], correct: Bool[np.ndarray, "moment example"]) -> DataMap:
    """Place each example by how training went for it.

    confidence μ_i = mean over t of p_t(y_i | x_i), variability σ_i = √(mean over t of (p_t − μ_i)²), correctness the
    share of moments with a right answer. Low confidence with low variability is hard, often mislabelled; high
    variability is ambiguous; the rest is easy.

    >>> data_map(np.array([[0.2, 1.0], [0.6, 1.0]]), np.array([[False, True], [True, True]]))
    DataMap(confidence=array([0.4, 1. ]), variability=array([0.2, 0. ]), correctness=array([0.5, 1. ]))

    Numbers have no probability, so a regression has no place on this map; of its trace `byrote.Recorder` gives the
    standard deviation of the prediction (variability) and, with `fitted_below`, the correctness.

    Args:
        probability: of the target, exp(−loss) where the loss is cross-entropy.
        correct: whether the answer was right.

    Returns:
        Three numbers for each example, in [0, 1], [0, 1/2] and [0, 1].

    Raises:
        ValueError: no moments, the shapes differ, or a probability outside [0, 1].

    Swayamdipta et al. 2020, Dataset Cartography, https://arxiv.org/abs/2009.10795
    """
    _check_moments(probability)
    if probability.shape != correct.shape:
        raise ValueError(f"Expected arrays of one shape, got {probability.shape} and {correct.shape}.")
    if (probability < 0).any() or (probability > 1 + 1e-6).any():
        raise ValueError(f"Expected probabilities in [0, 1], got {probability.min():g} to {probability.max():g}.")
    return DataMap(
        confidence=probability.mean(0, dtype=np.float64),
        variability=probability.std(0, dtype=np.float64),
        correctness=correct.mean(0, dtype=np.float64),
    )


def el2n(logits: Float[np.ndarray, "run example class"], targets: Int[np.ndarray, "example"]) -> Scores:
    """Measure how far predicted probabilities are from the label: the error's L2 norm.

    EL2N(i) = mean over runs of ‖softmax(z) − onehot(y)‖₂. Uniform predictions over k classes give √((k − 1)/k).
    Informative early in training, averaged over at least ten runs.

    >>> round(el2n(np.zeros((1, 1, 4)), np.array([2])).value.item(), 6) == round((3 / 4) ** 0.5, 6)
    True

    Args:
        logits: each run's logits on each example.
        targets: class codes in [0, k).

    Returns:
        Scores in [0, √2]; the standard error over runs is NaN for one run.

    Raises:
        TypeError: targets are no class codes.
        ValueError: a target is not a class, or there are no runs.

    Paul et al. 2021, Deep Learning on a Data Diet, https://arxiv.org/abs/2107.07075
    """
    num_runs, num_examples, num_classes = logits.shape
    if num_runs == 0:
        raise ValueError("Expected logits of at least one run, got none.")
    if targets.shape != (num_examples,):
        raise ValueError(f"Expected one target for each of {num_examples} examples, got shape {targets.shape}.")
    if targets.dtype.kind not in "iu":
        raise TypeError(
            f"Expected targets as class codes, got {targets.dtype}. Of numbers to predict the error is |ŷ − y|, which "
            f"byrote.Recorder(regression=True) has as el2n."
        )
    if num_examples and not (targets.min() >= 0 and targets.max() < num_classes):
        raise ValueError(f"Expected targets in [0, {num_classes}), got {targets.min()} to {targets.max()}.")
    norms = np.stack([_error_norm(each, targets) for each in logits])
    se = norms.std(0, ddof=1) / num_runs**0.5 if num_runs > 1 else np.full(num_examples, np.nan)
    return Scores(value=norms.mean(0), se=se, count=np.full(int(num_examples), int(num_runs)))


def _check_moments(trace: Shaped[np.ndarray, "moment example"]) -> None:
    if len(trace) == 0:
        raise ValueError("Expected at least one moment of training, got none.")


def _error_norm(
    logits: Float[np.ndarray, "example class"], targets: Int[np.ndarray, "example"]
) -> Float[np.ndarray, "example"]:
    error = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(targets)), targets] -= 1
    return np.sqrt((error**2).sum(1))
