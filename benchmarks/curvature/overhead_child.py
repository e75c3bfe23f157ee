"""One training loop of half a minute, watched by a monitor that was allowed a share of its time.

Reads job.json in the folder that it is given, and prints what the monitor took as JSON. The clock that judges is the
processor's, around each call of `monitor.step`, set against all the rest of the loop: what other processes take of a
shared machine is nobody's. The monitor keeps its own, of the wall.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from benchmarks.curvature.eigenvalues_child import network
from torch import Tensor, nn
from torch.nn import functional

import byrote

BATCH_SIZE = 64
PROBE = 256
"""Examples that are measured."""
RATE = 0.02


def example_losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of each."""
    return functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def main(folder: Path) -> None:
    """Train until the time is up."""
    torch.set_num_threads(1)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    data = np.load(folder / "data.npz")
    x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
    torch.manual_seed(job["seed"])  # noqa: TID251
    model, rng = network(job["network"]), np.random.default_rng(job["seed"])
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE)
    monitor = byrote.Monitor(
        model, loss=example_losses, probe=(x[:PROBE], y[:PROBE]), overhead=job["overhead"], optimiser=optimiser
    )
    watching, step, begin, until = 0.0, 0, time.process_time(), time.perf_counter() + job["seconds"]
    while time.perf_counter() < until:
        chosen = torch.from_numpy(rng.choice(len(x), BATCH_SIZE, replace=False))
        optimiser.zero_grad()
        example_losses(model, (x[chosen], y[chosen])).mean().backward()
        optimiser.step()
        step += 1
        before = time.process_time()
        monitor.step(step)
        watching += time.process_time() - before
    training = time.process_time() - begin - watching
    rows = monitor.table().to_pandas()
    full = int(rows["lambda_max"].notna().sum())
    print(
        json.dumps(
            {
                "share": watching / training,
                "believed": monitor.share,
                "steps": step,
                "quick": len(rows) - full,
                "full": full,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
