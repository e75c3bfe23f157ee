"""One contender on one case, in a process of its own: run by whichever Python has the contender installed.

    PYTHON knn_shapley_child.py CONTENDER DATA.npz VALUES.npy

Prints CPU seconds, wall seconds and the memory held beyond what was there before, as JSON. Imports nothing of this
repository but for byrote itself.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

Contender = Callable[[dict[str, np.ndarray], int], np.ndarray]
NUM_NEIGHBOURS = 10


def byrote(data: dict[str, np.ndarray], num_neighbours: int, *, tolerance: float = 0.0) -> np.ndarray:
    """`knn_shapley` of byrote."""
    measures = importlib.import_module("byrote.measures")
    scores = measures.knn_shapley(
        data["x"],
        targets=data["y"],
        test_features=data.get("test_x"),
        test_targets=data.get("test_y"),
        num_neighbours=num_neighbours,
        tolerance=tolerance,
    )
    return scores.value


def cleanlab(data: dict[str, np.ndarray], num_neighbours: int) -> np.ndarray:
    """`data_shapley_knn` of cleanlab: every example against all others; counts the k nearest only."""
    valuation = importlib.import_module("cleanlab.data_valuation")
    shifted = valuation.data_shapley_knn(data["y"], features=data["x"], metric="euclidean", k=num_neighbours)
    return 2 * shifted - 1


def pydvl(data: dict[str, np.ndarray], num_neighbours: int) -> np.ndarray:
    """`KNNShapleyValuation` of pyDVL."""
    neighbours = importlib.import_module("sklearn.neighbors")
    methods = importlib.import_module("pydvl.valuation.methods.knn_shapley")
    dataset = importlib.import_module("pydvl.valuation.dataset").Dataset
    model = neighbours.KNeighborsClassifier(n_neighbors=num_neighbours, algorithm="brute")
    valuation = methods.KNNShapleyValuation(model, dataset(data["test_x"], data["test_y"]), progress=False)
    return np.asarray(valuation.fit(dataset(data["x"], data["y"])).result.values)


CONTENDERS: dict[str, Contender] = {
    "byrote": byrote,
    "byrote, tolerance 0.01": partial(byrote, tolerance=0.01),
    "cleanlab": cleanlab,
    "pydvl": pydvl,
}


def main(name: str, data_path: str, values_path: str) -> None:
    """Warm up on a twentieth of the examples, then measure."""
    value, data = CONTENDERS[name], dict(np.load(data_path))
    value({key: rows[: max(len(rows) // 20, 100)] for key, rows in data.items()}, NUM_NEIGHBOURS)
    before = _resident()
    wall, cpu = time.perf_counter(), time.process_time()
    values = value(data, NUM_NEIGHBOURS)
    cost = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.save(values_path, values)
    print(json.dumps({**cost, "peak_mb": max(0.0, most - before)}))


def _resident() -> float:
    """Megabytes held now, where the system says; else the most until now."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
