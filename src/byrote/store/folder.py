"""Runs on disk: Parquet, JSON and safetensors, readable without byrote."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from typing_extensions import override

from byrote.core import StoreError
from byrote.records import (
    NOTHING,
    Extras,
    Fit,
    FitSpec,
    ProbeResult,
    Run,
    RunCurves,
    RunSpec,
    Trace,
    decode,
    encode,
)
from byrote.store.claims import Claims
from byrote.store.durable import make_folder, sync_file, sync_folder, sync_tree
from byrote.store.leftovers import leftover_name, sweep
from byrote.store.manifest import (
    NAME,
    PROBES,
    WEIGHTS,
    check_file,
    missing_part,
    place_of,
    probe_file,
    read_manifest,
    refuse_other_schema,
    stamps,
    write_manifest,
)
from byrote.store.store import AbstractStore

R = TypeVar("R", Run, Fit)
_PROBE_KEY = re.compile(r"\w[\w.-]*", re.ASCII)


@final
class FolderStore(AbstractStore):
    """`runs/<key>/` with `spec.json`, `curves.parquet`, `trace.safetensors` and what else was asked for;
    `fits/<key>/` with `spec.json`, `outputs.safetensors`; `claims/` with who works on what.

    A run is written under a temporary name, waited for until it is on the disk, and then renamed, so it is there whole
    or not at all, whatever kills the process or the machine. Processes may share a folder: whoever renames first wins,
    and both wrote the same.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder, made when something is first written or claimed."""
        self.folder = folder
        self._claims = Claims(folder)
        self._opened = False

    @override
    def __contains__(self, spec: RunSpec | FitSpec, /) -> bool:
        return self.has(spec)

    @override
    def has(self, spec: RunSpec | FitSpec, /, *, extras: Extras = NOTHING) -> bool:
        place = place_of(self.folder, spec)
        try:
            return not missing_part(place, read_manifest(place), extras=_files_of(extras))
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, AttributeError):
            return False
        except OSError as error:
            raise StoreError(f"{place} cannot be read: {error.strerror}. Make {self.folder} readable.") from error

    @override
    @contextmanager
    def claim(self, specs: Sequence[RunSpec | FitSpec], /) -> Iterator[tuple[RunSpec | FitSpec, ...]]:
        with ExitStack() as held:
            try:
                self._open()
                holder = held.enter_context(self._claims.hold([spec.key for spec in specs]))
            except OSError as error:
                raise self._failure(error) from error
            yield tuple(spec for spec in dict.fromkeys(specs) if spec.key in holder.keys)

    @override
    def read_run(self, spec: RunSpec, *, extras: Extras | None = None) -> Run:
        if extras is not None and spec in self and not self.has(spec, extras=extras):
            raise KeyError(f"{spec.key} with {extras}")
        return self._read(spec, partial(_read_run, extras=extras))

    @override
    def write_run(self, run: Run, /) -> None:
        extras = Extras(probes=tuple(run.probes), weights=run.weights is not None)
        self._write(run.spec, partial(_fill_run, run), extras=extras)

    @override
    def read_fit(self, spec: FitSpec) -> Fit:
        return self._read(spec, _read_fit)

    @override
    def write_fit(self, fit: Fit, /) -> None:
        self._write(fit.spec, partial(_fill_fit, fit), extras=NOTHING)

    def _read(self, spec: RunSpec | FitSpec, read: Callable[[Path, dict[str, Any]], R]) -> R:
        place = place_of(self.folder, spec)
        if not (place / NAME).exists():
            raise KeyError(spec.key)
        try:
            about = read_manifest(place)
            refuse_other_schema(place, about["schema"])
            lack = missing_part(place, about)
            if lack:
                raise ValueError(lack)
            record = read(place, about)
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(
                f"{place} cannot be read ({type(error).__name__}: {error}). Delete that folder to have it made again."
            ) from error
        if record.spec != spec:
            raise StoreError(
                f"{place} holds another spec than its name says. Delete that folder to have it made again."
            )
        return replace(record, spec=spec)  # Equal, and it carries the factory of a user's own model.

    def _open(self) -> None:
        """Make the folder when something is first put into it. Should it vanish later, it is not made again."""
        if not self._opened:
            make_folder(self.folder)
            sweep(self.folder)
            self._opened = True

    def _write(self, spec: RunSpec | FitSpec, fill: Callable[[Path], None], *, extras: Extras) -> None:
        if self.has(spec, extras=extras):
            return
        place = place_of(self.folder, spec)
        try:
            self._open()
            with self._claims.hold() as holder:
                temporary = place.with_name(leftover_name(spec.key, holder=holder.name))
                try:
                    _make_inside(self.folder, place.parent)
                    temporary.mkdir()
                    fill(temporary)
                    sync_tree(temporary)
                    self._put(temporary, place)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
        except (OSError, SafetensorError, pa.ArrowException) as error:
            raise self._failure(error) from error

    def _put(self, temporary: Path, place: Path) -> None:
        """Give what is written its name; where there is something already, put what that lacks into it."""
        if not place.exists():
            try:
                os.replace(temporary, place)
                sync_folder(place.parent)
                return
            except OSError:
                if not place.exists():
                    raise
        with self._claims.gate():
            about = _whole_manifest(place)
            if about is not None:
                _add(temporary, place, about)
                return
            old = temporary.with_name(temporary.name + ".old")
            try:
                os.replace(place, old)
                os.replace(temporary, place)
                sync_folder(place.parent)
            finally:
                shutil.rmtree(old, ignore_errors=True)

    def _failure(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if self._opened and not self.folder.is_dir():
            return StoreError(f"{self.folder} was removed while it was in use. Start again to have its runs made anew.")
        number = _number(error)
        reason = os.strerror(number) if number else str(error)
        return StoreError(
            f"Could not write to {self.folder}: {reason}. What was stored before is intact. {_advice(number)} Then "
            f"start again, and only what is missing is made; or choose another folder with --out."
        )


def _make_inside(folder: Path, inner: Path) -> None:
    """Make a folder in one that has to be there."""
    if not inner.is_dir():
        inner.mkdir(exist_ok=True)
        sync_folder(folder)


def _files_of(extras: Extras) -> list[str]:
    return [*map(probe_file, extras.probes), *([WEIGHTS] if extras.weights else [])]


def _whole_manifest(place: Path) -> dict[str, Any] | None:
    try:
        about = read_manifest(place)
        return None if missing_part(place, about) else about
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _add(temporary: Path, place: Path, about: dict[str, Any]) -> None:
    """Add to a run what it lacks: the files first, and then, in one step, a `spec.json` that names them."""
    new = read_manifest(temporary)
    lacking = [name for name in new["files"] if missing_part(place, about, extras=[name])]
    if not lacking:
        return
    for name in lacking:
        _make_inside(place, (place / name).parent)
        os.replace(temporary / name, place / name)
        sync_folder((place / name).parent)
    probes = {key: new["probes"][key] for key in new.get("probes", {}) if probe_file(key) in lacking}
    files = {name: new["files"][name] for name in lacking}
    merged = {"probes": {**about.get("probes", {}), **probes}, "files": {**about.get("files", {}), **files}}
    write_manifest(temporary, {**about, **merged})
    sync_file(temporary / NAME)
    os.replace(temporary / NAME, place / NAME)
    sync_folder(place)


def _fill_run(run: Run, place: Path) -> None:
    curves = {part.name: getattr(run.curves, part.name) for part in fields(RunCurves)}
    pq.write_table(pa.table(curves), place / "curves.parquet")
    _save({part.name: getattr(run.trace, part.name) for part in fields(Trace)}, place / "trace.safetensors")
    if run.weights is not None:
        _save(run.weights, place / WEIGHTS)
    if run.probes:
        (place / PROBES).mkdir()
    for key, result in run.probes.items():
        _save(result.values, place / probe_file(_checked(key)))
    about = {"status": run.status, "message": run.message, "seconds": run.seconds, "spec": encode(run.spec)}
    probes = {key: _about_probe(result) for key, result in run.probes.items()}
    write_manifest(place, {"kind": "run", **about, "probes": probes, "files": stamps(place)})


def _fill_fit(fit: Fit, place: Path) -> None:
    outputs = {"train_outputs": fit.train_outputs, "test_outputs": fit.test_outputs}
    _save({name: part for name, part in outputs.items() if part is not None}, place / "outputs.safetensors")
    about = {"note": fit.note, "seconds": fit.seconds, "spec": encode(fit.spec)}
    write_manifest(place, {"kind": "fit", **about, "files": stamps(place)})


def _save(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays as they lie in memory; only views with gaps in them are copied."""
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)


