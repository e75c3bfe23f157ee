"""What was run, where and with what: enough to run it again."""

import datetime
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import final

PACKAGES = ("byrote", "torch", "numpy", "scipy", "scikit-learn", "pyarrow")


@final
@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Versions, machine, arguments and revision behind a result."""

    created: str
    """UTC, ISO 8601."""
    argv: tuple[str, ...]
    seed: int
    device: str
    dtype: str
    python: str
    platform: str
    versions: tuple[tuple[str, str], ...]
    git_revision: str
    """Of the working directory, with `+` when it has uncommitted changes; empty outside a repository."""
    num_threads: int


def provenance(*, seed: int, device: str, dtype: str, num_threads: int) -> Provenance:
    """Record the present process."""
    return Provenance(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        argv=(Path(sys.argv[0]).name, *sys.argv[1:]),
        seed=seed,
        device=device,
        dtype=dtype,
        python=platform.python_version(),
        platform=platform.platform(),
        versions=tuple((name, _version(name)) for name in PACKAGES),
        git_revision=_git_revision(),
        num_threads=num_threads,
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _git_revision() -> str:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
