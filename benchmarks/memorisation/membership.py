"""Compare membership attacks of byrote, sacroml and ART on the same target networks, each package in its own process.

    python -m venv peers && peers/bin/pip install -r benchmarks/memorisation/membership_requirements.txt
    python -m benchmarks.memorisation.membership --peers peers/bin/python --raw membership.json \\
        --page docs/performance.md

A package that is not installed there is left out, and the page says so. The raw file grows with every seed. --quick is
a smoke run; its figures mean nothing.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from benchmarks.engine.results import Machine, this_machine
from benchmarks.memorisation.page import markers, page_with
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score

from byrote.core import derive
from byrote.data import Task, inclusion, load, sample_positions, uniform_flips
from byrote.measures import Attack, lira, log_odds, loss_attack, proportion_interval, rmia, roc
from byrote.models import mlp
from byrote.records import SGD, BalancedSubset, Learner, Recipe, Run, RunSpec, Sample, TrueInputs
from byrote.training import choose_path, train, training_data

MARKERS = markers("membership", module="benchmarks.memorisation.membership")
CHILD = Path(__file__).with_name("membership_child.py")
PACKAGES = {"sacroml": "sacroml", "sacroml_worst_case": "sacroml", "art": "adversarial-robustness-toolbox"}
"""What the child calls it, and in which distribution it is."""
REFERENCES = (8, 16, 32, 64)
RATES = (0.001, 0.01)
FRACTION = 0.5
LR, MOMENTUM, BATCH_SIZE, EPOCHS, WIDTH = 0.05, 0.9, 64, 40, 128
NUM_TARGETS = 8
"""Targets of each seed for packages that train an attack for each."""
SLOW_TARGETS = 1
"""Targets of each seed for which sacroml trains shadow models of its own."""
CHOICE = "byrote LiRA, its own choice"


@final
@dataclass(frozen=True, kw_only=True)
class Case:
    """Candidates, of which every network is trained on a random half."""

    name: str
    source: str
    num_examples: int | None
    """None: all that there are."""
    flipped: float
    depth: int


@final
@dataclass(frozen=True, kw_only=True)
class Result:
    """One attack on one task, all targets pooled."""

    task: str
    attack: str
    num_references: int
    """0: it needs none."""
    num_targets: int
    num_members: int
    num_nonmembers: int
    auc: float
    seed_aucs: list[float]
    caught: list[int]
    """Members caught, at each of the rates."""
    cpu_seconds: list[float]
    """Of one audit, for each seed."""
    shared: list[float] | None = None
    """AUC and shares caught on only the targets that sacroml's shadow models are trained for."""


class Raw(NamedTuple):
    """A file of raw figures."""

    machine: Machine
    command: str
    results: list[Result]


class Population(NamedTuple):
    """Networks on random halves. Each in turn is the target."""

    inclusion: Bool[np.ndarray, "run example"]
    logits: Float[np.ndarray, "run example class"]
    likelihood: Float[np.ndarray, "run example"]
    """Its logarithm, of the given label."""
    points: Float[np.ndarray, "run point"]
    """The same of the test set."""
    odds: Float[np.ndarray, "run example"]
    seconds: dict[int, float]
    """What it cost to train the first so many, the search for the fastest path included."""

    def part(self, runs: slice) -> "Population":
        """The same of some runs."""
        return Population(
            self.inclusion[runs],
            self.logits[runs],
            self.likelihood[runs],
            self.points[runs],
            self.odds[runs],
            self.seconds,
        )


class Scored(NamedTuple):
    """What an attack said in one seed."""

    score: np.ndarray
    member: np.ndarray
    cpu_seconds: float
    num_targets: int
    num_shared: int = 0
    """How many scores, from the first on, are of targets that sacroml's shadow models are trained for."""


Key = tuple[str, str, int]
"""Task, attack, number of references."""

