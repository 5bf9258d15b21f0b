"""Programs that others wrote, on a real server: LangChain, LiteLLM and llm. Each runs in a process of its own, and is skipped
where it is not installed (`pip install 'lmsupply[clients]'`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.serving import serving, url_in

KEY = "k3y"
QUESTION = "How do I download a model?"
ANSWER = "lmsupply pull"

LANGCHAIN = """
from typing import Literal
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

class Lamp(BaseModel):
    "Set the color of a lamp."
    color: Literal["red", "green"]

model = ChatOpenAI(model="guide", base_url=url + "/v1", api_key=key, temperature=0, max_tokens=60, max_retries=0)
whole = model.invoke(question)
found["whole"], found["usage"] = whole.content, dict(whole.usage_metadata)
found["streamed"] = "".join(chunk.content for chunk in model.stream(question))
found["batch"] = [answer.content for answer in model.batch([question, "thanks"])]
found["schema"] = model.with_structured_output(Lamp, method="json_schema").invoke("red").color
found["function"] = model.with_structured_output(Lamp, method="function_calling").invoke("red").color
called = model.bind_tools([Lamp], tool_choice="any").invoke("red")
found["calls"] = [[call["name"], call["args"]] for call in called.tool_calls]
result = ToolMessage("done", tool_call_id=called.tool_calls[0]["id"])
found["after"] = model.bind_tools([Lamp], tool_choice="none").invoke([HumanMessage("red"), called, result]).content
responses = ChatOpenAI(model="guide", base_url=url + "/v1", api_key=key, use_responses_api=True, max_retries=0)
found["responses"] = responses.invoke("thanks").text
try:
    model.invoke("word " * 3000)
except Exception as error:
    found["overflow"] = type(error).__name__
"""
LITELLM = """
import litellm
litellm.suppress_debug_info = True
asked = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 40, "num_retries": 0, "api_key": key}
for name, base in (("openai", url + "/v1"), ("anthropic", url), ("ollama_chat", url)):
    whole = litellm.completion(model=name + "/guide", api_base=base, **asked)
    pieces = litellm.completion(model=name + "/guide", api_base=base, stream=True, **asked)
    found[name] = [whole.choices[0].message.content, "".join(chunk.choices[0].delta.content or "" for chunk in pieces)]
tool = {"type": "function", "function": {"name": "lamp", "parameters": {
    "type": "object", "properties": {"color": {"enum": ["red", "green"]}}, "required": ["color"]}}}
answer = litellm.completion(model="openai/guide", api_base=url + "/v1", tools=[tool], tool_choice="required", **asked)
found["call"] = answer.choices[0].message.tool_calls[0].function.name
try:
    litellm.completion(model="openai/guide", api_base=url + "/v1", **(asked | {"messages": [{"role": "user", "content": "word " * 3000}]}))
except Exception as error:
    found["overflow"] = type(error).__name__
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("clients")
    with serving(home, "guide", "--port", "0", LMSUPPLY_API_KEY=KEY) as (_, greeting):
        yield url_in(greeting)


def environment(home: Path) -> dict[str, str]:
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false", "LLM_USER_PATH": str(home)}
    return {**os.environ, **offline, "HOME": str(home)}


def results(program: str, url: str, home: Path) -> dict[str, Any]:
    """What the program put into `found`."""
    frame = f"import json\nurl, key, question, found = {url!r}, {KEY!r}, {QUESTION!r}, {{}}\n{program}\nprint(json.dumps(found))"
    done = subprocess.run(
        [sys.executable, "-c", frame], env=environment(home), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


@pytest.mark.skipif(find_spec("langchain_openai") is None, reason="langchain-openai is not installed")
def test_langchain(url: str, tmp_path: Path) -> None:
    found = results(LANGCHAIN, url, tmp_path)
    assert ANSWER in found["whole"]
    assert found["streamed"] == found["batch"][0] == found["whole"]
    assert found["usage"]["total_tokens"] == found["usage"]["input_tokens"] + found["usage"]["output_tokens"]
    assert {found["schema"], found["function"]} <= {"red", "green"}
    assert found["calls"][0][0] == "Lamp"
    assert found["calls"][0][1]["color"] in ("red", "green")
    assert found["after"]
    assert found["responses"]
    assert found["overflow"] == "OpenAIContextOverflowError"


@pytest.mark.skipif(find_spec("litellm") is None, reason="litellm is not installed")
def test_litellm(url: str, tmp_path: Path) -> None:
    found = results(LITELLM, url, tmp_path)
    for name in ("openai", "anthropic", "ollama_chat"):
        whole, streamed = found[name]
        assert ANSWER in whole
        assert streamed == whole
    assert found["call"] == "lamp"
    assert found["overflow"] == "ContextWindowExceededError"


@pytest.mark.skipif(find_spec("llm") is None, reason="llm is not installed")
def test_llm(url: str, tmp_path: Path) -> None:
    def llm(*arguments: str) -> str:
        command = [sys.executable, "-m", "llm", "openai", "endpoint", f"{url}/v1", "--key", KEY, *arguments]
        done = subprocess.run(
            command, env=environment(tmp_path), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert llm("--models").split() == ["guide"]
    assert ANSWER in llm("-m", "guide", "-o", "temperature", "0", QUESTION)
    assert ANSWER in llm("-m", "guide", "-o", "temperature", "0", "--no-stream", QUESTION)
    schema = json.dumps({"type": "object", "properties": {"color": {"enum": ["red", "green"]}}, "required": ["color"]})
    assert json.loads(llm("-m", "guide", "--schema", schema, "red"))["color"] in ("red", "green")
