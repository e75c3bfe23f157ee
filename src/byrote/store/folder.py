"""Runs on disk: Parquet, JSON and safetensors, readable without byrote."""

import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from byrote.core import StoreError
from byrote.records import Fit, FitSpec, Run, RunCurves, RunSpec, Trace, decode, dumps, encode
from byrote.store.store import AbstractStore

SCHEMA = 1


@final
class FolderStore(AbstractStore):
    """`runs/<key>/` with `spec.json`, `curves.parquet`, `trace.safetensors`; `fits/<key>/` likewise.

    A run is written under a temporary name and then renamed, so it is there whole or not at all, and two processes
    may share a folder: whoever renames first wins, and both wrote the same.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder, made when the first run is written."""
        self.folder = folder

    def __contains__(self, spec: RunSpec | FitSpec) -> bool:
        return (self._place(spec) / "spec.json").exists()

    def read_run(self, spec: RunSpec) -> Run:
        place = self._place(spec)
        if spec not in self:
            raise KeyError(spec.key)
        about = _read_json(place / "spec.json")
        tensors = _reading(place, lambda: load_file(place / "trace.safetensors"))
        curves = _reading(place, lambda: pq.read_table(place / "curves.parquet"))
        return Run(
            spec=decode(RunSpec, about["spec"], source=str(place / "spec.json")),
            status=about["status"],
            message=about["message"],
            seconds=about["seconds"],
            curves=RunCurves(**{part.name: curves[part.name].to_numpy() for part in fields(RunCurves)}),
            trace=Trace(**{part.name: tensors[part.name] for part in fields(Trace)}),
        )

    def write_run(self, run: Run) -> None:
        def fill(place: Path) -> None:
            curves = {part.name: getattr(run.curves, part.name) for part in fields(RunCurves)}
            pq.write_table(pa.table(curves), place / "curves.parquet")
            trace = {part.name: np.ascontiguousarray(getattr(run.trace, part.name)) for part in fields(Trace)}
            save_file(trace, place / "trace.safetensors")
            about = {"status": run.status, "message": run.message, "seconds": run.seconds, "spec": encode(run.spec)}
            (place / "spec.json").write_text(dumps({"schema": SCHEMA, "kind": "run", **about}), encoding="utf-8")

        self._write(self._place(run.spec), fill)

    def read_fit(self, spec: FitSpec) -> Fit:
        place = self._place(spec)
        if spec not in self:
            raise KeyError(spec.key)
        about = _read_json(place / "spec.json")
        tensors = _reading(place, lambda: load_file(place / "outputs.safetensors"))
        return Fit(
            spec=decode(FitSpec, about["spec"], source=str(place / "spec.json")),
            train_outputs=tensors.get("train_outputs"),
            test_outputs=tensors["test_outputs"],
            note=about["note"],
            seconds=about["seconds"],
        )

    def write_fit(self, fit: Fit) -> None:
        def fill(place: Path) -> None:
            outputs = {"train_outputs": fit.train_outputs, "test_outputs": fit.test_outputs}
            present = {name: np.ascontiguousarray(part) for name, part in outputs.items() if part is not None}
            save_file(present, place / "outputs.safetensors")
            about = {"note": fit.note, "seconds": fit.seconds, "spec": encode(fit.spec)}
            (place / "spec.json").write_text(dumps({"schema": SCHEMA, "kind": "fit", **about}), encoding="utf-8")

        self._write(self._place(fit.spec), fill)

    def _place(self, spec: RunSpec | FitSpec) -> Path:
        return self.folder / ("runs" if isinstance(spec, RunSpec) else "fits") / spec.key

    def _write(self, place: Path, fill: Callable[[Path], None]) -> None:
        if place.exists():
            return
        temporary = place.parent / f".writing-{place.name}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            temporary.mkdir(parents=True)
            fill(temporary)
            os.replace(temporary, place)
        except OSError as error:
            if place.exists():  # Another process was faster; it wrote the same run.
                return
            raise StoreError(
                f"Could not write to {place.parent}: {error.strerror or error}. What was stored before is intact. "
                f"Free some space or choose another folder with --out."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _read_json(path: Path) -> dict[str, Any]:
    about = _reading(path.parent, lambda: json.loads(path.read_text(encoding="utf-8")))
    if about.get("schema") != SCHEMA:
        raise StoreError(
            f"{path} has schema {about.get('schema')!r}; this byrote reads {SCHEMA}. "
            f"Upgrade byrote, or choose another folder with --out."
        )
    return about


def _reading(place: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:
        raise StoreError(f"{place} cannot be read ({error}). Delete that folder to have it trained again.") from error