CASES = (
    Case(name="digits, a tenth of the labels wrong", source="digits", num_examples=None, flipped=0.1, depth=1),
    Case(name="MNIST-1D, labels as they are", source="mnist-1d", num_examples=2000, flipped=0.0, depth=2),
)

OWN: dict[str, Callable[[Population], Attack]] = {
    "byrote LiRA, online, fixed variance": lambda of: lira(of.inclusion, of.odds, variance="fixed"),
    "byrote LiRA, online, each example's variance": lambda of: lira(of.inclusion, of.odds, variance="example"),
    CHOICE: lambda of: lira(of.inclusion, of.odds),
    "byrote LiRA, offline": lambda of: lira(of.inclusion, of.odds, offline=True),
    "byrote RMIA, online": lambda of: rmia(of.inclusion, of.likelihood),
    "byrote RMIA, online, against the test set": lambda of: rmia(of.inclusion, of.likelihood, population=of.points),
    "byrote RMIA, offline": lambda of: rmia(of.inclusion, of.likelihood, offline=True),
}


def main() -> int:
    """Measure and write."""
    options = _arguments()
    if options.tables_only:
        machine, command, results = _read(options.raw)
    else:
        results = _measure(options)
        machine = replace(this_machine("cpu"), packages=_versions(options.peers))
        command = f"python -m benchmarks.memorisation.membership {shlex.join(_without_paths(sys.argv[1:]))}".strip()
        _write(options.raw, machine, command, results)
    text = tables(results, machine, command)
    if options.page:
        page = page_with(options.page.read_text(encoding="utf-8"), text, between=MARKERS)
        options.page.write_text(page, encoding="utf-8")
    else:
        print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memorisation.membership",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--raw", type=Path, help="write the raw figures here, as JSON")
    parser.add_argument("--page", type=Path, help="write the tables into this page, between its two markers")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="an interpreter that has the peers")
    parser.add_argument("--seeds", type=int, default=3, help="of flips, subsets and networks")
    parser.add_argument("--tables-only", action="store_true", help="measure nothing: tables of an earlier --raw")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    options = parser.parse_args()
    if options.quick and options.page:
        parser.error("A smoke run's figures mean nothing and do not belong in a page: leave out --quick or --page.")
    if options.tables_only and not options.raw:
        parser.error("Say with --raw which figures there are already.")
    return options


def _measure(options: argparse.Namespace) -> list[Result]:
    torch.set_num_threads(1)
    references = REFERENCES[:1] if options.quick else REFERENCES
    epochs = 3 if options.quick else EPOCHS
    present = [name for name, package in PACKAGES.items() if _installed(package, options.peers)]
    found: dict[Key, list[Scored]] = {}
    for seed in range(1 if options.quick else options.seeds):
        for case in CASES:
            task = task_of(case, seed=seed)
            learner = Learner(
                model=mlp(width=WIDTH, depth=case.depth),
                recipe=Recipe(optimiser=SGD(lr=LR, momentum=MOMENTUM), batch_size=BATCH_SIZE, epochs=epochs),
            )
            networks = population(task, learner, seed=seed, references=references)
            for attack, number, scored in _attacks(networks, references):
                found.setdefault((case.name, attack, number), []).append(scored)
            recipe = {"width": WIDTH, "depth": case.depth, "lr": LR, "momentum": MOMENTUM}
            recipe |= {"batch_size": BATCH_SIZE, "epochs": epochs, "num_classes": task.num_classes}
            for package in present:
                said = _peer(package, options.peers, task, networks, recipe=recipe, seed=seed, references=references)
                for attack, number, scored in said:
                    found.setdefault((case.name, attack, number), []).append(scored)
                print(f"{case.name}, seed {seed}: {package} is done", file=sys.stderr, flush=True)
        _write(options.raw, this_machine("cpu"), "not finished", [_pooled(key, found[key]) for key in found])
    return [_pooled(key, scored) for key, scored in found.items()]


