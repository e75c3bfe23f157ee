"""What a trajectory says, against quadratics on which everything is known."""

import inspect
import math
from typing import Any

import numpy as np
import pytest

from byrote.measures.trajectory import (
    break_even,
    critical_step,
    critical_step_between,
    peak,
    stability_limit,
    stability_ratio,
    travel,
)
from byrote.records import SAM, SGD, Adam, AdamW


def descend(optimiser, sharpness: float, *, num_steps: int = 4000) -> float:
    """|θ| after so many steps from 1 on λθ²/2, as torch's optimisers step; Adam with its scale frozen at 1."""
    weight, velocity = 1.0, 0.0
    for _ in range(num_steps):
        gradient = sharpness * weight
        match optimiser:
            case SGD(lr=lr, momentum=momentum, weight_decay=decay, nesterov=nesterov):
                gradient += decay * weight
                velocity = momentum * velocity + gradient
                weight -= lr * (gradient + momentum * velocity if nesterov else velocity)
            case Adam(lr=lr, beta1=beta1):
                velocity = beta1 * velocity + (1 - beta1) * gradient
                weight -= lr * velocity
            case AdamW(lr=lr, beta1=beta1, weight_decay=decay):
                velocity = beta1 * velocity + (1 - beta1) * gradient
                weight -= lr * decay * weight
                weight -= lr * velocity
        if not abs(weight) < 1e12:
            break
    return abs(weight)


@pytest.mark.parametrize(
    "optimiser",
    [
        SGD(lr=0.1, momentum=0.0),
        SGD(lr=0.3, momentum=0.9),
        SGD(lr=0.1, momentum=0.9, nesterov=True),
        SGD(lr=0.1, momentum=0.0, weight_decay=3.0),
        SGD(lr=0.1, momentum=0.5, weight_decay=2.0, nesterov=True),
        Adam(lr=0.05),
        Adam(lr=0.05, beta1=0.5),
        AdamW(lr=0.05, weight_decay=0.0),
        AdamW(lr=0.05, weight_decay=5.0),
    ],
    ids=repr,
)
def test_steps_shrink_just_below_the_limit_and_grow_just_above(optimiser):
    """At 1.99 and 2.01 where the limit of gradient descent is 2."""
    limit = stability_limit(optimiser)
    assert descend(optimiser, 0.995 * limit) < 1e-3
    assert descend(optimiser, 1.005 * limit) > 1e3


def test_adams_limit_is_38_over_the_learning_rate_at_its_usual_beta():
    assert stability_limit(Adam(lr=1e-3)) == pytest.approx(38_000)
    assert stability_limit(AdamW(lr=1e-3, weight_decay=0.0)) == pytest.approx(38_000)


def test_the_ratio_is_sharpness_times_half_the_learning_rate_and_follows_a_schedule():
    sharpness, rates = np.array([10.0, 20.0, 30.0]), np.array([0.1, 0.05, 0.0])
    optimiser = SGD(lr=0.1, momentum=0.0)
    np.testing.assert_allclose(stability_ratio(sharpness, optimiser=optimiser), sharpness * 0.1 / 2)
    np.testing.assert_allclose(stability_ratio(sharpness, optimiser=optimiser, lr=rates), sharpness * rates / 2)
    assert stability_ratio(np.array(30.0), optimiser=optimiser) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("optimiser", "words"),
    [
        (SAM(base=SGD()), r"SAM's limit depends.*stability_limit\(optimiser\.base\)"),
        (Adam(weight_decay=0.1), "sharpness of the loss with the penalty"),
        (SGD(lr=1.0, momentum=0.0, weight_decay=2.5), "weight decay alone makes the steps"),
    ],
)
def test_where_there_is_no_such_limit_that_is_said(optimiser, words):
    with pytest.raises(ValueError, match=words):
        stability_limit(optimiser)


@pytest.mark.parametrize("rates", [[0.1], [0.1, -0.1], [0.1, math.nan]])
def test_each_moment_needs_a_learning_rate(rates):
    with pytest.raises(ValueError, match="one learning rate, at least 0, for each of 2"):
        inspect.unwrap(stability_ratio)(np.ones(2), optimiser=SGD(), lr=np.array(rates))


@pytest.mark.parametrize("sharpness", [0.01, 0.7, 1.9, 2.1, 30.0])
def test_the_critical_step_of_a_quadratic(sharpness):
    """θ²/2·λ from θ = 1 with a step of λη: (1 − αηλ)² = 1.2 at α = (1 + √1.2)/(ηλ)."""
    found = critical_step(lambda alpha: (1 - alpha * sharpness) ** 2)
    expected = (1 + 1.2**0.5) / sharpness
    assert abs(found.value - expected) <= found.residual <= 0.011 * expected
    sampled = np.linspace(0, 3 * expected, 7)
    between = critical_step_between((1 - sampled * sharpness) ** 2, alphas=sampled)
    assert abs(between.value - expected) <= between.residual


