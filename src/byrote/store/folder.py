"""Runs on disk: Parquet, JSON and safetensors, readable without byrote."""

import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from typing_extensions import override

from byrote.core import StoreError
from byrote.records import Fit, FitSpec, Run, RunCurves, RunSpec, Trace, decode, dumps, encode
from byrote.store.store import AbstractStore

SCHEMA = 1
"""Of the files of a run or fit. Raised when they change shape; newer ones are refused."""

R = TypeVar("R", Run, Fit)


@final
class FolderStore(AbstractStore):
    """`runs/<key>/` with `spec.json`, `curves.parquet`, `trace.safetensors`; `fits/<key>/` with `spec.json`,
    `outputs.safetensors`.

    A run is written under a temporary name and then renamed, so it is there whole or not at all, and two processes
    may share a folder: whoever renames first wins, and both wrote the same.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder, made when the first run is written."""
        self.folder = folder

    @override
    def __contains__(self, spec: RunSpec | FitSpec) -> bool:
        return (self._place(spec) / "spec.json").exists()

    @override
    def read_run(self, spec: RunSpec) -> Run:
        return self._read(spec, _read_run)

    @override
    def write_run(self, run: Run) -> None:
        def fill(place: Path) -> None:
            curves = {part.name: getattr(run.curves, part.name) for part in fields(RunCurves)}
            pq.write_table(pa.table(curves), place / "curves.parquet")
            trace = {part.name: np.ascontiguousarray(getattr(run.trace, part.name)) for part in fields(Trace)}
            save_file(trace, place / "trace.safetensors")
            about = {"status": run.status, "message": run.message, "seconds": run.seconds, "spec": encode(run.spec)}
            _write_json(place / "spec.json", {"kind": "run", **about})

        self._write(run.spec, fill)

    @override
    def read_fit(self, spec: FitSpec) -> Fit:
        return self._read(spec, _read_fit)

    @override
    def write_fit(self, fit: Fit) -> None:
        def fill(place: Path) -> None:
            outputs = {"train_outputs": fit.train_outputs, "test_outputs": fit.test_outputs}
            present = {name: np.ascontiguousarray(part) for name, part in outputs.items() if part is not None}
            save_file(present, place / "outputs.safetensors")
            about = {"note": fit.note, "seconds": fit.seconds, "spec": encode(fit.spec)}
            _write_json(place / "spec.json", {"kind": "fit", **about})

        self._write(fit.spec, fill)

    def _place(self, spec: RunSpec | FitSpec) -> Path:
        return self.folder / ("runs" if isinstance(spec, RunSpec) else "fits") / spec.key

    def _read(self, spec: RunSpec | FitSpec, read: Callable[[Path, dict[str, Any]], R]) -> R:
        place = self._place(spec)
        if spec not in self:
            raise KeyError(spec.key)
        try:
            about = json.loads((place / "spec.json").read_text(encoding="utf-8"))
            _refuse_other_schema(place / "spec.json", about["schema"])
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

    def _write(self, spec: RunSpec | FitSpec, fill: Callable[[Path], None]) -> None:
        if spec in self:
            return
        place = self._place(spec)
        temporary = place.parent / f".writing-{place.name}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            temporary.mkdir(parents=True)
            fill(temporary)
            os.replace(temporary, place)
        except (OSError, SafetensorError, pa.ArrowException) as error:
            if spec in self:  # Another process was faster; it wrote the same run.
                return
            raise StoreError(_advice(place, error)) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _read_run(place: Path, about: dict[str, Any]) -> Run:
    tensors, curves = load_file(place / "trace.safetensors"), pq.read_table(place / "curves.parquet")
    return Run(
        spec=decode(RunSpec, about["spec"], source=str(place / "spec.json")),
        status=about["status"],
        message=about["message"],
        seconds=about["seconds"],
        curves=RunCurves(**{part.name: curves[part.name].to_numpy() for part in fields(RunCurves)}),
        trace=Trace(**{part.name: tensors[part.name] for part in fields(Trace)}),
    )


def _read_fit(place: Path, about: dict[str, Any]) -> Fit:
    tensors = load_file(place / "outputs.safetensors")
    return Fit(
        spec=decode(FitSpec, about["spec"], source=str(place / "spec.json")),
        train_outputs=tensors.get("train_outputs"),
        test_outputs=tensors["test_outputs"],
        note=about["note"],
        seconds=about["seconds"],
    )


def _refuse_other_schema(path: Path, schema: object) -> None:
    if schema != SCHEMA:
        raise StoreError(
            f"{path} has schema {schema!r}; this byrote reads {SCHEMA}. Upgrade byrote, or choose another folder with "
            f"--out."
        )


def _write_json(path: Path, about: dict[str, Any]) -> None:
    path.write_text(dumps({"schema": SCHEMA, **about}), encoding="utf-8")


def _advice(place: Path, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if place.exists():
        return f"{place} is there but not whole ({reason}). Delete that folder to have it made again."
    return (
        f"Could not write to {place.parent}: {reason}. What was stored before is intact. Free some space, make it "
        f"writable, or choose another folder with --out; then start again, and only what is missing is made."
    )
