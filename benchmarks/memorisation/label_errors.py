"""Compare finders of label errors on MNIST-1D, at equal CPU seconds, each in a process of its own with one thread.

    python -m venv peers && peers/bin/pip install -r benchmarks/memorisation/label_errors_requirements.txt
    python -m benchmarks.memorisation.label_errors --peers peers/bin/python --raw label_errors.json \\
        --page docs/performance.md

Every contender trains the same network by the same recipe; budgets are CPU seconds of everything but imports. With
--resume, what the raw file already has is not measured again, and --only leaves the other contenders for another time.
--quick is a smoke run; its figures mean nothing.
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
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from benchmarks.engine.results import Machine, this_machine
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from byrote.data import class_pair_flips, feature_dependent_flips, load, long_tail, uniform_flips
from byrote.measures import flag_label_errors, proportion_interval

BEGIN = "<!-- label error benchmark: begin (written by python -m benchmarks.memorisation.label_errors --page) -->"
END = "<!-- label error benchmark: end -->"
CHILD = Path(__file__).with_name("label_errors_child.py")
PEERS = ("cleanlab", "aum", "captum", "heldout")
TOLD = "told right labels"
"""Not a contender: networks that are told what nobody knows show how much the network could say at best."""
SHOWN = {"heldout": "held-out ensemble", "told": TOLD}
KINDS = ("uniform", "class pairs", "feature-dependent", "uniform, long tail")
FRACTION, RATIO, RARE_CLASSES = 0.1, 20.0, 3
RATE = 0.1
"""The false-discovery rate that is asked for."""
BUDGETS = (5.0, 8.0, 10.0, 30.0, 100.0)
TAIL_BUDGET = 10.0
"""The long tail is a smaller task, and is not given more."""
TOLD_BUDGET = 30.0
"""By then what it says has settled."""
TARGET, TARGET_BUDGET = 0.93, 8.0
BINS = 10
OWN = ("byrote", "byrote, networks only")


class Noisy(NamedTuple):
    """A data set with wrong labels."""

    x: np.ndarray
    y: np.ndarray
    changed: np.ndarray
    right: np.ndarray
    """The labels before any was flipped."""
    rare: np.ndarray
    """Examples of the rarest classes; none where all are equally frequent."""


@final
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One contender on one data set, with what was ready at one budget."""

    kind: str
    seed: int
    contender: str
    budget: float
    cpu_seconds: float
    auroc: float
    average_precision: float
    rare_doubted: float | None
    """Share of right labels of the rarest classes among the tenth that is doubted most, which is their false alarm."""
    calibration_error: float | None
    """Expected calibration error of the probability, in ten bins of equal width; None without a probability."""
    bins: list[tuple[int, float, int]] | None
    """For each bin: how many labels, the sum of their probabilities, how many are wrong."""
    flagged: int | None = None
    """At the stated false-discovery rate; byrote only."""
    flagged_right: int | None = None


class Raw(NamedTuple):
    """A file of raw figures."""

    machine: Machine
    command: str
    measurements: list[Measurement]