def test_the_first_of_several_crossings_counts_and_what_is_not_finite_is_too_high():
    losses, alphas = np.array([1.0, 1.3, 0.5, 2.0]), np.array([0.0, 1.0, 2.0, 3.0])
    assert critical_step_between(losses, alphas=alphas).value == pytest.approx(2 / 3)
    for broken in (math.nan, math.inf):
        found = critical_step_between(np.array([1.0, 0.5, broken]), alphas=alphas[:3])
        assert 1 <= found.value <= 2
        assert found.residual == 0.5
        assert abs(critical_step(lambda a, high=broken: 1.0 if a < 5 else high).value - 5) < 0.05


def test_a_step_that_never_goes_too_far_has_no_end_and_each_loss_is_counted():
    calls: list[float] = []

    def flat(alpha: float) -> float:
        calls.append(alpha)
        return 1.0

    found = critical_step(flat, longest=100.0)
    assert found.value == math.inf
    assert found.count == len(calls)
    assert max(calls) == 100.0
    calls.clear()
    assert critical_step(lambda alpha: flat(alpha) + alpha).count == len(calls)
    assert critical_step_between(np.ones(3), alphas=np.arange(3.0)).value == math.inf


def test_a_step_that_goes_too_far_at_once_is_followed_below_the_shortest():
    found = critical_step(lambda alpha: 1 + 1e4 * alpha)
    assert found.value == pytest.approx(2e-5, abs=found.residual)
    assert found.residual <= 0.01 * 2**-6


@pytest.mark.parametrize("start", [0.0, -1.0, math.nan, math.inf])
def test_a_loss_without_a_positive_start_has_no_fifth(start):
    with pytest.raises(ValueError, match="finite loss above 0 at the start"):
        critical_step(lambda alpha: start)
    with pytest.raises(ValueError, match="finite loss above 0 at the start"):
        critical_step_between(np.array([start, 1.0]), alphas=np.arange(2.0))


def test_senseless_questions_about_a_step_are_refused():
    with pytest.raises(ValueError, match="growth above 1"):
        critical_step(lambda alpha: 1.0, growth=1.0)
    with pytest.raises(ValueError, match="shortest <= longest"):
        critical_step(lambda alpha: 1.0, shortest=2.0, longest=1.0)
    for alphas in ([1.0, 2.0], [0.0, 0.0], [0.0]):
        with pytest.raises(ValueError, match="rising alphas, the first of them 0"):
            inspect.unwrap(critical_step_between)(np.ones(len(alphas)), alphas=np.array(alphas))


FULL: dict[str, Any] = {"curvature_variance": None, "batch_size": 50, "num_examples": 50}
STEPS = np.array([0.0, 10.0, 30.0])


def test_full_batches_break_even_at_two_over_the_learning_rate():
    found = break_even(np.array([4.0, 12.0, 32.0]), steps=STEPS, learning_rate=0.1, **FULL)
    assert found.value == pytest.approx(18)
    assert (found.status, found.index, found.residual, found.count) == ("crossed", 2, 20, 3)
    np.testing.assert_allclose(found.growth, (1 - 0.1 * np.array([4.0, 12.0, 32.0])) ** 2)


def test_noise_breaks_even_earlier_and_exactly_where_the_formula_says():
    """The curves are straight, so the formula can be solved on a fine grid."""
    sharpness, noise = np.array([4.0, 12.0, 32.0]), np.array([10.0, 40.0, 300.0])
    found = break_even(
        sharpness, curvature_variance=noise, learning_rate=0.1, batch_size=2, num_examples=50, steps=STEPS
    )
    fine = np.linspace(0, 30, 300_001)
    curve, spread = np.interp(fine, STEPS, sharpness), np.interp(fine, STEPS, noise)
    growth = (1 - 0.1 * curve) ** 2 + spread * 0.01 * (50 - 2) / (2 * (50 - 1))
    assert found.value == pytest.approx(fine[np.flatnonzero(growth >= 1)[0]], abs=2e-4)
    assert found.value < break_even(sharpness, steps=STEPS, learning_rate=0.1, **FULL).value


def test_the_formula_is_the_growth_of_a_step_with_a_batch_of_quadratics():
    """All batches of 2 of 5 examples of curvatures h: the mean of (1 − η·h̄)² over batches."""
    curvatures = np.array([1.0, 4.0, 2.0, 9.0, 6.0])
    batches = [(i, j) for i in range(5) for j in range(i)]
    expected = np.mean([(1 - 0.2 * curvatures[list(batch)].mean()) ** 2 for batch in batches])
    found = break_even(
        np.array([curvatures.mean()]),
        curvature_variance=np.array([curvatures.var()]),
        learning_rate=0.2,
        batch_size=2,
        num_examples=5,
        steps=np.array([0.0]),
    )
    assert found.growth.item() == pytest.approx(expected)


