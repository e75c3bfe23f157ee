"""What is claimed of learnt features."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from byrote.data import Task
from byrote.measures import kernel_velocity
from byrote.probing import INPUTS
from byrote.records import Finding, Interval, above
from byrote.studies.certainty import crossed_interval
from byrote.studies.claims import NOTHING, claim
from byrote.studies.ends import score_text, target_noun
from byrote.studies.heldout import gap_text
from byrote.studies.papers import BELKIN, FORT, ZHANG
from byrote.studies.representation_runs import MACHINES, STUDY, Represented, probed_groups, worth_quality
from byrote.studies.study import score_name, shift
from byrote.studies.watching import judged, mean_of, ratio
from byrote.studies.wording import article, capitalised, times

FITTED = 0.95
"""Share of random labels from which they are fitted."""
GAINS = {
    "forest": ("forest-gains-from-features", ZHANG),
    "gaussian": ("kernel-gains-from-features", ZHANG),
}
"""Claims that hold together: they compare the same features with the same inputs."""
NO_HIDDEN = "The network has no hidden layer of its own to look at"

Qualities = Mapping[int, np.ndarray]
"""By seed, of every held-out example."""


def gain(part: Task, one: Qualities, other: Qualities, *, level: float = 0.95) -> Interval:
    """By how much the one's held-out quality exceeds the other's, over seeds that both have and over examples."""
    both = [seed for seed in one if seed in other]
    if not both:
        return NOTHING
    differences = np.stack([one[seed] - other[seed] for seed in both])
    return crossed_interval(differences, groups=part.test.groups, binary=not part.regression, level=level)


def level(part: Task, own: Qualities) -> Interval:
    """The mean held-out quality, to which `shift` belongs."""
    if not own:
        return NOTHING
    return crossed_interval(np.stack(list(own.values())), groups=part.test.groups, binary=not part.regression)


def probe_gain(part: Task, own: Represented, layer: str) -> Interval:
    """By how much a linear probe of a layer is better after training than before."""
    said = own.layers.of(f"probe:{layer}")
    if not said:
        return NOTHING
    differences = np.stack([values[-1] - values[0] for values in said.values()])
    known = differences[np.isfinite(differences).all(1)]
    if not len(known):
        return NOTHING
    return crossed_interval(known, groups=probed_groups(part), binary=not part.regression)


def velocities(own: Represented) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Of the tangent kernel: the epochs between which it moved, and how fast, by seed."""
    epochs, found = own.tangent.epochs, dict[int, np.ndarray]()
    if len(epochs) < 2:
        return np.zeros(0), {}
    for seed, kernels in own.tangent.of("kernel").items():
        found[seed] = kernel_velocity(list(kernels), times=epochs).value
    return (epochs[:-1] + epochs[1:]) / 2, found


def representation_findings(part: Task, true: Represented, random: Represented) -> tuple[Finding, ...]:
    """All that is claimed.

    Args:
        part: the task, or the part of it that was looked at.
        true: networks on true labels.
        random: networks on random labels.
    """
    return (
        *_gain_findings(part, true),
        _probe_finding(part, true),
        _velocity_finding(true),
        _fit_finding(part, random),
        _speed_finding(part, random),
    )


def _gain_findings(part: Task, true: Represented) -> Iterator[Finding]:
    for machine, (name, paper) in GAINS.items():
        noun = MACHINES[machine]
        found, before, after = NOTHING, {}, {}
        if true.hidden:
            after = worth_quality(part, true, machine, true.hidden[-1], moment=-1)
            before = worth_quality(part, true, machine, INPUTS, moment=0)
            found = gain(part, after, before, level=1 - 0.05 / len(GAINS))
        if found.count:
            levels = [score_text(part, float(level(part, own).value) + shift(part)) for own in (before, after)]
            gains = "gains" if found.value >= 0 else "loses"
            statement = (
                f"{capitalised(article(noun))} {gains} {_size(part, found)} "
                f"when it is given the network's features: held-out {score_name(part)} {levels[0]} on the inputs, "
                f"{levels[1]} on the last hidden layer."
            )
        else:
            reason = NO_HIDDEN if true.layers.seeds and not true.hidden else "No network was finished"
            statement = f"{reason}, so what {article(noun)} gains from features is unknown."
        yield claim(
            name,
            statement,
            study=STUDY,
            paper=paper,
            unit=f"difference in {score_name(part)}",
            interval=found,
            null=0.0,
            num_runs=found.count,
            verdict=judged(found, null=0.0),
        )


