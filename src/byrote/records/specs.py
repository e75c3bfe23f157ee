"""One training, complete: what makes two runs the same run."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, final

from byrote.records.codec import canonical
from byrote.records.learner import Learner


@final
@dataclass(frozen=True, kw_only=True)
class TrueLabels:
    """The training targets as they are."""

    kind: Literal["true"] = "true"


@final
@dataclass(frozen=True, kw_only=True)
class CorruptedLabels:
    """Each training target is redrawn with probability `fraction`, once, before training (Zhang et al. 2017).

    A label becomes a uniformly random class, so a fraction q(1 − 1/k) really changes; a number is exchanged with
    those of other redrawn examples, so the marginal stays. Test targets stay true.
    """

    fraction: float
    """q in [0, 1]; 1 is random labels, 0 the identity."""
    draw: int
    """Which draw."""
    kind: Literal["corrupted"] = "corrupted"

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"Expected fraction in [0, 1], got {self.fraction!r}.")


@final
@dataclass(frozen=True, kw_only=True)
class ReplacedLabels:
    """Some training targets are exchanged for others that were chosen."""

    positions: tuple[int, ...]
    """Of the examples, ascending, in the part of the task that is looked at."""
    targets: tuple[float, ...]
    """The new target of each: a class code, or a number."""
    kind: Literal["replaced"] = "replaced"

    def __post_init__(self) -> None:
        _check_positions(self.positions)
        if len(self.targets) != len(self.positions):
            raise ValueError(f"Expected {len(self.positions)} targets, one for each position, got {len(self.targets)}.")


@final
@dataclass(frozen=True, kw_only=True)
class TrueAfterRandom:
    """The training targets as they are, learnt by a network that was first trained, by the same recipe, on random ones.

    What a run leaves behind is of its second training alone (Maennel et al. 2020).
    """

    draw: int
    """Which random targets, as in `CorruptedLabels`."""
    rescaled: bool = False
    """Whether between the two every parameter gets the length back that it had before the first."""
    kind: Literal["true-after-random"] = "true-after-random"


@final
@dataclass(frozen=True, kw_only=True)
class PermutedLabels:
    """Training examples exchange their targets: none is lost or made."""

    draw: int = 0
    within_groups: bool = False
    """Only examples of one group exchange theirs, so that what a group has in common stays as it is."""
    kind: Literal["permuted"] = "permuted"


Labels = TrueLabels | CorruptedLabels | ReplacedLabels | TrueAfterRandom | PermutedLabels


@final
@dataclass(frozen=True, kw_only=True)
class TrueInputs:
    """The inputs as they are."""

    kind: Literal["true"] = "true"


@final
@dataclass(frozen=True, kw_only=True)
class ShuffledInputs:
    """One permutation of the input features for all examples, training and test alike ("shuffled pixels")."""

    draw: int = 0
    kind: Literal["shuffled"] = "shuffled"


@final
@dataclass(frozen=True, kw_only=True)
class RandomInputs:
    """A permutation of the input features of its own for every example ("random pixels")."""

    draw: int = 0
    kind: Literal["random"] = "random"


@final
@dataclass(frozen=True, kw_only=True)
class GaussianInputs:
    """Independent Gaussian inputs with the data's own mean and variance."""

    draw: int = 0
    kind: Literal["gaussian"] = "gaussian"


@final
@dataclass(frozen=True, kw_only=True)
class PermutedColumns:
    """Every column of a table, and every bit of a fingerprint, is dealt anew to the examples, each by itself."""

    draw: int = 0
    kind: Literal["permuted-columns"] = "permuted-columns"


Inputs = TrueInputs | ShuffledInputs | RandomInputs | GaussianInputs | PermutedColumns


@final
@dataclass(frozen=True, kw_only=True)
class AllExamples:
    """Train on every training example."""

    kind: Literal["all"] = "all"