def main() -> int:
    """Measure, write, and say whether the target is met."""
    options = _arguments()
    if options.tables_only:
        machine, command, measurements = _read(options.raw)
    else:
        measurements = _measure(options, _read(options.raw).measurements if options.resume else [])
        machine = replace(this_machine("cpu"), packages=_versions(options.peers))
        command = f"python -m benchmarks.memorisation.label_errors {shlex.join(_without_paths(sys.argv[1:]))}".strip()
    if options.raw and not options.tables_only:
        _write(options.raw, machine, command, measurements)
    text = tables([one for one in measurements if one.budget <= options.most_seconds], machine, command)
    if options.page:
        options.page.write_text(_page_with(options.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memorisation.label_errors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--raw", type=Path, help="write the raw figures here, as JSON")
    parser.add_argument("--page", type=Path, help="write the tables into this page, between its two markers")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="an interpreter that has the peers")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most-seconds", type=float, default=max(BUDGETS), help="leave out larger budgets")
    parser.add_argument("--core", type=int, help="pin to this core (Linux)")
    parser.add_argument("--resume", action="store_true", help="measure only what --raw does not have")
    asked = ("byrote", *PEERS, "told")
    parser.add_argument("--only", nargs="+", choices=asked, help="leave the others for another time")
    parser.add_argument("--tables-only", action="store_true", help="measure nothing: tables of an earlier --raw")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    options = parser.parse_args()
    if options.quick and options.page:
        parser.error("A smoke run's figures mean nothing and do not belong in a page: leave out --quick or --page.")
    if (options.resume or options.tables_only) and not options.raw:
        parser.error("Say with --raw which figures there are already.")
    return options


def _measure(options: argparse.Namespace, known: list[Measurement]) -> list[Measurement]:
    """Seed by seed, so that a run that is stopped has whole rounds; the raw file grows with every process."""
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    missing = {name for name in PEERS if not _installed(name, options.peers)}
    measured = list(known)
    kinds = KINDS[:1] if options.quick else KINDS
    for seed in range(1 if options.quick else options.seeds):
        for kind in kinds:
            for name in options.only or ("byrote", *PEERS, "told"):
                budgets = _budgets(kind, name, options)
                if name in missing or _has(measured, kind, seed, name, max(budgets)):
                    continue
                python = sys.executable if name in ("byrote", "told") else options.peers
                again = list(_run(name, python, kind, seed, budgets))
                renewed = {(one.kind, one.seed, one.contender) for one in again}
                measured = [one for one in measured if (one.kind, one.seed, one.contender) not in renewed] + again
                if options.raw:
                    _write(options.raw, this_machine("cpu"), "not finished", measured)
    return measured


def _budgets(kind: str, name: str, options: argparse.Namespace) -> list[float]:
    longest = TOLD_BUDGET if name == "told" else max(BUDGETS)
    most = 4.0 if options.quick else min(options.most_seconds, TAIL_BUDGET if "tail" in kind else longest)
    return [3.0, 4.0] if options.quick else [budget for budget in BUDGETS if budget <= most]


def _has(measured: list[Measurement], kind: str, seed: int, name: str, budget: float) -> bool:
    wanted = (kind, seed, SHOWN.get(name, name), budget)
    return any((one.kind, one.seed, one.contender, one.budget) == wanted for one in measured)


def noisy(kind: str, seed: int) -> Noisy:
    """MNIST-1D as its authors published it, with labels flipped anew for every seed."""
    task = load("mnist-1d", seed=42)
    x, y = task.normalise(task.train.x), task.train.y
    rare = np.zeros(len(y), bool)
    if "tail" in kind:
        kept = long_tail(y, num_classes=task.num_classes, ratio=RATIO, seed=seed)
        x, y = x[kept], y[kept]
        rare = np.isin(y, np.argsort(np.bincount(y))[:RARE_CLASSES])
    if kind == "class pairs":
        flipped = class_pair_flips(y, num_classes=task.num_classes, fraction=FRACTION, seed=seed)
    elif kind == "feature-dependent":
        forest = RandomForestClassifier(200, random_state=seed)
        probability = cross_val_predict(forest, x, y, cv=5, method="predict_proba")
        flipped = feature_dependent_flips(y, probability=np.asarray(probability), fraction=FRACTION, seed=seed)
    else:
        flipped = uniform_flips(y, num_classes=task.num_classes, fraction=FRACTION, seed=seed)
    return Noisy(x.astype(np.float32), flipped.targets, flipped.changed, y, rare)


def _run(name: str, python: str, kind: str, seed: int, budgets: list[float]) -> Iterator[Measurement]:
    data = noisy(kind, seed)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1")
    with tempfile.TemporaryDirectory() as folder:
        data_path, scores_path = Path(folder, "data.npz"), Path(folder, "scores.npz")
        if name == "told":
            np.savez(data_path, x=data.x, y=data.y, right=data.right)
        else:
            np.savez(data_path, x=data.x, y=data.y)
        asked = [python, str(CHILD), name, str(data_path), str(scores_path), str(seed), *map(str, budgets)]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, env={**os.environ, **threads})
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
        scores = dict(np.load(scores_path))
    for key in scores:
        contender, budget, part = key.split("|")
        if part == "doubt":
            probability = scores.get(f"{contender}|{budget}|probability")
            one = _judged(data, scores[key], probability, own=contender in OWN)
            found = Measurement(
                kind=kind,
                seed=seed,
                contender=contender,
                budget=float(budget),
                cpu_seconds=float(scores[f"{contender}|{budget}|cpu"]),
                **one,
            )
            print(f"{kind} {seed}, {contender}, {budget} s: {found.auroc:.3f}", file=sys.stderr, flush=True)
            yield found


