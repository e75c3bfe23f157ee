"""A monitor as tensors, to be stored with a checkpoint."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from byrote.core import SpecError, StoreError
from byrote.monitoring.columns import COLUMNS, Row

State = dict[str, Shaped[Tensor, "..."]]
"""Names and tensors on the CPU; nothing else, so that any safe reader reads it."""

KIND = 1
"""Raised when the state changes shape."""


def rows_as_tensors(rows: Sequence[Row]) -> State:
    """One tensor for each column; what is not measured is told apart from what is not a number."""
    state: State = {}
    for name in COLUMNS:
        values = [row.get(name, 0.0) for row in rows]
        state[f"rows.{name}"] = torch.tensor(values, dtype=torch.float64)
        state[f"known.{name}"] = torch.tensor([name in row for row in rows], dtype=torch.bool)
    return state


def rows_of(state: Mapping[str, Tensor]) -> list[Row]:
    """The rows again."""
    names = [name for name in COLUMNS if f"rows.{name}" in state]
    values = {name: state[f"rows.{name}"].tolist() for name in names}
    known = {name: state[f"known.{name}"].tolist() for name in names}
    return [{name: values[name][place] for name in names if known[name][place]} for place in range(len(values["step"]))]


def as_bytes(value: Any) -> Shaped[Tensor, "byte"]:
    """Plain values as the bytes of their JSON.

    >>> of_bytes(as_bytes({"a": [1, "π"]}))
    {'a': [1, 'π']}
    """
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


def of_bytes(stored: Shaped[Tensor, "byte"]) -> Any:
    """Plain values again."""
    return json.loads(bytes(stored.tolist()).decode())


def check(state: Mapping[str, Tensor], *, num_parameters: int) -> None:
    """Refuse what is no monitor's state, or one of another network.

    Raises:
        SpecError: it is.
    """
    if "monitor" not in state or "rows.step" not in state or "start" not in state:
        raise SpecError(f"Expected a monitor's state_dict, got {', '.join(list(state)[:5]) or 'nothing'}.")
    if int(state["monitor"]) > KIND:
        raise SpecError(
            f"Expected a monitor's state of kind {KIND} or before, got {int(state['monitor'])}. Install a newer byrote."
        )
    if len(state["start"]) != num_parameters:
        raise SpecError(
            f"Expected the state of a monitor of {num_parameters:,} parameters, got one of {len(state['start']):,}: "
            "it is of another model, or of other parameters."
        )


def write_state(state: State, *, path: Path) -> None:
    """As a safetensors file, whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file({name: part.contiguous() for name, part in state.items()}, unfinished)
        os.replace(unfinished, path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"Could not write {path}: {error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_state(path: Path) -> State:
    """From such a file.

    Raises:
        StoreError: there is none, or it is no safetensors file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"Could not read {path}: {error}.") from error
