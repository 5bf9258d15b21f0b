"""Start-up beside what it cannot be faster than: `lmsupply --help` and `python -c "import typer"`.

    python benchmarks/startup.py [ROUNDS]

The two are run in turn, so that both see the same noise; medians and their ratio are printed.
The aim is a ratio of at most 1.3.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
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
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if number >= 2:  # the first rounds warm the caches
                seconds[name].append(time.perf_counter() - began)
    base = statistics.median(seconds["import typer"])
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"{name:<20} {median * 1000:6.1f} ms   {median / base:.2f}")


if __name__ == "__main__":
    main()