def _judged(data: Noisy, doubt: np.ndarray, probability: np.ndarray | None, *, own: bool) -> dict[str, Any]:
    top = np.zeros(len(doubt), bool)
    top[np.argsort(-doubt, kind="stable")[: round(FRACTION * len(doubt))]] = True
    right_rare = data.rare & ~data.changed
    judged: dict[str, Any] = {
        "auroc": float(roc_auc_score(data.changed, doubt)),
        "average_precision": float(average_precision_score(data.changed, doubt)),
        "rare_doubted": float(top[right_rare].mean()) if right_rare.any() else None,
        "calibration_error": None,
        "bins": None,
    }
    if probability is not None:
        judged["bins"] = _bins(probability, data.changed)
        judged["calibration_error"] = calibration_error(judged["bins"])
    if probability is not None and own:
        flagged = flag_label_errors(probability, false_discovery_rate=RATE)
        judged |= {"flagged": int(flagged.sum()), "flagged_right": int((flagged & ~data.changed).sum())}
    return judged


def _bins(probability: np.ndarray, changed: np.ndarray) -> list[tuple[int, float, int]]:
    place = np.minimum((np.nan_to_num(probability) * BINS).astype(int), BINS - 1)
    return [
        (int((place == each).sum()), float(probability[place == each].sum()), int(changed[place == each].sum()))
        for each in range(BINS)
    ]


def calibration_error(bins: list[tuple[int, float, int]]) -> float:
    """Mean over labels of |mean probability − share wrong| in their bin (Naeini et al. 2015)."""
    return sum(abs(total - wrong) for _, total, wrong in bins) / sum(count for count, _, _ in bins)


def tables(measurements: list[Measurement], machine: Machine, command: str) -> str:
    """Everything that a reader needs to judge."""
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    conditions = (
        f"Measured by `{command}` on {machine.date}, commit {machine.commit}: one thread of {machine.processor} "
        f"({machine.num_cores} cores, load {machine.load:.1f} when it ended), Python {machine.python}, {packages}. "
        f"MNIST-1D, 4,000 training examples, a tenth of the labels wrong; MLP 40-128-128-10, SGD with learning rate "
        f"0.05 and momentum 0.9, batches of 64, 40 epochs. Medians over seeds, how many in brackets; a dash where "
        f"nothing was ready. The best AUROC of a column is bold."
    )
    parts = [conditions]
    for kind in dict.fromkeys(one.kind for one in measurements):
        parts += ["", f"**{kind[0].upper()}{kind[1:]}: AUROC (average precision)**", "", *_ranking(measurements, kind)]
    parts += [
        "",
        "**Of the labels given this probability, so many are wrong** (byrote, 8 seconds)",
    ]
    parts += ["", *_reliability(measurements), "", *_flags(measurements), "", _verdict(measurements), ""]
    return "\n".join(parts)


def _ranking(measurements: list[Measurement], kind: str) -> list[str]:
    here = [one for one in measurements if one.kind == kind]
    budgets = sorted({one.budget for one in here})
    names = list(dict.fromkeys(one.contender for one in here))
    ranked = [name for name in names if name != TOLD]
    best = {budget: max((_median(here, name, budget, "auroc") for name in ranked), default=-1.0) for budget in budgets}
    head = ["contender", *(f"{budget:g} s" for budget in budgets), "calibration error (least to most)"]
    extra = ["rare but right among the tenth doubted most"] if "tail" in kind else []
    lines = [[*head, *extra], ["---"] * (len(head) + len(extra))]
    for name in names:
        cells = [_cell(here, name, budget, best[budget]) for budget in budgets]
        last = max(one.budget for one in here if one.contender == name)
        errors = [
            one.calibration_error
            for one in here
            if (one.contender, one.budget) == (name, last) and one.calibration_error is not None
        ]
        rare = [f"{100 * _median(here, name, last, 'rare_doubted'):.1f} %"] if extra else []
        lines.append([name, *cells, _spread(errors) if errors else "no probability", *rare])
    return [f"| {' | '.join(line)} |" for line in lines]


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _cell(here: list[Measurement], name: str, budget: float, best: float) -> str:
    number = sum(1 for one in here if (one.contender, one.budget) == (name, budget))
    if not number:
        return "–"
    auroc = _median(here, name, budget, "auroc")
    text = f"**{auroc:.3f}**" if auroc == best else f"{auroc:.3f}"
    return f"{text} ({_median(here, name, budget, 'average_precision'):.2f}) [{number}]"


def _median(here: list[Measurement], name: str, budget: float, field: str) -> float:
    """−1 where there is none."""
    found = [getattr(one, field) for one in here if (one.contender, one.budget) == (name, budget)]
    values = [value for value in found if value is not None]
    return statistics.median(values) if values else -1.0


