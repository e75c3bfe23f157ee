"""Measure what the gradient covariance K costs beside its gradients, and how far off the trace of a Hessian is.

    python -m benchmarks.curvature.traces_and_covariance --raw traces.json --page docs/performance.md

Costs are processor time with one thread, against that of a tight loop in turns with it: over the same mini-batches for
K, over all data for traces. The truth of a trace is the mean of all estimates with the most products, which are without
bias. --quick is a smoke run; its figures mean nothing.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from benchmarks.curvature.eigenvalues import CHECKPOINTS, NETWORKS, digits, trained
from benchmarks.curvature.eigenvalues_child import batches_of, plain_gradient
from benchmarks.engine.results import Machine, this_machine
from benchmarks.memorisation.page import markers, page_with
from torch import Tensor, nn
from torch.nn import functional

from byrote.measures.curvature import Objective, curvature_trace, draw_batches, gradient_covariance

MARKERS = markers("traces and covariance", module="benchmarks.curvature.traces_and_covariance")
CHECKPOINT = "early"
NUM_BATCHES, BATCH_SIZES = 25, (64, 128)
PRODUCTS = (12, 30, 90)
TARGET = 1.1
"""Times the gradients that K is made of, aimed at."""


@final
@dataclass(frozen=True, kw_only=True)
class Covariance:
    """What K took on one network."""

    network: str
    batch_size: int
    milliseconds: float
    """Of the plain gradients of all mini-batches."""
    times: float
    """What K took, against those."""


@final
@dataclass(frozen=True, kw_only=True)
class Traces:
    """Estimates from several seeds."""

    network: str
    num_products: int
    gradients: float
    error: float
    """Root of the mean square, relative."""
    spread: float
    """Root mean square of errors over their own standard errors: 1 where those are right."""
    truth_error: float
    """Relative standard error of the truth."""


def main() -> int:
    """Measure and write."""
    options = _arguments()
    machine = this_machine("cpu")
    covariances = [_covariance(name, size, rounds=options.rounds) for name in options.networks for size in BATCH_SIZES]
    traces = [one for name in options.traced for one in _traces(name, num_seeds=options.seeds)]
    if options.raw:
        raw = {"machine": asdict(machine), "covariance": [asdict(one) for one in covariances]}
        raw["traces"] = [asdict(one) for one in traces]
        options.raw.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    text = _tables(covariances, traces, machine=machine, options=options)
    if options.page:
        page = page_with(options.page.read_text(encoding="utf-8"), text, between=MARKERS)
        options.page.write_text(page, encoding="utf-8")
    else:
        print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curvature.traces_and_covariance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--raw", type=Path, help="write the raw figures here, as JSON")
    parser.add_argument("--page", type=Path, help="write the tables into this page, between its two markers")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS), help="whose K")
    parser.add_argument("--traced", nargs="*", choices=NETWORKS, default=["mlp", "cnn"], help="whose traces")
    parser.add_argument("--rounds", type=int, default=9, help="of K and its gradients in turns")
    parser.add_argument("--seeds", type=int, default=20, help="of traces")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    options = parser.parse_args()
    if options.quick and options.page:
        parser.error("A smoke run's figures mean nothing and do not belong in a page: leave out --quick or --page.")
    if options.quick:
        options.rounds, options.seeds, options.networks, options.traced = 2, 2, ["mlp"], ["mlp"]
    return options


def example_losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of each."""
    return functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def _seconds(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def _covariance(name: str, size: int, *, rounds: int) -> Covariance:
    x, y = digits(quick=False)
    model = trained(name, CHECKPOINTS[CHECKPOINT], x, y)
    rows = draw_batches(len(x), num_batches=NUM_BATCHES, batch_size=size, drawn="independent", seed=0)
    batches = [(torch.from_numpy(x[row]), torch.from_numpy(y[row])) for row in rows]
    objective = Objective(model, loss=example_losses, batches=batches)
    plain, own = list[float](), list[float]()
    for round_ in range(rounds + 1):
        found = (
            _seconds(lambda: plain_gradient(model, batches)),
            _seconds(lambda: gradient_covariance(objective, drawn="independent", population=len(x))),
        )
        if round_:  # What is imported and allocated once is nobody's cost.
            plain.append(found[0])
            own.append(found[1])
    times, alone = statistics.median(own) / statistics.median(plain), 1000 * statistics.median(plain)
    print(f"K, {name}, batches of {size}: {times:.2f}", file=sys.stderr, flush=True)
    return Covariance(network=name, batch_size=size, milliseconds=alone, times=times)


def _traces(name: str, *, num_seeds: int) -> list[Traces]:
    x, y = digits(quick=False)
    model, batches = trained(name, CHECKPOINTS[CHECKPOINT], x, y), batches_of(x, y)
    objective = Objective(model, loss=example_losses, batches=batches)
    plain_gradient(model, batches)
    plain = statistics.median(_seconds(lambda: plain_gradient(model, batches)) for _ in range(9))
    estimates, seconds = dict[int, list[tuple[float, float]]](), dict[int, list[float]]()
    for number in PRODUCTS:
        estimates[number], seconds[number] = [], []
        for seed in range(num_seeds):
            begin = time.process_time()
            found = curvature_trace(objective, num_products=number, seed=seed)
            seconds[number].append(time.process_time() - begin)
            estimates[number].append((found.value, found.se))
        print(f"trace, {name}, {number} products done", file=sys.stderr, flush=True)
    best = np.array(estimates[PRODUCTS[-1]])[:, 0]
    truth, unsure = best.mean(), best.std(ddof=1) / num_seeds**0.5
    return [
        Traces(
            network=name,
            num_products=number,
            gradients=statistics.median(seconds[number]) / plain,
            error=float(np.sqrt(np.mean((values - truth) ** 2)) / truth),
            spread=float(np.sqrt(np.mean(((values - truth) / errors) ** 2))),
            truth_error=float(unsure / truth),
        )
        for number in PRODUCTS
        for values, errors in [np.array(estimates[number]).T]
    ]


def _tables(
    covariances: list[Covariance], traces: list[Traces], *, machine: Machine, options: argparse.Namespace
) -> str:
    lines = [
        f"Measured {machine.date} on {machine.processor}, one thread, torch {machine.packages['torch']}, after "
        f"{CHECKPOINTS[CHECKPOINT]} steps of training; load of the machine at the beginning {machine.load:.1f}.",
        "",
        f"| network | {NUM_BATCHES} gradients of batches of | they alone, ms | K, times that |",
        "| --- | --- | --- | --- |",
    ]
    for one in covariances:
        text = f"{one.times:.2f}"
        bold = f"**{text}**" if one.times <= TARGET else text
        lines.append(f"| {one.network} | {one.batch_size} | {one.milliseconds:.1f} | {bold} |")
    lines += [
        "",
        f"| network | products | gradients | error (root mean square, {options.seeds} seeds) | errors in their "
        "own standard errors |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one.network} | {one.num_products} | {one.gradients:.0f} | {100 * one.error:.1f} % | {one.spread:.2f} |"
        for one in traces
    ]
    unsure = ", ".join(f"{100 * one.truth_error:.1f} % ({one.network})" for one in traces[:: len(PRODUCTS)])
    return "\n".join([*lines, "", f"The truths of the traces have standard errors of {unsure}."]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