def task_of(case: Case, *, seed: int) -> Task:
    """The candidates, with labels flipped anew for every seed."""
    task = load(case.source)
    if case.num_examples is not None:
        positions = sample_positions(task, Sample(train=case.num_examples, test=len(task.test), draw=seed))
        task = task.part(train=positions.train, test=positions.test)
    if not case.flipped:
        return task
    flips = uniform_flips(task.train.y, num_classes=task.num_classes, fraction=case.flipped, seed=seed)
    return replace(task, train=task.train.with_targets(flips.targets))


def population(task: Task, learner: Learner, *, seed: int, references: tuple[int, ...]) -> Population:
    """Train networks, with every number of references in turn as many more as it needs, and note what that cost."""
    specs = [
        RunSpec(
            task=task.fingerprint,
            learner=learner,
            seed=derive(seed, "run", index),
            order=derive(seed, "run", index),
            subset=BalancedSubset(fraction=FRACTION, draw=seed, index=index),
        )
        for index in range(max(references) + 2)
    ]
    data = training_data(task, inputs=TrueInputs(), sample=None, device=torch.device("cpu"), dtype=torch.float32)
    began = time.process_time()
    path = choose_path(data, specs[0], num_runs=len(specs))
    runs: list[Run] = []
    seconds: dict[int, float] = {}
    for number in references:
        runs += train(specs[len(runs) : number + 2], data, path=path)
        seconds[number + 2] = time.process_time() - began
    stopped = next((run.message for run in runs if run.status != "completed"), None)
    if stopped is not None:
        raise RuntimeError(f"A run did not complete: {stopped}")
    logits = np.stack([run.trace.train_outputs for run in runs])
    test_logits = np.stack([run.trace.test_outputs for run in runs])
    return Population(
        inclusion=np.stack([inclusion(task, run.spec.subset) for run in runs]),
        logits=logits,
        likelihood=_log_likelihood(logits, task.train.y),
        points=_log_likelihood(test_logits, task.test.y),
        odds=log_odds(logits, task.train.y),
        seconds=seconds,
    )


def _log_likelihood(logits: np.ndarray, y: np.ndarray) -> Float[np.ndarray, "run example"]:
    """Of the given class; at most 0."""
    return -np.logaddexp(0.0, -log_odds(logits, y))


def _attacks(networks: Population, references: tuple[int, ...]) -> Iterator[tuple[str, int, Scored]]:
    """Ours: the population in groups, in which each network is the target of all others."""
    began = time.process_time()
    loss = loss_attack(-networks.likelihood)
    seconds = (time.process_time() - began) / len(loss.score)
    yield "byrote loss threshold", 0, Scored(loss.score.ravel(), networks.inclusion.ravel(), seconds, len(loss.score))
    for number in references:
        size = number + 2
        groups = [networks.part(slice(first, first + size)) for first in range(0, len(networks.odds) - size + 1, size)]
        for name, attack in OWN.items():
            began = time.process_time()
            score = np.concatenate([attack(group).score for group in groups])
            seconds = networks.seconds[size] + (time.process_time() - began) / len(groups)
            member = networks.inclusion[: len(score)]
            known = ~np.isnan(score)
            shared = int(known[:SLOW_TARGETS].sum())
            yield name, number, Scored(score[known], member[known], seconds, len(score), shared)


