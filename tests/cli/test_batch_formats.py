"""run --batch: what the prompts may be written in."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cli import Result, lmsupply

BASE = ("run", "-m", "guide", "--max-tokens", "8", "--batch")


def ask(tmp_path: Path, name: str, text: str, *more: str) -> Result:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return lmsupply(*BASE, name, *more, cwd=tmp_path)


def request(custom_id: str, **body: Any) -> str:
    body = {"model": "guide", "messages": [{"role": "user", "content": "thanks"}]} | body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})


def errors(result: Result) -> list[str]:
    return [row["error"]["message"] if "error" in row else "" for row in result.json_lines]


def test_rows_as_data_tools_write_them(tmp_path: Path) -> None:
    rows = [
        {"prompt": "thanks", "messages": None, "id": None, "temperature": None, "options": None, "stop": None},
        {"prompt": "thanks", "max_tokens": 3.0, "stop": "zzz"},
        {"prompt": None, "messages": [{"role": "user", "content": "thanks"}], "options": {"seed": 4.0, "top_p": None}},
    ]
    result = ask(tmp_path, "in.jsonl", "\n".join(map(json.dumps, rows)))
    assert result.code == 0
    found = result.json_lines
    assert [row["text"][:7] for row in found] == ["You are"] * 3
    assert [row["options"]["max_tokens"]["value"] for row in found] == [8, 3, 8]
    assert found[1]["options"]["stop"]["value"] == ["zzz"]
    assert found[2]["options"]["seed"] == {"value": 4, "source": "flag"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"prompt": "x", "label": 1}', "unknown key 'label'"),
        ('{"prompt": "x", "max_tokens": 2.5}', "max_tokens must be a whole number"),
        ('{"prompt": "x", "temperature": "hot"}', "temperature must be a number"),
        ('{"prompt": "x", "logit_bias": {"5": true}}', 'from -100 to 100, not {"5": true}'),
        ('{"prompt": "x", "max_tokens": true}', "max_tokens must be a whole number, at least 1, not true"),
        ('{"prompt": "x", "options": 1}', "options must be a JSON object"),
        ('{"prompt": "x", "id": NaN}', "the id is not a JSON value"),
        ('{"text": "x"}', "expected prompt (a string) or messages (a list)"),
        ('{"prompt": "x", "messages": []}', "expected prompt (a string) or messages (a list)"),
        ('{"prompt": " "}', "the prompt is empty"),
        ("[1]", "expected a JSON object"),
        ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "only text is supported"),
        (request("a", frequency="x"), "body.frequency is not supported"),
        (request("a", n=2), "body.n is not supported with the value 2"),
        (request("a", tools=[{"type": "function"}]), "body.tools is not supported"),
        (request("a", max_tokens=0), "max_tokens must be a whole number"),
        (request("a", messages="x"), "body.messages must be a list of messages"),
        (request("a", response_format={"type": "xml"}), "response_format.type must be"),
        (request("a", response_format={"type": "json_schema"}), "response_format.json_schema.schema must be"),
        ('{"custom_id": "a", "url": "/v1/embeddings", "body": {}}', "url must be /v1/chat/completions"),
        ('{"custom_id": "a", "body": {"messages": []}, "more": 1}', "unknown key 'more'"),
    ],
)
def test_a_bad_row_is_named_by_its_keys(row: str, said: str, tmp_path: Path) -> None:
    result = ask(tmp_path, "in.jsonl", f'{row}\n{{"prompt": "thanks"}}\n')
    assert result.code == 1
    assert said in errors(result)[0]
    assert "line 1: " in result.err
    assert said in result.err
    assert "--" not in errors(result)[0]
    assert result.json_lines[1]["text"]


def test_requests_of_openais_batch_format(tmp_path: Path) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"enum": ["a", "b"]}}}
    parts = [{"type": "text", "text": "thanks"}]
    rows = [
        request("one", max_completion_tokens=4, temperature=0, stop="zzz", n=1, stream=False, user="u", seed=None),
        request("two", response_format=schema, max_tokens=20, metadata={"a": "b"}),
        request("three", messages=[{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]),
    ]
    result = ask(tmp_path, "in.jsonl", "\n".join(rows))
    assert result.code == 0, result.err
    found = result.json_lines
    assert [row["id"] for row in found] == ["one", "two", "three"]
    assert found[0]["usage"]["completion_tokens"] == 4
    assert found[0]["options"]["stop"] == {"value": ["zzz"], "source": "flag"}
    assert found[1]["text"] in ('"a"', '"b"')
    assert [row.get("complete") for row in found] == [None, True, None]
    assert "is used instead" not in result.err


def test_another_model_in_requests_is_said_once(tmp_path: Path) -> None:
    rows = [request("a", model="gpt-4o-mini"), request("b", model="gpt-4o-mini"), request("c", model="gpt-4o")]
    result = ask(tmp_path, "in.jsonl", "\n".join(rows))
    assert result.code == 0
    assert result.err.count("note: the file asks for gpt-4o-mini and 1 other model; guide is used instead\n") == 1


def test_a_response_format_beside_a_guidance_for_all(tmp_path: Path) -> None:
    rows = [request("a", response_format={"type": "json_object"}), request("b")]
    result = ask(tmp_path, "in.jsonl", "\n".join(rows), "--regex", "(yes|no)")
    assert "response_format cannot be combined" in errors(result)[0]
    assert result.json_lines[1]["text"] in ("yes", "no")


def test_a_request_to_classify(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(f"{request('a')}\n{request('b', temperature=0)}\n")
    result = lmsupply("classify", "-m", "guide", "--choices", "Run,You", "--batch", "in.jsonl", cwd=tmp_path)
    assert result.json_lines[0]["best"] == "You"
    assert "body.temperature is not supported" in errors(result)[1]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["in.json", "in.jsonl"])
def test_a_json_array(tmp_path: Path, name: str, indent: int | None) -> None:
    rows = [{"prompt": "thanks", "id": 1}, 5, {"prompt": "hello", "id": 2}]
    result = ask(tmp_path, name, json.dumps(rows, indent=indent))
    assert [row["id"] for row in result.json_lines] == [1, None, 2]
    assert "item 2: expected a JSON object" in result.err


def test_one_object_over_several_lines(tmp_path: Path) -> None:
    assert len(ask(tmp_path, "in.json", json.dumps({"prompt": "thanks"}, indent=1)).json_lines) == 1


def test_csv(tmp_path: Path) -> None:
    text = (
        '\ufeffid,prompt,max_tokens,stop\r\na,"thanks,\nfriend",3,\r\n\r\nb,thanks,2.0,"x,y"\r\nc,,,\r\nd,x,many,\r\n'
    )
    result = ask(tmp_path, "in.csv", text)
    found = result.json_lines
    assert [row["id"] for row in found] == ["a", "b", "c", "d"]
    assert [row["usage"]["completion_tokens"] for row in found[:2]] == [3, 2]
    assert found[1]["options"]["stop"]["value"] == ["x,y"]
    assert errors(result)[2] == "the prompt is empty"
    assert "line 7: max_tokens must be a whole number" in result.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question,id\nx,1\n", "has no column named prompt"),
        ("prompt,label\nx,1\n", "unknown column 'label'"),
        ("prompt,id,id\nx,1,2\n", "two columns named 'id'"),
        ('prompt\n"x\n', "is not valid CSV"),
        ("prompt\n", "there is no prompt in"),
        ("", "has no column named prompt"),
    ],
)
def test_csv_that_cannot_be_read(tmp_path: Path, text: str, said: str) -> None:
    result = ask(tmp_path, "in.csv", text)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("hello\n[INST] thanks\n", 2),
        ('{"prompt": "hello"}\n{"prompt": "thanks"}\n', 2),
        ('[{"prompt": "hello"},\n {"prompt": "thanks"}]', 2),
        ("{not json\nhello\n", 2),
    ],
)
def test_stdin_is_recognized(text: str, count: int) -> None:
    result = lmsupply(*BASE, "-", stdin=text)
    assert result.code == 0, result.err
    assert [row["index"] for row in result.json_lines] == list(range(count))


def test_no_prompt_on_stdin() -> None:
    result = lmsupply(*BASE, "-")
    assert result.code == 2
    assert "there is no prompt in stdin" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="ulimit")
def test_stdin_without_an_end(tmp_path: Path) -> None:
    import subprocess

    command = 'ulimit -v 6000000; yes | "$0" -m lmsupply_cli run -m guide --batch -'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], capture_output=True, text=True, timeout=60, env=os.environ, check=False
    )
    assert done.returncode == 2
    assert "stdin is larger than the limit" in done.stderr
