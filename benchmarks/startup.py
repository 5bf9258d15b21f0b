"""Start-up beside what it cannot be faster than: `lmsupply --help` and `python -c "import typer"`.

    python benchmarks/startup.py [ROUNDS]

They are run in turn, so that all see the same noise; medians of the processor time and their ratios are printed. The aims
are 1.3 for --help and --version, and 2.5 for models and hw.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(sys.executable).with_name("lmsupply")
COMMANDS = {
    "import typer": [sys.executable, "-c", "import typer"],
    "lmsupply --help": [str(SCRIPT), "--help"],
    "lmsupply --version": [str(SCRIPT), "--version"],
    "lmsupply models": [str(SCRIPT), "models"],
    "lmsupply hw": [str(SCRIPT), "hw"],
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 2):
        for name, command in COMMANDS.items():
            began = children_s()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if number >= 2:  # the first rounds warm the caches
                seconds[name].append(children_s() - began)
    base = statistics.median(seconds["import typer"])
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"{name:<20} {median * 1000:6.1f} ms   {median / base:.2f}")


def children_s() -> float:
    """Processor time of the commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
