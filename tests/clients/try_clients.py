"""Clients that are too large for the tests' environment, against a running server with the guide.

    python tests/clients/try_clients.py http://127.0.0.1:11535

Run by .ci/run, in an environment of its own that has them: llm, langchain-openai, litellm. Exit code 1 if one fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

QUESTION, ANSWER = "How do I list my models?", "lmsupply models"
SCHEMA = {
    "title": "Lamp",
    "type": "object",
    "properties": {"color": {"enum": ["red", "green"]}},
    "required": ["color"],
    "additionalProperties": False,
}


def llm_answers(url: str) -> None:
    command = [sys.executable, "-m", "llm", "openai", "endpoint", f"{url}/v1", "-m", "guide", QUESTION]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ANSWER in found.stdout, found.stdout


def langchain_answers(url: str) -> None:
    model = _langchain(url)
    assert ANSWER in str(model.invoke(QUESTION).content)
    pieces = [str(chunk.content) for chunk in model.stream(QUESTION)]
    assert len(pieces) > 3
    assert ANSWER in "".join(pieces)


def langchain_follows_a_schema(url: str) -> None:
    for method in ("json_schema", "function_calling"):
        found = _langchain(url).with_structured_output(SCHEMA, method=method).invoke("Which color?")
        assert found["color"] in ("red", "green"), (method, found)


def langchain_calls_tools(url: str) -> None:
    bound = _langchain(url).bind_tools([SCHEMA | {"description": "Set the lamp."}], tool_choice="Lamp")
    call = bound.invoke("Make it red.").tool_calls[0]
    assert call["name"] == "Lamp"
    assert call["args"]["color"] in ("red", "green")


def litellm_answers_through_three_apis(url: str) -> None:
    import litellm

    for model, base in (("openai/guide", f"{url}/v1"), ("ollama_chat/guide", url), ("anthropic/guide", url)):
        asked = {"model": model, "api_base": base, "api_key": "none", "temperature": 0, "max_tokens": 40}
        messages = [{"role": "user", "content": QUESTION}]
        found: Any = litellm.completion(messages=messages, **asked)
        assert ANSWER in found.choices[0].message.content, (model, found)
        chunks: Any = litellm.completion(messages=messages, stream=True, **asked)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert ANSWER in text, (model, text)


def litellm_calls_tools(url: str) -> None:
    import litellm

    tool = {"type": "function", "function": {"name": "set_lamp", "parameters": SCHEMA}}
    messages = [{"role": "user", "content": "Make it red."}]
    found: Any = litellm.completion(
        model="openai/guide",
        api_base=f"{url}/v1",
        api_key="none",
        messages=messages,
        tools=[tool],
        tool_choice="required",
    )
    call = found.choices[0].message.tool_calls[0].function
    assert call.name == "set_lamp"
    assert json.loads(call.arguments)["color"] in ("red", "green")


def _langchain(url: str) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(base_url=f"{url}/v1", api_key="none", model="guide", temperature=0)  # type: ignore[arg-type]


CHECKS: tuple[Callable[[str], None], ...] = (
    llm_answers,
    langchain_answers,
    langchain_follows_a_schema,
    langchain_calls_tools,
    litellm_answers_through_three_apis,
    litellm_calls_tools,
)


def main() -> None:
    failed = 0
    for check in CHECKS:
        try:
            check(sys.argv[1])
        except Exception:
            failed += 1
            print(f"{check.__name__} failed:\n{traceback.format_exc()}")
        else:
            print(f"{check.__name__}: right")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