def test_a_smaller_learning_rate_is_predicted_from_the_curve_of_a_larger_one_and_back():
    """λ = t on the path of η = 0.01: with η = 0.1 the same place comes after a tenth of the steps."""
    steps = np.arange(0.0, 400.0, 7.0)
    found = break_even(steps + 1, steps=steps, learning_rate=0.1, measured_at=0.01, **FULL)
    assert found.value == pytest.approx((2 / 0.1 - 1) / 10)
    assert break_even(steps + 1, steps=steps, learning_rate=0.01, **FULL).value == pytest.approx(2 / 0.01 - 1)


def test_no_valley_no_break_even():
    """(1 − ηλ)² is above 1 for λ < 0 too, and 1 at λ = 0."""
    found = break_even(np.array([-30.0, 0.0, 5.0]), steps=STEPS, learning_rate=0.1, **FULL)
    assert (found.status, found.index) == ("never", None)
    assert math.isnan(found.value)
    falling = break_even(np.array([-10.0, 30.0, 30.0]), steps=STEPS, learning_rate=0.1, **FULL)
    assert falling.value == pytest.approx(7.5)


def test_at_once_unstable_and_not_finite_are_told():
    found = break_even(np.array([30.0, 5.0, 5.0]), steps=STEPS, learning_rate=0.1, **FULL)
    assert (found.value, found.status) == (0.0, "before the first measurement")
    found = break_even(np.array([5.0, math.nan, 25.0]), steps=STEPS, learning_rate=0.1, **FULL)
    assert found.value == pytest.approx(30 * 15 / 20)
    assert found.residual == 30
    found = break_even(np.array([5.0, math.inf, 25.0]), steps=STEPS, learning_rate=0.1, **FULL)
    assert (found.value, found.index) == (10.0, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"batch_size": 51},
        {"batch_size": 0},
        {"curvature_variance": np.ones(2)},
        {"curvature_variance": np.array([1.0, -1.0, 0.0])},
        {"steps": np.array([0.0, 0.0, 1.0])},
        {"measured_at": math.inf},
    ],
    ids=repr,
)
def test_what_cannot_be_a_break_even_point_is_refused(wrong):
    with pytest.raises(ValueError, match="Expected"):
        inspect.unwrap(break_even)(np.ones(3), **(FULL | {"learning_rate": 0.1, "steps": STEPS} | wrong))


def test_travel_on_a_circle():
    angles = np.linspace(0, np.pi, 101)
    found = travel(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
    np.testing.assert_allclose(found.from_start, 2 * np.sin(angles / 2), atol=1e-6)
    np.testing.assert_allclose(found.from_end, 2 * np.cos(angles / 2), atol=1e-6)
    np.testing.assert_allclose(found.cosine_to_start, np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(found.cosine_to_end, -np.cos(angles), atol=1e-6)
    assert found.path[-1] == pytest.approx(200 * np.sin(np.pi / 200), rel=1e-5)


def test_weights_of_zero_have_no_direction():
    found = travel(np.array([[0.0, 0.0], [1.0, 2.0]]))
    assert np.isnan(found.cosine_to_start).all()
    assert math.isnan(found.cosine_to_end[0])
    assert found.cosine_to_end[1] == pytest.approx(1)
    with pytest.raises(ValueError, match="at least one moment"):
        travel(np.ones((0, 3)))


def test_a_peak_is_found_with_its_place_and_its_neighbours():
    found = peak(np.array([math.nan, 1.0, 4.0, math.inf, 2.0]), steps=np.array([0, 1, 5, 6, 9]))
    assert (found.value, found.step, found.index, found.count) == (4.0, 5.0, 2, 3)
    assert (found.residual, found.rise, found.fall, found.inside) == (4.0, 3.0, 2.0, True)
    assert (found.earliest, found.latest) == (5.0, 5.0)


def test_an_end_is_no_peak_inside():
    rising = peak(np.array([1.0, 2.0, 3.0]), steps=STEPS)
    assert (rising.step, rising.inside, rising.fall) == (30.0, False, 0.0)
    assert not peak(np.array([3.0, 2.0, 1.0]), steps=STEPS).inside
    nothing = peak(np.full(3, math.nan), steps=STEPS)
    assert (nothing.count, nothing.index, nothing.inside) == (0, None, False)


def test_standard_errors_say_which_steps_may_be_meant():
    values, errors = np.array([0.0, 9.5, 10.0, 9.8, 3.0]), np.array([0.3, 0.3, 0.4, 0.3, 0.3])
    found = peak(values, steps=np.arange(5.0), standard_errors=errors)
    assert (found.earliest, found.step, found.latest, found.se) == (1.0, 2.0, 3.0, 0.4)
    assert found.inside
    assert not peak(values, steps=np.arange(5.0), standard_errors=errors + 5).inside


def test_a_curve_needs_steps_and_errors_of_its_own():
    with pytest.raises(ValueError, match="rising steps"):
        inspect.unwrap(peak)(np.ones(3), steps=np.arange(2))
    with pytest.raises(ValueError, match="rising steps"):
        peak(np.ones(0), steps=np.ones(0))
    with pytest.raises(ValueError, match="3 standard errors"):
        inspect.unwrap(peak)(np.ones(3), steps=STEPS, standard_errors=np.ones(2))
