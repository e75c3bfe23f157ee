"""Build the wheel, install it into an empty environment and run it there as a user would.

What is tested in a checkout is not what people install: a file that the wheel lacks, or a dependency that only the
development environment has, shows here and nowhere else.

    python scripts/check_wheel.py [--keep]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARTIFACTS = ("findings.json", "findings.parquet", "examples.parquet", "report.html")
AUDIT = ("audit", "digits", "--runs", "2", "--epochs", "2", "--width", "16", "--json")


def main() -> int:
    """Run the check; the exit status is 0 when all of it passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the environment and the audit where they are")
    keep = parser.parse_args().keep
    folder = Path(tempfile.mkdtemp(prefix="byrote-wheel-"))
    try:
        wheel = build(folder / "dist")
        python = install(wheel, folder / "environment")
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        check_origin(python, elsewhere)
        check_commands(python.with_name("byrote"), elsewhere)
    except CheckError as error:
        print(f"The built wheel does not work: {error}", file=sys.stderr)
        return 1
    finally:
        if keep:
            print(f"Left in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{wheel.name} installs into an empty environment and audits the digits there.")
    return 0


class CheckError(Exception):
    """What the wheel fails at."""


def build(folder: Path) -> Path:
    """Build the wheel with the hatchling that is installed here."""
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)], cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel into an environment that holds nothing else; returns its Python."""
    venv.EnvBuilder(with_pip=True).create(folder)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--constraint", str(ROOT / "constraints.txt"), str(wheel)], cwd=folder)
    return python


def check_origin(python: Path, elsewhere: Path) -> None:
    """What is imported is the wheel's, typed, and has all its declared names."""
    lines = [
        "import byrote, pathlib",
        "missing = [name for name in byrote.__all__ if not hasattr(byrote, name)]",
        "folder = pathlib.Path(byrote.__file__).parent",
        "print(folder, (folder / 'py.typed').exists(), missing, sep='|')",
    ]
    origin, typed, missing = run([str(python), "-c", "\n".join(lines)], cwd=elsewhere).strip().split("|")
    if "site-packages" not in origin:
        raise CheckError(f"expected byrote from site-packages, got {origin}")
    if typed != "True" or missing != "[]":
        raise CheckError(f"expected py.typed and every name of __all__, got typed={typed}, missing {missing}")


def check_commands(byrote: Path, elsewhere: Path) -> None:
    """The commands of the README's first screen, small."""
    run([str(byrote), "--help"], cwd=elsewhere)
    if "digits" not in (listed := run([str(byrote), "list"], cwd=elsewhere)):
        raise CheckError(f"expected `byrote list` to name the task digits, got:\n{listed}")
    out = elsewhere / "audit"
    answer = run([str(byrote), *AUDIT, "--out", str(out)], cwd=elsewhere)
    try:
        findings = json.loads(answer)
    except json.JSONDecodeError as error:
        raise CheckError(f"expected JSON alone on standard output, got {error}:\n{answer[:500]}") from error
    if not isinstance(findings, list) or not findings:
        raise CheckError(f"expected a JSON array of findings, got:\n{answer[:500]}")
    if absent := [name for name in ARTIFACTS if not (out / name).is_file() or not (out / name).stat().st_size]:
        raise CheckError(f"expected the audit to leave {', '.join(ARTIFACTS)}; not there: {', '.join(absent)}")
    (out / "report.html").unlink()
    run([str(byrote), "report", str(out)], cwd=elsewhere)
    if not (out / "report.html").is_file():
        raise CheckError("expected `byrote report` to draw the report again from what is stored")


def run(command: list[str], *, cwd: Path) -> str:
    """Run a command without this checkout in sight; returns its standard output."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CheckError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
