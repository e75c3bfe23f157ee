"""Measure what the largest eigenvalues of a Hessian cost, and how far off they are, beside other tools.

    python -m venv peers && peers/bin/pip install -r benchmarks/curvature/requirements.txt
    python -m benchmarks.curvature.eigenvalues --peers peers/bin/python --raw eigenvalues.json \\
        --page docs/performance.md

Costs are in full-data gradients: the contender's processor time against that of a tight loop over the same batches,
in turns with it, in a process of its own with one thread. Errors are 95th percentiles over starts, as many as come
about in --seconds, at least 3 and at most --repeats. The truth is scipy's eigsh in double precision; --raw keeps it.
--quick is a smoke run; its figures mean nothing. --networks, --contenders and --numbers measure a part, and
--resume keeps what --raw has of the rest.
"""

import argparse
import copy
import hashlib
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from benchmarks.curvature.eigenvalues_child import CONTENDERS, Batches, batches_of, network
from benchmarks.engine.results import Machine, this_machine
from benchmarks.memorisation.page import markers, page_with
from scipy.sparse.linalg import LinearOperator, eigsh  # pyright: ignore[reportMissingTypeStubs]
from sklearn.datasets import load_digits  # pyright: ignore[reportMissingTypeStubs]
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

MARKERS = markers("eigenvalues", module="benchmarks.curvature.eigenvalues")
CHILD = Path(__file__).with_name("eigenvalues_child.py")
NETWORKS = ("mlp", "cnn", "transformer")
CHECKPOINTS = {"initialisation": 0, "early": 30, "trained": 290}
"""Steps of training."""
NUMBERS = (1, 5)
"""Of eigenvalues."""
TARGETS = {1: 15, 5: 25}
"""Gradients that they may take."""
ONLY_LARGEST = ("Cockpit, one batch",)
LIMIT = 900
"""Seconds that a contender may take."""
CERTAIN = 0.95
"""The quantile of errors over starts; with fewer than twenty it is the worst."""


@final
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One contender on one network, from a few starts."""

    network: str
    checkpoint: str
    contender: str
    num: int
    gradients: float
    """Median over starts of its time, against the median of a plain gradient's."""
    errors: tuple[float, ...]
    """For each start the largest relative error of an eigenvalue."""
    changed: tuple[str, ...]
    """What it left otherwise than it was."""
    failure: str = ""


def main() -> int:
    """Measure and write."""
    options = _arguments()
    stored = _stored(options)
    measurements, truths = _kept(stored, options), dict[str, list[float]](stored.get("truths", {}))
    machine = replace(this_machine("cpu"), packages=_versions(options.peers))
    for name in options.networks:
        for checkpoint, steps in list(CHECKPOINTS.items())[: 1 if options.quick else None]:
            for found in _measure(name, checkpoint, steps, options, truths):
                measurements.append(found)
                _write_raw(options, machine, measurements, truths)
    text = _tables(measurements, machine, _command())
    if options.page:
        options.page.write_text(
            page_with(options.page.read_text(encoding="utf-8"), text, between=MARKERS), encoding="utf-8"
        )
    else:
        print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curvature.eigenvalues",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--raw", type=Path, help="write the raw figures here, as JSON")
    parser.add_argument("--page", type=Path, help="write the tables into this page, between its two markers")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="an interpreter with the peers")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--contenders", nargs="*", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--numbers", nargs="*", type=int, choices=NUMBERS, default=list(NUMBERS))
    parser.add_argument("--repeats", type=int, default=40, help="starts of each, at most")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which no start follows, once there are 3")
    parser.add_argument("--resume", action="store_true", help="keep what --raw has of other networks and contenders")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    options = parser.parse_args()
    if options.quick and options.page:
        parser.error("A smoke run's figures mean nothing and do not belong in a page: leave out --quick or --page.")
    if options.resume and not options.raw:
        parser.error("--resume needs the file: give --raw.")
    return options


def _command() -> str:
    """As anybody would type it: interpreters and raw files by their role."""
    arguments = [re.sub(r"^/.*?([^/]+)$", r"\1", argument) for argument in sys.argv[1:]]
    return f"python -m benchmarks.curvature.eigenvalues {shlex.join(arguments)}".strip()


