"""Blockers of the sodium channel Nav1.7, with their measured activity, as they ship with RDKit."""

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from byrote.core import DataError, require
from byrote.data.examples import Examples
from byrote.data.sources.molecules import NUM_BITS, read_molecules
from byrote.data.sources.source import Options, Source
from byrote.data.split import split
from byrote.data.task import Task

STRUCTURES, ACTIVITIES = "CHEMBL2321810.smi", "CHEMBL2321810_act.csv"
INSTALL = "Install it with: pip install 'byrote[molecules]'"


def nav17(options: Options) -> Task:
    """1,017 arylsulfonamides and how strongly they block Nav1.7, on a scale of −log₁₀ (ChEMBL document CHEMBL2321810).

    Inputs are Morgan fingerprints; molecules of one Murcko scaffold stay together. Since the molecules are all of one
    series, a random split would ask for little more than looking up the nearest neighbour.

    Raises:
        DataError: an option does not apply, or the files are not there.
        MissingExtraError: RDKit is not installed.
    """
    options.refuse_all_but(
        "data_dir", "test_fraction", task="nav17", because="it is complete, with activities and scaffolds of its own"
    )
    place = options.data_dir or folder()
    lines, notes = _read(place)
    found = read_molecules([line.smiles for line in lines])
    if not found.readable.any():
        raise DataError(f"nav17: none of the {len(lines):,} lines of {place / STRUCTURES} is a molecule.")
    kept = [line for line, readable in zip(lines, found.readable, strict=True) if readable]
    activity = np.array([line.activity for line in kept])
    rows = pa.table({"SMILES": [line.smiles for line in kept], "scaffold": found.scaffolds.tolist()})
    positions = split(
        activity, regression=True, test_fraction=options.test_fraction, seed=options.seed, groups=found.scaffolds
    )
    train, test = (
        Examples(
            found.fingerprints[part],
            activity[part],
            ids=np.array([line.name for line in kept])[part],
            groups=found.scaffolds[part],
            rows=rows.take(pa.array(part)),
        )
        for part in positions
    )
    num_scaffolds = [len(np.unique(part.groups)) for part in (train, test) if part.groups is not None]
    num_broken = int((~found.readable).sum())
    return Task(
        train=train,
        test=test,
        name="nav17",
        regression=True,
        modality="molecule",
        feature_names=tuple(f"bit {bit}" for bit in range(NUM_BITS)),
        notes=(
            *notes,
            *([f"{num_broken:,} of {len(lines):,} structures cannot be read and took no part."] if num_broken else []),
            f"{len(test):,} of {len(kept):,} molecules were set aside for test (seed {options.seed}). Molecules of one "
            f"Murcko scaffold stayed together: {num_scaffolds[0]:,} scaffolds for training, {num_scaffolds[1]:,} for "
            "test.",
            f"Molecules are read as Morgan fingerprints of radius 2, folded to {NUM_BITS:,} bits.",
        ),
    )


class _Line(NamedTuple):
    name: str
    smiles: str
    activity: float


def _read(folder: Path) -> tuple[list[_Line], list[str]]:
    """Molecules that have an activity, and how many of them have none."""
    absent = [name for name in (STRUCTURES, ACTIVITIES) if not (folder / name).is_file()]
    if absent:
        raise DataError(
            f"nav17: no {' or '.join(absent)} in {folder}. They come with RDKit, in Contrib/FreeWilson/data; leave "
            "--data-dir out, or name a folder that holds both."
        )
    with (folder / ACTIVITIES).open(encoding="utf-8", newline="") as file:
        activities = {row["Name"]: _number(row["Act"]) for row in csv.DictReader(file)}
    with (folder / STRUCTURES).open(encoding="utf-8", errors="replace") as file:
        parts = [line.split(maxsplit=1) for line in file if line.strip()]
    named = [(part[1].strip() if len(part) > 1 else "", part[0]) for part in parts]
    measured = {name: activity for name, activity in activities.items() if np.isfinite(activity)}
    lines = [_Line(name, smiles, measured[name]) for name, smiles in named if name in measured]
    num_without = len(named) - len(lines)
    if not lines:
        raise DataError(f"nav17: no molecule of {folder / STRUCTURES} has an activity in {ACTIVITIES}.")
    verb = "structure has" if num_without == 1 else "structures have"
    return lines, [f"{num_without:,} {verb} no measured activity and took no part."] if num_without else []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def folder() -> Path:
    """Where RDKit has them."""
    configuration = require("rdkit.RDConfig", extra="molecules", purpose="The task nav17")
    return Path(configuration.RDContribDir) / "FreeWilson" / "data"


def _missing() -> str:
    return "" if find_spec("rdkit") else INSTALL


NAV17 = Source(
    name="nav17",
    description="1,017 molecules of one chemical series with their activity at the channel Nav1.7, by scaffold",
    make=nav17,
    missing=_missing,
)