def _peer(
    package: str,
    python: str,
    task: Task,
    networks: Population,
    *,
    recipe: dict[str, Any],
    seed: int,
    references: tuple[int, ...],
) -> Iterator[tuple[str, int, Scored]]:
    """Theirs, on the first networks of the same population."""
    x = task.normalise(task.train.x).reshape(len(task.train), -1).astype(np.float32)
    logits = networks.logits[:NUM_TARGETS].astype(np.float64)
    probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=2, keepdims=True))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1")
    with tempfile.TemporaryDirectory() as folder:
        data_path, scores_path = Path(folder, "data.npz"), Path(folder, "scores.npz")
        np.savez(
            data_path,
            x=x,
            y=task.train.y,
            inclusion=networks.inclusion[:NUM_TARGETS],
            probabilities=probabilities,
            num_slow=np.array(SLOW_TARGETS),
            **{f"recipe_{key}": np.array(value) for key, value in recipe.items()},  # pyright: ignore[reportArgumentType]
        )
        asked = [python, str(CHILD), package, str(data_path), str(scores_path), str(seed), *map(str, references)]
        done = subprocess.run(
            asked, capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, **threads}
        )
        if done.returncode:
            raise RuntimeError(f"{package} failed: {done.stderr.strip().splitlines()[-1]}")
        found = dict(np.load(scores_path))
    for key in found:
        attack, number, what = key.split("|")
        if what == "score":
            member, cpu = found[f"{attack}|{number}|member"], found[f"{attack}|{number}|cpu"]
            shared = len(member) if int(number) else 0
            yield attack, int(number), Scored(found[key], member, float(cpu.mean()), len(cpu), shared)


def _pooled(key: Key, scored: list[Scored]) -> Result:
    """All targets of all seeds against one threshold."""
    task, attack, number = key
    score, member = (np.concatenate([getattr(one, name) for one in scored]) for name in ("score", "member"))
    auc, *shares = _judged(score, member)
    shared = None
    if all(one.num_shared for one in scored):
        shared = _judged(
            np.concatenate([one.score[: one.num_shared] for one in scored]),
            np.concatenate([one.member[: one.num_shared] for one in scored]),
        )
    return Result(
        task=task,
        attack=attack,
        num_references=number,
        num_targets=sum(one.num_targets for one in scored),
        num_members=int(member.sum()),
        num_nonmembers=int((~member).sum()),
        auc=auc,
        seed_aucs=[float(roc_auc_score(one.member, one.score)) for one in scored],
        caught=[round(share * int(member.sum())) for share in shares],
        cpu_seconds=[one.cpu_seconds for one in scored],
        shared=shared,
    )


def _judged(score: np.ndarray, member: np.ndarray) -> list[float]:
    """AUC, and the shares caught."""
    curve = roc(score, member)
    caught = (curve.true_positive_rate[curve.false_positive_rate <= rate].max() for rate in RATES)
    return [float(roc_auc_score(member, score)), *map(float, caught)]


def tables(results: list[Result], machine: Machine, command: str) -> str:
    """Everything that a reader needs to judge."""
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    missing = [name for name in dict.fromkeys(PACKAGES.values()) if name not in machine.packages]
    left_out = f" Not installed and left out: {', '.join(missing)}." if missing else ""
    seeds = max(len(one.seed_aucs) for one in results)
    parts = [
        f"Measured by `{command}` on {machine.date}, commit {machine.commit}: one thread of {machine.processor} "
        f"({machine.num_cores} cores, load {machine.load:.1f} when it ended), Python {machine.python}, "
        f"{packages}.{left_out} SGD with learning rate {LR} and momentum {MOMENTUM}, batches of {BATCH_SIZE}, {EPOCHS} "
        f"epochs; one hidden layer of {WIDTH} on digits, two on MNIST-1D. {seeds} seeds; CPU: their median. A band is "
        f"Clopper and Pearson's of the members caught, and takes the pooled scores for independent. The best of each "
        f"number of references is bold."
    ]
    for task in dict.fromkeys(one.task for one in results):
        here = [one for one in results if one.task == task]
        parts += ["", f"**{task[0].upper()}{task[1:]}**", "", *_table(here), "", _verdict(here)]
    return "\n".join([*parts, ""])


