"""How long `byrote --help` takes: the median of several starts, in seconds of wall time.

python benchmarks/cli_start.py [--starts 11]
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = Path(sys.executable).with_name("byrote")


def main() -> None:
    """Print the median, the fastest and the slowest start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=11)
    seconds = [one_start() for _ in range(parser.parse_args().starts)]
    print(f"byrote --help: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


def one_start() -> float:
    """Seconds of one `byrote --help`."""
    began = time.perf_counter()
    subprocess.run([SCRIPT, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
