"""Which way was fastest, remembered on disk: per machine, architecture, batch and population size."""

import hashlib
import json
import math
import os
import platform
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import nn

from byrote.records import RunSpec
from byrote.training.population import TrainingData
from byrote.training.rules import batch_size, structure

SCHEMA = 1
"""Of the files, and of what the engine's timings mean: raised when the engine changes."""


class Situation(NamedTuple):
    """What timings hold for."""

    machine: str
    architecture: str
    batch: str
    candidates: tuple[str, ...]

    @property
    def key(self) -> str:
        """20 hexadecimal digits, a file's name."""
        return hashlib.sha256(json.dumps([SCHEMA, *self]).encode()).hexdigest()[:20]


@final
@dataclass(frozen=True, kw_only=True)
class RememberedPath:
    """What was timed once."""

    machine: str
    model: str
    batch: str
    """Size, inputs, precision, optimiser."""
    path: str
    """The fastest."""
    num_runs: int
    """The most that were stacked."""
    when: float
    """Seconds since 1970."""
    times: Mapping[str, float]
    """Seconds per visit of every way that was timed; null in the file for one that failed."""


def machine(device: torch.device) -> str:
    """What decides how fast this machine is."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        named = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        named = platform.processor() or platform.machine()
    return f"{named} × {os.cpu_count()}"


def situation(module: nn.Module, data: TrainingData, spec: RunSpec, *, candidates: Sequence[str]) -> Situation:
    """What decides which way is fastest."""
    recipe = spec.learner.recipe
    layers = (spec.learner.model.digest, repr(module))
    shapes = [(name, tuple(weight.shape)) for name, weight in module.named_parameters()]
    size = batch_size(spec, num_examples=len(data.train_x))
    parts = (
        f"{size} of {tuple(data.train_x.shape[1:])}",
        recipe.dtype + (" with bfloat16" if recipe.autocast else ""),
        str(structure(recipe).optimiser.kind),
    )
    return Situation(
        machine=machine(data.train_x.device),
        architecture=f"{spec.learner.model} {hashlib.sha256(repr((layers, shapes)).encode()).hexdigest()[:12]}",
        batch=", ".join(parts),
        candidates=tuple(candidates),
    )


@final
class Remembered:
    """Timings in a folder, one small JSON file each. A folder that cannot be used is as good as an empty one."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, made when the first timing is kept."""
        self.folder = folder

    @classmethod
    def default(cls) -> "Remembered":
        """In `$BYROTE_CACHE`, else `byrote` in `$XDG_CACHE_HOME`, else `~/.cache/byrote`."""
        given = os.environ.get("BYROTE_CACHE")
        around = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        try:
            return cls(Path(given) if given else Path(around).expanduser() / "byrote")
        except RuntimeError:  # There is no home.
            return cls(Path(tempfile.gettempdir()) / "byrote")

    def get(self, situation: Situation) -> dict[str, float] | None:
        """Seconds per visit by way; None when nothing is remembered."""
        entry = _read(self._place(situation))
        return None if entry is None else dict(entry.times)

    def put(self, situation: Situation, *, spec: RunSpec, times: Mapping[str, float]) -> None:
        """Keep timings."""
        entry = {
            "schema": SCHEMA,
            "machine": situation.machine,
            "model": str(spec.learner.model),
            "batch": situation.batch,
            "when": time.time(),
            "times": {way: seconds if math.isfinite(seconds) else None for way, seconds in times.items()},
        }
        place = self._place(situation)
        temporary = place.with_name(f".{place.name}-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(entry, indent=2), encoding="utf-8")
            os.replace(temporary, place)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def entries(self) -> list[RememberedPath]:
        """Everything remembered, the latest first."""
        found = [_read(path) for path in self._files()]
        return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.when)

    def forget(self) -> int:
        """Remove it all; says how many timings there were."""
        gone = 0
        for path in self._files():
            try:
                path.unlink()
                gone += 1
            except OSError:
                continue
        return gone

    def _files(self) -> list[Path]:
        try:
            return sorted((self.folder / "paths").glob("*.json"))
        except OSError:
            return []

    def _place(self, situation: Situation) -> Path:
        return self.folder / "paths" / f"{situation.key}.json"


def _read(path: Path) -> RememberedPath | None:
    """A timing that was kept; None for anything else."""
    try:
        entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if entry["schema"] != SCHEMA:
            return None
        times = {str(way): math.inf if seconds is None else float(seconds) for way, seconds in entry["times"].items()}
        best = min(times, key=lambda way: times[way])
        return RememberedPath(
            machine=str(entry["machine"]),
            model=str(entry["model"]),
            batch=str(entry["batch"]),
            path=best,
            num_runs=max(int(way.split(" x")[1].split(",")[0]) for way in times),
            when=float(entry["when"]),
            times=times,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