def _about_probe(result: ProbeResult) -> dict[str, Any]:
    settings = dict(result.settings)
    return {"name": result.name, "settings": settings, "steps": result.steps.tolist(), "seconds": result.seconds}


def _checked(key: str) -> str:
    if not _PROBE_KEY.fullmatch(key):
        raise ValueError(f"Expected a probe's key of letters, digits, '_', '.' and '-', got {key!r}.")
    return key


def _read_run(place: Path, about: dict[str, Any], *, extras: Extras | None) -> Run:
    tensors = _load(place, about, "trace.safetensors")
    curves = pq.read_table(check_file(place, about, "curves.parquet"))
    described = about.get("probes", {})
    weights = WEIGHTS in about.get("files", {}) if extras is None else extras.weights
    return Run(
        spec=decode(RunSpec, about["spec"], source=str(place / NAME)),
        status=about["status"],
        message=about["message"],
        seconds=about["seconds"],
        curves=RunCurves(**{part.name: curves[part.name].to_numpy() for part in fields(RunCurves)}),
        trace=Trace(**{part.name: tensors[part.name] for part in fields(Trace)}),
        probes={
            key: _probe_result(described[key], _load(place, about, probe_file(key)))
            for key in (described if extras is None else extras.probes)
        },
        weights=_load(place, about, WEIGHTS) if weights else None,
    )


def _probe_result(about: Mapping[str, Any], values: dict[str, np.ndarray]) -> ProbeResult:
    steps = np.asarray(about["steps"], dtype=np.int64)
    return ProbeResult(
        name=about["name"], settings=about["settings"], steps=steps, values=values, seconds=about["seconds"]
    )


def _read_fit(place: Path, about: dict[str, Any]) -> Fit:
    tensors = _load(place, about, "outputs.safetensors")
    return Fit(
        spec=decode(FitSpec, about["spec"], source=str(place / NAME)),
        train_outputs=tensors.get("train_outputs"),
        test_outputs=tensors["test_outputs"],
        note=about["note"],
        seconds=about["seconds"],
    )


def _load(place: Path, about: dict[str, Any], name: str) -> dict[str, np.ndarray]:
    return load_file(check_file(place, about, name))


def _number(error: Exception) -> int | None:
    """The system's number of an error, which a library written in Rust gives as text."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else None


def _advice(number: int | None) -> str:
    match number:
        case errno.ENOSPC | errno.EDQUOT:
            return "Free some space."
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return "Make it writable."
        case errno.EEXIST | errno.ENOTDIR:
            return "A file is where a folder should be."
        case _:
            return "Free some space, or make it writable."