def _table(here: list[Result]) -> list[str]:
    head = ["references", "attack", "AUC (seeds)", *(f"members caught at {100 * rate:g} % false" for rate in RATES)]
    rates = ", ".join(f"{100 * rate:g} %" for rate in RATES)
    head += ["targets", "members, others", "CPU seconds an audit", f"on sacroml's targets: AUC, caught at {rates}"]
    lines = [head, ["---"] * len(head)]
    for number in sorted({one.num_references for one in here}):
        same = [one for one in here if one.num_references == number]
        best = [max(_measures(one)[place] for one in same) for place in range(1 + len(RATES))]
        lines += [_row(one, best) for one in same]
    return [f"| {' | '.join(line)} |" for line in lines]


def _measures(one: Result) -> list[float]:
    """AUC, and the shares caught."""
    return [one.auc, *(hits / one.num_members for hits in one.caught)]


def _row(one: Result, best: list[float]) -> list[str]:
    shares = [proportion_interval(hits, one.num_members) for hits in one.caught]
    texts = [f"{one.auc:.3f}", *(f"{100 * share.value:.2f} %" for share in shares)]
    marked = [
        f"**{text}**" if value == most else text for text, value, most in zip(texts, _measures(one), best, strict=True)
    ]
    bands = [f"{min(one.seed_aucs):.3f} to {max(one.seed_aucs):.3f}"]
    bands += [f"{100 * share.low:.2f} to {100 * share.high:.2f}" for share in shares]
    return [
        str(one.num_references or "none"),
        one.attack,
        *(f"{text} ({band})" for text, band in zip(marked, bands, strict=True)),
        str(one.num_targets),
        f"{one.num_members:,}, {one.num_nonmembers:,}",
        f"{statistics.median(one.cpu_seconds):.2g}",
        "" if one.shared is None else _shared(one.shared),
    ]


def _shared(measures: list[float]) -> str:
    auc, *shares = measures
    return ", ".join([f"{auc:.3f}", *(f"{100 * share:.1f} %" for share in shares)])


def _verdict(here: list[Result]) -> str:
    """Where a peer is ahead of what byrote chooses: on the same targets, with as many references or with none."""
    names = ["AUC", *(f"caught at {100 * rate:g} %" for rate in RATES)]
    said: list[str] = []
    for own in (one for one in here if one.attack == CHOICE):
        peers = [one for one in here if one.num_references in (0, own.num_references) and "byrote" not in one.attack]
        for place, name in enumerate(names):
            ahead = [one.attack for one in peers if _against(one)[place] > _against(own, one)[place]]
            said += [f"{own.num_references} references, {name}: {', '.join(ahead)}"] if ahead else []
    return f"Peers ahead of byrote's own choice: {'; '.join(said) or 'none, at any number of references'}."


def _against(one: Result, other: Result | None = None) -> list[float]:
    """Its measures on the targets that both have, as far as is known."""
    return one.shared if one.shared is not None and (other is None or other.shared is not None) else _measures(one)


def _read(path: Path) -> Raw:
    raw = json.loads(path.read_text(encoding="utf-8"))
    return Raw(Machine(**raw["machine"]), raw["command"], [Result(**one) for one in raw["results"]])


def _write(path: Path | None, machine: Machine, command: str, results: list[Result]) -> None:
    """Nothing without a path."""
    if path is not None:
        raw = {"machine": asdict(machine), "command": command, "results": [asdict(one) for one in results]}
        path.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


def _versions(python: str) -> dict[str, str]:
    own = {name: _installed(name, sys.executable) for name in ("byrote", "torch", "numpy")}
    peers = {name: _installed(name, python) for name in dict.fromkeys(PACKAGES.values())}
    return {**own, **{name: number for name, number in peers.items() if number}}


def _installed(package: str, python: str) -> str:
    """The version, empty if that interpreter does not have it."""
    asked = [python, "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _without_paths(arguments: list[str]) -> list[str]:
    """As anybody would type it: interpreters and raw files by their role."""
    return [re.sub(r"^/.*?([^/]+)$", r"\1", argument) for argument in arguments]


if __name__ == "__main__":
    sys.exit(main())