def _size(part: Task, found: Interval) -> str:
    """How large a change is; its direction is in the verb."""
    if found.value >= 0:
        return gap_text(part, found)
    turned = Interval(value=-found.value, low=-found.high, high=-found.low, se=found.se, count=found.count)
    return gap_text(part, turned)


def _probe_finding(part: Task, true: Represented) -> Finding:
    found = probe_gain(part, true, true.hidden[-1]) if true.hidden else NOTHING
    reason = NO_HIDDEN if true.layers.seeds and not true.hidden else "No network was finished"
    return claim(
        "training-improves-features",
        f"What a linear map makes of the last hidden layer is better after training than before by "
        f"{gap_text(part, found)} of held-out {score_name(part)}."
        if found.count
        else f"{reason}, so whether training improves features is unknown.",
        study=STUDY,
        paper=ZHANG,
        unit=f"difference in {score_name(part)}",
        interval=found,
        null=0.0,
        num_runs=found.count,
        verdict=judged(found, null=0.0),
    )


def _velocity_finding(true: Represented) -> Finding:
    middles, speeds = velocities(true)
    found = NOTHING
    if len(middles) > 1:
        first, last = ({seed: float(own[place]) for seed, own in speeds.items()} for place in (0, -1))
        found = ratio(first, last, level=0.95)
    unknown = "How fast the tangent kernel moves is unknown: no network was seen over two epochs or more."
    if speeds and not any(own.any() for own in speeds.values()):
        unknown = "The tangent kernel does not move: the network is linear in its weights."
    return claim(
        "kernel-velocity-falls",
        f"In the first epoch the tangent kernel moves {times(found)} as far as in the last."
        if found.count
        else unknown,
        study=STUDY,
        paper=FORT,
        unit="ratio of velocities",
        interval=found,
        null=1.0,
        num_runs=found.count,
        verdict=judged(found, null=1.0),
        least=0.0,
    )


def fit_shares(random: Represented) -> dict[str, dict[int, float]]:
    """Share of random labels (of their variance) that each machine fits, by seed."""
    return {name: {seed: float(own[0]) for seed, own in random.speed.of(f"{name}_fit").items()} for name in MACHINES}


def _fit_finding(part: Task, random: Represented) -> Finding:
    """By the machine that fits them worst."""
    shares = fit_shares(random)
    seeds = [seed for seed in shares["forest"] if all(seed in own for own in shares.values())]
    found = mean_of({seed: min(own[seed] for own in shares.values()) for seed in seeds})
    targets = target_noun(part)
    told = ", ".join(
        f"{article(MACHINES[name])} {score_text(part, float(np.mean([own[seed] for seed in seeds])))}"
        for name, own in shares.items()
        if seeds
    )
    return claim(
        "baselines-fit-random-labels",
        f"Fitting random {targets} takes no network: training {score_name(part)} on them is {told}."
        if seeds
        else f"Whether kernels and forests fit random {targets} is unknown: not all were finished.",
        study=STUDY,
        paper=BELKIN,
        unit=f"training {score_name(part)}",
        interval=found,
        null=FITTED,
        num_runs=len(seeds),
        verdict=above(low=found.low, high=found.high, null=FITTED),
        most=1.0,
    )


def _speed_finding(part: Task, random: Represented) -> Finding:
    """A kernel of which rounding hides how long it takes counts for as long as it could be followed."""
    steps = {
        name: {
            seed: float(min(own[0], random.speed.of(f"{name}_exact")[seed][0]))
            for seed, own in random.speed.of(name).items()
        }
        for name in ("gaussian", "laplacian")
    }
    hidden = any(not math.isfinite(own[0]) for own in random.speed.of("gaussian").values())
    found = ratio(steps["gaussian"], steps["laplacian"], level=0.95)
    left = "5 % of the squared error is" if part.regression else "5 % of the examples are"
    return claim(
        "laplacian-fits-random-labels-faster",
        f"By gradient descent a Gaussian kernel takes {'at least ' if hidden else ''}{times(found)} as many steps as a "
        f"Laplacian one until {left} left of random {target_noun(part)}."
        if found.count
        else "How fast kernels fit random labels is unknown: no network on them was finished.",
        study=STUDY,
        paper=BELKIN,
        unit="ratio of steps",
        interval=found,
        null=1.0,
        num_runs=found.count,
        verdict=judged(found, null=1.0),
        least=0.0,
    )