@final
@dataclass(frozen=True, kw_only=True)
class BalancedSubset:
    """Train on a random subset, one of a sequence in which every example is left out equally often."""

    fraction: float
    """m/n in (0, 1): the share of examples trained on."""
    draw: int
    """Which sequence of subsets."""
    index: int
    """Which subset of the sequence, from 0."""
    kind: Literal["balanced"] = "balanced"

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ValueError(f"Expected fraction in (0, 1), got {self.fraction!r}.")
        if self.index < 0:
            raise ValueError(f"Expected index at least 0, got {self.index!r}.")


@final
@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Train on all examples but some that were chosen."""

    positions: tuple[int, ...]
    """Of the examples that are left out, ascending, in the part of the task that is looked at."""
    reason: str
    """Why these: `most memorised`."""
    kind: Literal["left-out"] = "left-out"

    def __post_init__(self) -> None:
        _check_positions(self.positions)


Subset = AllExamples | BalancedSubset | LeftOut


def _check_positions(positions: tuple[int, ...]) -> None:
    if list(positions) != sorted(set(positions)) or (positions and positions[0] < 0):
        raise ValueError("Expected ascending positions from 0 on, each once.")


@final
@dataclass(frozen=True, kw_only=True)
class Sample:
    """A seeded, stratified part of the task, when a study says that it looks at a part only."""

    train: int
    """Training examples, at least 1."""
    test: int
    """Test examples, at least 1."""
    draw: int

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected {name} at least 1, got {getattr(self, name)!r}.")


@final
@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training, complete. Frozen and hashable; the hash of its canonical JSON is the run's key.

    Runs that differ only in seed, order, labels, subset index and the numbers of their recipes are trained together.
    """

    task: str
    """The task's fingerprint: other data, other run."""
    learner: Learner
    seed: int
    """Initialisation, and what a model draws while it trains."""
    order: int
    """The order of batches. Runs with one order end up alike: what varies over runs of one order is less than what
    varies over trainings, so an interval wants an order for every run.
    """
    labels: Labels = field(default_factory=TrueLabels)
    inputs: Inputs = field(default_factory=TrueInputs)
    subset: Subset = field(default_factory=AllExamples)
    sample: Sample | None = None
    """None: the whole task."""

    @cached_property
    def key(self) -> str:
        """20 hexadecimal digits, the same in every process."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()[:20]


@final
@dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """A lookup table: the majority target of identical training inputs, the overall majority (or mean) elsewhere."""

    kind: Literal["exact-match"] = "exact-match"


@final
@dataclass(frozen=True, kw_only=True)
class NearestNeighbours:
    """A soft lookup table: the vote (or mean) of the k nearest training examples in Euclidean distance."""

    num_neighbours: int = 1
    kind: Literal["nearest-neighbours"] = "nearest-neighbours"


@final
@dataclass(frozen=True, kw_only=True)
class Forest:
    """A random forest of fully grown trees (Breiman 2001)."""

    num_trees: int = 100
    kind: Literal["forest"] = "forest"


@final
@dataclass(frozen=True, kw_only=True)
class KernelMachine:
    """Kernel ridge regression on one-hot targets, bandwidth and ridge chosen on held-out training examples."""

    kernel: Literal["gaussian", "laplacian"] = "gaussian"
    kind: Literal["kernel"] = "kernel"


Baseline = ExactMatch | NearestNeighbours | Forest | KernelMachine


@final
@dataclass(frozen=True, kw_only=True)
class FitSpec:
    """One fit of a baseline, complete; stored and found again by its key, as a run is."""

    task: str
    baseline: Baseline
    seed: int
    labels: Labels = field(default_factory=TrueLabels)
    subset: Subset = field(default_factory=AllExamples)
    sample: Sample | None = None
    evaluate_train: bool = True
    """False: predictions on the test examples only."""

    @cached_property
    def key(self) -> str:
        """20 hexadecimal digits, the same in every process."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()[:20]
