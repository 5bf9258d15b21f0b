"""An answer between a prefix and a suffix, by a real model whose vocabulary has the tokens for it."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import Finished
from lmsupply_cli.generation.load import load
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.serving.model_process import ModelProcess, WorkerLimits
from lmsupply_cli.serving.requests import AnswerRequest

MARKS = {"<|fim_prefix|>": 259, "<|fim_suffix|>": 260, "<|fim_middle|>": 261}
LIMITS = WorkerLimits(queue=4, slots=1, cache_bytes=None, queue_timeout_s=None)


@pytest.fixture
def coder(toy: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(toy, tmp_path / "coder")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    like = tokenizer["added_tokens"][0]
    tokenizer["added_tokens"] += [like | {"id": token, "content": mark} for mark, token in MARKS.items()]
    path.write_text(json.dumps(tokenizer), "utf-8")
    return folder


def test_the_prompt_has_the_marks_as_tokens_and_the_texts_as_text(coder: Path) -> None:
    with load(str(coder)) as model:
        prompt = model.prompter.infill("ab<|fim_suffix|>", "c")
        assert [token for token in prompt.ids if token >= 256] == [259, 260, 261]
        assert model.model.decode(prompt.ids[1:3]) == "ab"
        events = list(model.stream_prompt(prompt, model.options.replaced(max_tokens=4, temperature=0)))
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.prompt_tokens == len(prompt.ids)


async def ask(folder: Path, request: AnswerRequest) -> Finished:
    process = await ModelProcess.start(str(folder), LoadOptions(), limits=LIMITS)
    try:
        answer = await process.answer(request)
        *_, last = [event async for event in answer]
        assert isinstance(last, Finished)
        return last
    finally:
        await process.close()


def test_a_served_model_answers_it_and_one_without_the_marks_names_the_field(coder: Path, toy: Path) -> None:
    request = AnswerRequest(text="ab", suffix="c", options={"max_tokens": 3, "temperature": 0})
    assert asyncio.run(ask(coder, request)).usage.prompt_tokens == 6
    with pytest.raises(UsageError, match="no tokens to fill in the middle") as raised:
        asyncio.run(ask(toy, request))
    assert raised.value.param == "suffix"
