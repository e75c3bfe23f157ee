"""scikit-learn's handwritten digits."""

import numpy as np
from sklearn.datasets import load_digits

from byrote.data.examples import Examples
from byrote.data.sources.source import Options, Source
from byrote.data.split import split
from byrote.data.task import Task, standardise


def digits(options: Options) -> Task:
    """1,797 images of 8×8 pixels, values 0 to 16, and a seeded, stratified split."""
    options.refuse_all_but("test_fraction", task="digits", because="it is complete, with labels of its own")
    pixels, labels = load_digits(return_X_y=True)
    examples = Examples(np.asarray(pixels, np.uint8).reshape(-1, 8, 8), np.asarray(labels))
    positions = split(examples.y, regression=False, test_fraction=options.test_fraction, seed=options.seed)
    train = examples.take(positions.train)
    return Task(
        train=train,
        test=examples.take(positions.test),
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        normalise=standardise(train.x, per_feature=False),
        notes=(f"{options.test_fraction:.0%} of each digit was set aside for test (seed {options.seed}).",),
    )


DIGITS = Source(
    name="digits",
    description="scikit-learn's 1,797 handwritten digits, 8×8 pixels, 10 classes",
    make=digits,
)
