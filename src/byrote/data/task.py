"""What is to be learnt: training and test examples, encoded once."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, final

import numpy as np
from jaxtyping import Float, Shaped

from byrote.core import DataError
from byrote.data.examples import Examples

Modality = Literal["image", "molecule", "table", "vector"]

MOST_CLASSES = 100
"""More distinct integers than this, at fewer than ten examples each, are taken for numbers, not labels."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """How raw inputs become what the network sees: (x − mean)/scale, fitted on training examples only."""

    mean: Float[np.ndarray, "*feature"] = field(default_factory=lambda: np.zeros(()))
    scale: Float[np.ndarray, "*feature"] = field(default_factory=lambda: np.ones(()))

    def __call__(self, x: Shaped[np.ndarray, "example *feature"]) -> Float[np.ndarray, "example *feature"]:
        """Apply it; the result is float32, or float64 for float64 inputs."""
        dtype = np.float64 if x.dtype == np.float64 else np.float32
        return (x.astype(dtype) - self.mean.astype(dtype)) / self.scale.astype(dtype)


def standardise(x: Shaped[np.ndarray, "example *feature"], *, per_feature: bool) -> Affine:
    """Fit mean 0 and variance 1: feature by feature (tables), or one mean and scale for all (images).

    A feature that does not vary keeps its scale.
    """
    if per_feature:
        mean, scale = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    else:
        mean, scale = np.asarray(x.mean(dtype=np.float64)), np.asarray(x.std(dtype=np.float64))
    return Affine(mean=mean, scale=np.where(scale > 0, scale, 1.0))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Training and test examples with their meaning.

    Class labels of any kind are encoded as 0 … k−1 in `train.y` and `test.y`, and `classes` holds their names; for
    regression `classes` is empty and targets are float64.

    >>> task = Task(train=Examples([[0.0], [1.0]], ["no", "yes"]), test=Examples([[0.5]], ["yes"]))
    >>> task.classes, task.train.y.tolist(), task.test.y.tolist()
    (('no', 'yes'), [0, 1], [1])
    """

    train: Examples
    test: Examples
    name: str = "task"
    regression: bool | None = None
    """None: decided by the targets. Floating-point targets are numbers, everything else labels."""
    classes: tuple[str, ...] = ()
    modality: Modality | None = None
    """None: inputs of shape [n, h, w] or [n, c, h, w] are images, others vectors."""
    normalise: Affine = field(default_factory=Affine)
    """Nothing is changed unless given; byrote's own sources standardise."""
    feature_names: tuple[str, ...] = ()
    feature_columns: tuple[str, ...] = ()
    """For a table, the raw column each feature was encoded from."""
    notes: tuple[str, ...] = ()
    """What was done to the data on the way in, in plain words, for the report."""

    def __post_init__(self) -> None:
        if self.train.x.shape[1:] != self.test.x.shape[1:]:
            raise DataError(
                f"Expected training and test inputs of one shape, got {self.train.x.shape[1:]} for training and "
                f"{self.test.x.shape[1:]} for test."
            )
        if self.modality is None:
            object.__setattr__(self, "modality", "image" if self.train.x.ndim in (3, 4) else "vector")
        regression = self.train.y.dtype.kind == "f" if self.regression is None else self.regression
        object.__setattr__(self, "regression", regression)
        if regression:
            self._take_numbers()
        else:
            self._take_labels()

    def _take_numbers(self) -> None:
        for name in ("train", "test"):
            examples: Examples = getattr(self, name)
            try:
                numbers = examples.y.astype(np.float64)
            except ValueError as error:
                raise DataError(f"Expected numeric targets for a regression, got {examples.y[0]!r}.") from error
            object.__setattr__(self, name, examples.with_targets(numbers))
        if np.ptp(self.train.y) == 0:
            raise DataError(f"Expected targets that vary, got {self.train.y[0]:g} for every training example.")

    def _take_labels(self) -> None:
        if self.classes and self.train.y.dtype.kind in "iu":
            codes = np.concatenate([self.train.y, self.test.y]).astype(np.int64)
            if codes.min() < 0 or codes.max() >= len(self.classes):
                raise DataError(
                    f"Expected integer labels from 0 to {len(self.classes) - 1} for {len(self.classes)} class names, "
                    f"got {codes.min()} to {codes.max()}."
                )
        else:
            both = np.concatenate([_labels(self.train.y), _labels(self.test.y)])
            names, codes = np.unique(both, return_inverse=True)
            refuse_numbers(names, num_examples=len(self.train))
            object.__setattr__(self, "classes", tuple(str(name) for name in names))
        if len(np.unique(codes[: len(self.train)])) < 2:
            raise DataError(
                f"Expected at least two classes in the training examples, got only {self.classes[int(codes[0])]!r}."
            )
        object.__setattr__(self, "train", self.train.with_targets(codes[: len(self.train)].astype(np.int64)))
        object.__setattr__(self, "test", self.test.with_targets(codes[len(self.train) :].astype(np.int64)))

    @property
    def num_classes(self) -> int:
        """k; 0 for regression."""
        return len(self.classes)

    @property
    def num_outputs(self) -> int:
        """What a network must put out: k logits, or 1 number."""
        return self.num_classes or 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input as a network sees it: images have a channel axis, [c, h, w]."""
        shape = self.train.x.shape[1:]
        return (1, *shape) if self.modality == "image" and len(shape) == 2 else shape

    def first_inputs(self, count: int) -> Float[np.ndarray, "example *feature"]:
        """The first training inputs as a network sees them, [count, *input_shape]."""
        return self.normalise(self.train.x[:count]).reshape(-1, *self.input_shape)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of a hash over everything a training can depend on."""
        digest = hashlib.sha256()
        for examples in (self.train, self.test):
            for array in (examples.x, examples.y, examples.groups):
                if array is None:
                    digest.update(b"none")
                    continue
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr(self.classes).encode())
        for part in (self.normalise.mean, self.normalise.scale):
            digest.update(np.ascontiguousarray(part, dtype=np.float64).tobytes())
        return digest.hexdigest()[:16]

    def part(self, *, train: np.ndarray, test: np.ndarray) -> "Task":
        """The task made of these training and test positions, classes and normalisation as they were."""
        return replace(self, train=self.train.take(train), test=self.test.take(test))


def _labels(y: np.ndarray) -> np.ndarray:
    """Labels that compare: whole floating-point numbers as integers, others as they are."""
    if y.dtype.kind == "f" and np.all(y == np.round(y)):
        return y.astype(np.int64)
    return y


def refuse_numbers(names: np.ndarray, *, num_examples: int) -> None:
    """Refuse distinct targets that look like a quantity where labels are meant.

    Raises:
        DataError: more than `MOST_CLASSES` distinct numbers, at fewer than ten examples each.
    """
    if names.dtype.kind in "iuf" and len(names) > MOST_CLASSES and len(names) * 10 > num_examples:
        raise DataError(
            f"The target has {len(names)} distinct numbers in {num_examples} training examples, too many to be "
            f"classes. If it is a quantity to predict, say so: --regression, or regression=True in Python."
        )
