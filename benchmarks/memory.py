"""Estimated and measured memory of model folders, each at several contexts, in a process of its own.

    python benchmarks/memory.py MODEL_FOLDER…

Steady is the resident memory after a prompt that fills the context, peak the highest that it ever was
(Linux: VmRSS and VmHWM). The aim is 10 % for both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.memory.estimate import estimate_memory
from lmsupply_cli.memory.shape import read_shape

CONTEXTS = (512, 4096)
MEASURE = """
import json, sys
from lmsupply_cli import load

def status():
    rows = (line.split() for line in open("/proc/self/status") if line.startswith(("VmRSS", "VmHWM")))
    return {row[0][:5]: int(row[1]) * 1024 for row in rows}

context = int(sys.argv[2])
model = load(sys.argv[1], context=context)
prompt = ""
while model.count_tokens(prompt) < context - 32:
    prompt += " some"
model.generate(prompt, max_tokens=8, min_length=8)
found = status()
print(json.dumps([found["VmRSS"], found["VmHWM"]]))
"""


def main() -> None:
    print(
        f"{'model':<16}{'context':>8}   {'steady MB':>10}{'estimate':>10}{'off':>7}   {'peak MB':>10}{'estimate':>10}{'off':>7}"
    )
    for name in sys.argv[1:]:
        folder = open_folder(Path(name))
        shape = read_shape(folder)
        assert shape is not None
        for context in (c for c in CONTEXTS if c <= shape.context_length):
            done = subprocess.run(
                [sys.executable, "-c", MEASURE, name, str(context)], capture_output=True, text=True, check=True
            )
            steady, peak = json.loads(done.stdout)
            estimate = estimate_memory(shape, context)
            cells = [
                f"{measured / 1e6:>10.0f}{estimated / 1e6:>10.0f}{100 * (estimated / measured - 1):>6.1f}%"
                for measured, estimated in ((steady, estimate.steady_bytes), (peak, estimate.peak_bytes))
            ]
            print(f"{Path(name).name:<16}{context:>8}   {cells[0]}   {cells[1]}")


if __name__ == "__main__":
    main()
