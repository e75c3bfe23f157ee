"""One recorder over some epochs of made-up logits: run as a script, in whatever environment has it.

    python benchmarks/memorisation/recording.py CONTENDER NUM_EXAMPLES NUM_CLASSES BATCH_SIZE EPOCHS

Prints one line of JSON: CPU seconds of each epoch's calls, and the sum of every example's area under the margin, by
which contenders that did the same work are known.
"""

import importlib
import importlib.metadata
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

Update = Callable[[Tensor, Tensor, Tensor], object]


class Contender(NamedTuple):
    """How one recorder takes a batch, ends an epoch, and says in the end what it knows."""

    package: str
    update: Update
    end_epoch: Callable[[], object]
    total_area: Callable[[], float]


def byrote(num_examples: int, epochs: str) -> Contender:
    """Everything that a trace says."""
    recorder = importlib.import_module("byrote").Recorder(num_examples, epochs=epochs)
    return Contender("byrote", recorder.update, recorder.end_epoch, lambda: float(recorder.scores()["aum"].sum()))


def aum(num_examples: int) -> Contender:
    """The AUM package, as its README says."""
    calculator = importlib.import_module("aum").AUMCalculator(tempfile.mkdtemp(), compressed=True)
    return Contender(
        "aum",
        lambda ids, logits, targets: calculator.update(logits, targets, ids.tolist()),
        lambda: None,
        lambda: sum(calculator.sums[i] / calculator.counts[i] for i in range(num_examples)),
    )


def by_hand(num_examples: int) -> Contender:
    """AUM alone, in the fewest tensor operations."""
    sums, counts = torch.zeros(num_examples, dtype=torch.float64), torch.zeros(num_examples)

    def update(ids: Tensor, logits: Tensor, targets: Tensor) -> None:
        at = targets[:, None]
        others = logits.scatter(1, at, -torch.inf).amax(1)
        sums.index_add_(0, ids, (logits.gather(1, at)[:, 0] - others).double())
        counts[ids] += 1

    return Contender("torch", update, lambda: None, lambda: float((sums / counts).sum()))


CONTENDERS: dict[str, Callable[[int], Contender]] = {
    "byrote, epochs found": lambda num_examples: byrote(num_examples, "found"),
    "byrote, epochs told": lambda num_examples: byrote(num_examples, "told"),
    "aum": aum,
    "AUM by hand": by_hand,
}


def batches(
    num_examples: int, num_classes: int, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, ...]]:
    """An epoch as a loop has it: ids in a new order, logits, targets."""
    targets = torch.arange(num_examples) % num_classes
    for ids in torch.randperm(num_examples, generator=generator).split(batch_size):
        logits = torch.randn(len(ids), num_classes, generator=generator)
        yield ids, logits, targets[ids]


def main(name: str, num_examples: int, num_classes: int, batch_size: int, epochs: int) -> None:
    """Measure, and print."""
    torch.set_num_threads(1)
    contender, generator = CONTENDERS[name](num_examples), torch.Generator().manual_seed(0)
    seconds: list[float] = []
    for _ in range(epochs):
        epoch = list(batches(num_examples, num_classes, batch_size, generator))
        with torch.no_grad():
            began = time.process_time()
            for batch in epoch:
                contender.update(*batch)
            contender.end_epoch()
            seconds.append(time.process_time() - began)
    began = time.process_time()
    area = contender.total_area()
    version = importlib.metadata.version(contender.package)
    print(json.dumps({"seconds": seconds, "reading": time.process_time() - began, "area": area, "version": version}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