def _stored(options: argparse.Namespace) -> dict[str, Any]:
    if not options.resume or not options.raw.exists():
        return {}
    return json.loads(options.raw.read_text(encoding="utf-8"))


def _kept(stored: dict[str, Any], options: argparse.Namespace) -> list[Measurement]:
    found = [
        Measurement(**{**one, "errors": tuple(one["errors"]), "changed": tuple(one["changed"])})
        for one in stored.get("measurements", [])
    ]
    return [
        one
        for one in found
        if one.network not in options.networks
        or one.contender not in options.contenders
        or one.num not in options.numbers
    ]


def _versions(peers: str) -> dict[str, str]:
    asked = "import json, importlib.metadata as m; print(json.dumps({name: m.version(name) for name in %r}))"
    own = {name: this_machine("cpu").packages[name] for name in ("torch", "byrote")}
    names = ("pyhessian", "hessian-eigenthings", "curvlinops-for-pytorch", "nngeom", "cockpit-for-pytorch")
    done = subprocess.run([peers, "-c", asked % (names,)], capture_output=True, text=True, check=False)
    return own | (json.loads(done.stdout) if done.returncode == 0 else {})


def digits(*, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits: seven batches of 256 and one of five."""
    digits: Any = load_digits()
    x = ((digits.images - digits.images.mean()) / digits.images.std()).astype(np.float32)[:, None]
    number = 261 if quick else len(x)
    return x[:number], digits.target.astype(np.int64)[:number]


def trained(name: str, steps: int, x: np.ndarray, y: np.ndarray) -> nn.Module:
    """A network after so many steps of SGD."""
    torch.manual_seed(0)  # noqa: TID251
    model, inputs, targets = network(name), torch.from_numpy(x), torch.from_numpy(y)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = torch.from_numpy(rng.choice(len(x), 64, replace=False))
        optimiser.zero_grad()
        functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
        optimiser.step()
    return model


def _known_truth(model: nn.Module, x: np.ndarray, y: np.ndarray, *, truths: dict[str, list[float]]) -> np.ndarray:
    """What was found for these weights and these examples before, or now."""
    parts = [*(one.detach().numpy() for one in model.parameters()), x, y]
    key = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]
    if key not in truths:
        double = copy.deepcopy(model).double()
        truths[key] = _truth(double, batches_of(x.astype(np.float64), y)).tolist()
    return np.array(truths[key])


def _truth(model: nn.Module, batches: Batches) -> np.ndarray:
    """The five largest, by double backward in double precision and Arnoldi's method run until it stands still."""
    parameters, number = list(model.parameters()), sum(len(y) for _, y in batches)
    sizes = [one.numel() for one in parameters]

    def product(vector: np.ndarray) -> np.ndarray:
        parts = [
            part.view_as(one)
            for part, one in zip(torch.from_numpy(vector.reshape(-1)).split(sizes), parameters, strict=True)
        ]
        total = np.zeros(sum(sizes))
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y, reduction="sum") / number
            slopes = torch.autograd.grad(loss, parameters, create_graph=True)
            along = sum((slope * part).sum() for slope, part in zip(slopes, parts, strict=True))
            bent: Any = torch.autograd.grad(along, parameters)  # pyright: ignore
            total += torch.cat([one.reshape(-1) for one in bent]).numpy()
        return total

    operator: Any = LinearOperator((sum(sizes), sum(sizes)), matvec=product, dtype=np.float64)  # pyright: ignore
    with sdpa_kernel(SDPBackend.MATH):
        values = eigsh(operator, k=5, which="LA", tol=1e-6, ncv=24, return_eigenvectors=False)  # pyright: ignore
    return np.sort(values)[::-1]


