"""Fashion-MNIST from the four standard IDX files."""

from pathlib import Path

from byrote.core import DataError
from byrote.data.examples import Examples
from byrote.data.sources.idx import read_idx
from byrote.data.sources.source import Options, Source
from byrote.data.task import Task, standardise

FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's and Ubuntu's package dataset-fashion-mnist puts the files."""

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

HOW_TO_GET = (
    f"Install it with: apt-get install dataset-fashion-mnist (Debian, Ubuntu). Or download the four files "
    f"{', '.join(f'{name}.gz' for name in FILES)} from https://github.com/zalandoresearch/fashion-mnist into one "
    f"folder and pass it as --data-dir (data_dir=… in Python)."
)


def fashion_mnist(options: Options) -> Task:
    """60,000 training and 10,000 test images of 28×28 pixels (Xiao et al. 2017, https://arxiv.org/abs/1708.07747)."""
    options.refuse_all_but(
        "data_dir", task="fashion-mnist", because="it is complete, with labels and a test set of its own"
    )
    folder = options.data_dir or FOLDER
    absent = [name for name in FILES if _find(folder, name) is None]
    if absent:
        raise DataError(f"fashion-mnist: no {' or '.join(absent)}, gzipped or plain, in {folder}. {HOW_TO_GET}")
    train, test = (_read(folder, images=FILES[first], labels=FILES[first + 1]) for first in (0, 2))
    return Task(
        train=train,
        test=test,
        name="fashion-mnist",
        classes=CLASSES,
        normalise=standardise(train.x, per_feature=False),
        notes=("The split into training and test images is the published one.",),
    )


def _read(folder: Path, *, images: str, labels: str) -> Examples:
    return Examples(
        read_idx(_find(folder, images) or folder / images, num_dimensions=3),
        read_idx(_find(folder, labels) or folder / labels, num_dimensions=1),
    )


def _find(folder: Path, name: str) -> Path | None:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    return None


def _missing() -> str:
    return "" if all(_find(FOLDER, name) for name in FILES) else HOW_TO_GET


FASHION_MNIST = Source(
    name="fashion-mnist",
    description="70,000 images of clothes, 28×28 pixels, 10 classes, with the published test set",
    make=fashion_mnist,
    missing=_missing,
)