def _own(measurements: list[Measurement], kind: str, name: str) -> list[Measurement]:
    return [one for one in measurements if (one.kind, one.contender) == (kind, name) and one.budget >= TARGET_BUDGET]


def _reliability(measurements: list[Measurement]) -> list[str]:
    """Shares with Clopper-Pearson intervals, all data sets of a kind together."""
    lines = [
        ["noise", *(f"{each / BINS:.1f} to {(each + 1) / BINS:.1f}" for each in range(BINS))],
        ["---"] * (BINS + 1),
    ]
    for kind in dict.fromkeys(one.kind for one in measurements):
        own = [one for one in measurements if (one.kind, one.contender, one.budget) == (kind, "byrote", TARGET_BUDGET)]
        pooled = np.zeros((BINS, 3)) + sum(np.array(one.bins) for one in own if one.bins)
        cells: list[str] = []
        for count, _, wrong in pooled:
            interval = proportion_interval(int(wrong), int(count))
            cells.append(f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})" if count else "–")
        lines.append([kind, *cells])
    return [f"| {' | '.join(line)} |" for line in lines]


def _flags(measurements: list[Measurement]) -> list[str]:
    lines = [["noise", "contender", "flagged", f"right after all (asked: at most {100 * RATE:.0f} %)"], ["---"] * 4]
    for kind in dict.fromkeys(one.kind for one in measurements):
        for name in OWN:
            own = [one for one in _own(measurements, kind, name) if one.budget == TARGET_BUDGET]
            flagged, right = (sum(getattr(one, field) or 0 for one in own) for field in ("flagged", "flagged_right"))
            share = proportion_interval(right, flagged)
            said = f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})" if flagged else "–"
            lines.append([kind, name, f"{flagged} in {len(own)} data sets", said])
    return [f"| {' | '.join(line)} |" for line in lines]


def _verdict(measurements: list[Measurement]) -> str:
    said: list[str] = []
    for kind in dict.fromkeys(one.kind for one in measurements if "tail" not in one.kind):
        here = [one for one in measurements if one.kind == kind]
        got = _median(here, "byrote", TARGET_BUDGET, "auroc")
        won = _wins(here)
        outcome = "met" if got >= TARGET else "**missed**"
        ahead = "ahead of every peer at every budget" if not won else f"**behind at: {'; '.join(won)}**"
        said.append(f"{kind}: {got:.3f} at {TARGET_BUDGET:g} seconds, {outcome}; {ahead}")
    return f"Target, an AUROC of {TARGET} at {TARGET_BUDGET:g} CPU-seconds: " + ". ".join(said) + "."


def _wins(here: list[Measurement]) -> list[str]:
    """Where a peer is ahead of byrote."""
    peers = dict.fromkeys(one.contender for one in here if one.contender not in (*OWN, TOLD))
    return [
        f"{budget:g} seconds ({peer})"
        for budget in sorted({one.budget for one in here})
        for peer in peers
        if _median(here, peer, budget, "auroc") > _median(here, "byrote", budget, "auroc")
    ]


def _read(path: Path) -> Raw:
    """What a file of raw figures holds; nothing where there is none yet."""
    if not path.exists():
        return Raw(this_machine("cpu"), "", [])
    raw = json.loads(path.read_text(encoding="utf-8"))
    return Raw(Machine(**raw["machine"]), raw["command"], [Measurement(**one) for one in raw["measurements"]])


def _write(path: Path, machine: Machine, command: str, measurements: list[Measurement]) -> None:
    raw = {"machine": asdict(machine), "command": command, "measurements": [asdict(one) for one in measurements]}
    path.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


def _versions(python: str) -> dict[str, str]:
    own = {name: _installed(name, sys.executable) for name in ("byrote", "torch", "numpy")}
    peers = {name: _installed(name, python) for name in PEERS if name != "heldout"}
    return {**own, **{name: number for name, number in peers.items() if number}}


def _installed(name: str, python: str) -> str:
    """The version, empty if that interpreter does not have it; a plain loop needs nothing but torch."""
    package = "torch" if name == "heldout" else name
    asked = [python, "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _without_paths(arguments: list[str]) -> list[str]:
    """As anybody would type it: interpreters and raw files by their role."""
    return [re.sub(r"^/.*?([^/]+)$", r"\1", argument) for argument in arguments]


def _page_with(page: str, text: str) -> str:
    """The page with the text between its markers."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"Expected {BEGIN!r} and {END!r} once each in the page. Add them where the table belongs.")
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n\n{text}\n{END}", page, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