def _measure(
    name: str, checkpoint: str, steps: int, options: argparse.Namespace, truths: dict[str, list[float]]
) -> Iterator[Measurement]:
    x, y = digits(quick=options.quick)
    model = trained(name, steps, x, y)
    truth = _known_truth(model, x, y, truths=truths)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "data.npz"), x=x, y=y)
        torch.save(model.state_dict(), Path(folder, "network.pt"))  # noqa: TID251
        for contender in options.contenders:
            for num in options.numbers[: 1 if contender in ONLY_LARGEST else None]:
                job: dict[str, Any] = {"network": name, "contender": contender, "num": num, "seed": 0}
                job |= {"repeats": options.repeats, "enough": options.seconds}
                Path(folder, "job.json").write_text(json.dumps(job), encoding="utf-8")
                python = sys.executable if contender == "byrote" else options.peers
                found = _run(python, folder)
                place: dict[str, Any] = {"network": name, "checkpoint": checkpoint, "contender": contender, "num": num}
                print(f"{name}, {checkpoint}, {contender}, {num}: {str(found)[:150]}", file=sys.stderr, flush=True)
                yield _judged(place, found, truth[:num])


def _judged(place: dict[str, Any], found: dict[str, Any] | str, truth: np.ndarray) -> Measurement:
    if isinstance(found, str):
        return Measurement(**place, gradients=float("nan"), errors=(), changed=(), failure=found)
    errors = [float(np.max(np.abs(np.sort(values)[::-1] / truth - 1))) for values in found["values"]]
    cost = statistics.median(found["seconds"]) / statistics.median(found["plain"])
    return Measurement(**place, gradients=cost, errors=tuple(errors), changed=tuple(found["changed"]))


def _run(python: str, folder: str) -> dict[str, Any] | str:
    """What the child printed, or why it did not."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [python, str(CHILD), folder], capture_output=True, text=True, check=False, env=alone, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {LIMIT} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"exit status {done.returncode}"
    return json.loads(done.stdout)


def _write_raw(
    options: argparse.Namespace, machine: Machine, measurements: list[Measurement], truths: dict[str, list[float]]
) -> None:
    if options.raw:
        raw = {"machine": asdict(machine), "command": _command(), "truths": truths}
        raw["measurements"] = [asdict(one) for one in measurements]
        options.raw.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


def _tables(measurements: list[Measurement], machine: Machine, command: str) -> str:
    lines = [
        f"Measured {machine.date} on {machine.processor}, one thread, with "
        f"{', '.join(f'{name} {version}' for name, version in machine.packages.items() if version)}; load of the "
        f"machine at the beginning {machine.load:.1f}. `{command}`",
        "",
    ]
    for name in dict.fromkeys(one.network for one in measurements):
        own = [one for one in measurements if one.network == name]
        lines += [
            f"**{name}: full-data gradients (95th percentile of the relative error, starts)**",
            "",
            *_rows(own),
            "",
        ]
    return "\n".join(lines)


def _rows(measurements: list[Measurement]) -> list[str]:
    checkpoints = list(dict.fromkeys(one.checkpoint for one in measurements))
    heads = [f"{'λ₁' if num == 1 else f'top {num}'}, {where}" for num in NUMBERS for where in checkpoints]
    lines = [f"| contender | {' | '.join(heads)} | leaves changed |", "| --- |" + " --- |" * (len(heads) + 1)]
    for contender in dict.fromkeys(one.contender for one in measurements):
        cells = [_cell(measurements, contender, num, where) for num in NUMBERS for where in checkpoints]
        left = sorted({name for one in measurements if one.contender == contender for name in one.changed})
        lines.append(f"| {contender} | {' | '.join(cells)} | {', '.join(left) or 'nothing'} |")
    return lines


def _cell(measurements: list[Measurement], contender: str, num: int, where: str) -> str:
    """Bold within 1 % for as many gradients as are aimed at."""
    for one in measurements:
        if (one.contender, one.num, one.checkpoint) == (contender, num, where):
            if one.failure:
                return f"failed: {one.failure[:60].replace('|', '/')}"
            error = float(np.quantile(one.errors, CERTAIN, method="higher"))
            text = f"{one.gradients:.1f} ({_percent(error)}, {len(one.errors)})"
            return f"**{text}**" if one.gradients <= TARGETS[num] and error <= 0.01 else text
    return "–"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share >= 1e-4 else "< 0.01 %"


if __name__ == "__main__":
    sys.exit(main())
