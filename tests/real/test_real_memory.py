"""The estimate of the memory against what a process takes that does nothing but load the model and answer."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.real_model import Imports

from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.memory.estimate import estimate_memory
from lmsupply_cli.memory.shape import read_shape

MEASURE = """
import json, sys
from lmsupply_cli import load

context = int(sys.argv[2])
with load(sys.argv[1], context=context) as model:
    prompt = " some" * (context - 40)
    answer = model.generate(prompt, raw=True, max_tokens=8, min_length=8)
    assert answer.usage.prompt_tokens == context - 40, answer.usage
    rows = (line.split() for line in open("/proc/self/status") if line.startswith(("VmRSS", "VmHWM")))
    found = {row[0]: int(row[1]) * 1024 for row in rows}
print(json.dumps([found["VmRSS:"], found["VmHWM:"]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("form", "context"), [("exact", 768), ("int4", 384), ("int8", 384), ("fp32", 384)])
def test_the_estimate_is_within_a_tenth(imports: Imports, form: str, context: int) -> None:
    folder = imports.folder(form)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), str(context)], capture_output=True, text=True, check=True
    )
    steady, peak = json.loads(done.stdout)
    shape = read_shape(open_folder(folder))
    assert shape is not None
    estimate = estimate_memory(shape, context)
    assert estimate.steady_bytes == pytest.approx(steady, rel=0.1)
    assert estimate.peak_bytes == pytest.approx(peak, rel=0.1)
