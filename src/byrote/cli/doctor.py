"""`byrote doctor`."""

import math
import os
import time
from datetime import UTC, datetime
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from byrote.auditing import num_workers
from byrote.cli.console import DONE, exit_status
from byrote.records import dumps, provenance
from byrote.training import Remembered, RememberedPath

SIZE = 1024
"""Rows and columns of the matrices whose product is timed: large enough to leave caches and calls behind."""
MEASURED = 0.5
"""Seconds of such products."""


def run(*, as_json: bool, forget: bool) -> int:
    """Say what byrote runs on and what it remembers. Returns the exit status."""
    return exit_status(lambda: _examine(as_json, forget))


def _examine(as_json: bool, forget: bool) -> int:
    remembered = Remembered.default()
    forgotten = remembered.forget() if forget else None
    facts, entries = _facts(), remembered.entries()
    if as_json:
        paths = [vars(entry) | {"times": dict(entry.times)} for entry in entries]
        cache = {"cache": str(remembered.folder), "forgotten": forgotten, "paths": paths}
        typer.echo(dumps(facts | cache))
        return DONE
    console = Console()
    if forgotten is not None:
        console.print(Text(f"Forgot {forgotten:,} timings. They are made again when they are needed."))
    console.print(_table(facts | {"cache": str(remembered.folder)}))
    console.print()
    console.print(_paths(entries) if entries else Text("No timings are remembered yet."))
    return DONE


def _facts() -> dict[str, Any]:
    """Versions, machine and speed."""
    made = provenance(seed=0, device="", dtype="", num_threads=torch.get_num_threads())
    return {
        **dict(made.versions),
        "python": made.python,
        "platform": made.platform,
        "devices": _devices(),
        "processors": os.cpu_count(),
        "processors that byrote may use": num_workers("auto"),
        "threads within an operation": made.num_threads,
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", ""),
        "OPENBLAS_THREAD_TIMEOUT": os.environ.get("OPENBLAS_THREAD_TIMEOUT", ""),
        "TF32 in matrix products": bool(torch.backends.cuda.matmul.allow_tf32),
        "TF32 in convolutions": bool(torch.backends.cudnn.allow_tf32),
        "matrix products on one core, GFLOP/s": round(matrix_product_peak(), 1),
    }


def _devices() -> list[str]:
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return ["cpu", *(f"cuda:{number} ({name})" for number, name in enumerate(names))]


def matrix_product_peak() -> float:
    """Measure how many 10⁹ operations a second one core does in float32 products of n × n matrices, 2n³ in each.

    The fastest of those that fit into half a second of this process's own time, whatever else the machine does.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = torch.Generator().manual_seed(0)
        left, right = (torch.rand(SIZE, SIZE, generator=generator) for _ in range(2))
        out, times = torch.empty(SIZE, SIZE), list[float]()
        ends = time.thread_time() + MEASURED
        while len(times) < 2 or time.thread_time() < ends:
            began = time.thread_time()
            torch.mm(left, right, out=out)
            times.append(time.thread_time() - began)
    finally:
        torch.set_num_threads(threads)
    return 2 * SIZE**3 / min(times) / 1e9


def _table(facts: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(_words(value)))
    return table


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _paths(entries: list[RememberedPath]) -> Table:
    """What was fastest, the latest first."""
    table = Table(box=None, pad_edge=False, header_style="dim", title="fastest ways to train", title_justify="left")
    table.add_column("model", overflow="fold")
    table.add_column("batch", overflow="fold")
    table.add_column("fastest", overflow="fold")
    table.add_column("than one at a time", justify="right")
    table.add_column("timed", no_wrap=True)
    for entry in entries:
        when = datetime.fromtimestamp(entry.when, UTC).astimezone()
        table.add_row(entry.model, entry.batch, entry.path, _ratio(entry), f"{when:%Y-%m-%d}")
    return table


def _ratio(entry: RememberedPath) -> str:
    """How many times as fast as the fastest way to train one at a time."""
    alone = [seconds for way, seconds in entry.times.items() if way.startswith("single")]
    ratio = min(alone, default=math.nan) / entry.times[entry.path]
    return f"{ratio:.1f} ×" if math.isfinite(ratio) else ""
