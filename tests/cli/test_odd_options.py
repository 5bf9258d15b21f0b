"""The options of sampling and guidance with values that mean nothing, from every place where they can be set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import lmsupply

RUN = ("run", "-m", "guide", "--temperature", "0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--logit-bias", "x"), "--logit-bias must be token ids with numbers from -100 to 100, not 'x'"),
        (("--logit-bias", "5="), "not '5='"),
        (("--logit-bias", "-1=2"), "not '-1=2'"),
        (("--logit-bias", "5=nan"), "not '5=nan'"),
        (("--logit-bias", "5=101"), "not '5=101'"),
        (("--logit-bias", "99999=1"), "--logit-bias names token 99999, but the vocabulary has only 1,280 tokens"),
        (("--stop", ""), "--stop must be a text or a list of texts, none of them empty, not ''"),
        (("--seed", "99999999999999999999"), "at least 0 and at most 9223372036854775807, not 99999999999999999999"),
        (("--presence-penalty", "3"), "--presence-penalty must be a number from -2 to 2, not 3"),
        (("--logprobs",), "--logprobs is only available in JSON output"),
        (("--top-logprobs", "2"), "--top-logprobs is only available in JSON output"),
        (("--top-logprobs", "21", "--json"), "from 0 to 20, not 21"),
        (("--logprobs", "--json", "--num-beams", "2"), "beam search cannot be combined with --logprobs"),
        (("--dry-run", "--show-prompt"), "--dry-run and --show-prompt can't be combined"),
        (("--no-stream", "--stream-json"), "--no-stream and --stream-json can't be combined"),
        (("--json-schema", ""), "the schema is empty"),
        (("--regex", "a$b"), "anchors such as ^, $ and \\b are not supported within it"),
        (("--json-schema", "true"), "a schema is a JSON object, not true"),
        (("--json-schema", '{"const": "\\ud83d"}'), "half a surrogate pair"),
        (("--json-schema", '{"minimum": 1e400}'), "the schema contains a number that is too large"),
        (("--json-schema", '{"uniqueItems": true}'), "hint: leave it out, and check the answer yourself"),
    ],
)
def test_a_value_that_means_nothing_is_exit_2(arguments: tuple[str, ...], said: str) -> None:
    result = lmsupply(*RUN, *arguments, "hi")
    assert result.code == 2
    assert said in result.err
    assert "`" not in result.err


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    for option in ("--regex", "--json-schema", "--choices"):
        command = ("classify", "-m", "guide") if option == "--choices" else RUN
        text = '{"const": "\udcff"}' if option == "--json-schema" else "a,\udcff"
        result = lmsupply(*command, option, text, "hi")
        assert (result.code, result.out) == (2, "")
        assert "is not valid U" in result.err


def test_a_required_property_that_nothing_allows_has_the_right_reason() -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["b"], "additionalProperties": False}
    result = lmsupply(*RUN, "--json-schema", json.dumps(schema), "hi")
    assert result.code == 2
    assert "no answer can satisfy the schema" in result.err
    assert "required properties that nothing allows" in result.err


def test_a_grammar_without_an_end_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "g.lark").write_text('start: "a" start\n')
    result = lmsupply("run", "-m", "no-such-model", "--grammar", tmp_path / "g.lark", "hi")
    assert (result.code, result.out) == (2, "")
    assert "no answer can satisfy the grammar" in result.err


def test_a_bias_is_kept_in_the_settings_as_it_is_typed() -> None:
    assert lmsupply("config", "set", "logit_bias", "5=1", "7=-2.5").code == 0
    assert lmsupply("config", "get", "logit_bias").out == "5=1, 7=-2.5\n"
    assert "5=1, 7=-2.5" in lmsupply("config").out
    found = lmsupply(*RUN, "--json", "hi").json["options"]["logit_bias"]
    assert found == {"value": {"5": 1.0, "7": -2.5}, "source": "file"}
    assert lmsupply("config", "set", "logit_bias", "x").err.startswith("error: config set: logit_bias must be")


def test_settings_for_json_do_not_stand_in_the_way_of_text() -> None:
    asked = ("run", "-q", "-m", "guide", "--temperature", "0", "--max-tokens", "1")
    assert lmsupply(*asked, "hi", LMSUPPLY_TOP_LOGPROBS="2").out == "Hello\n"
    rows = lmsupply(*asked, "--json", "hi", LMSUPPLY_TOP_LOGPROBS="2").json["logprobs"]
    assert [len(row["top"]) for row in rows] == [2]


def test_a_dry_run_needs_no_prompt_and_prints_json() -> None:
    shown = lmsupply("run", "-m", "guide", "--dry-run")
    assert shown.code == 0
    assert "context      1,024 of 1,024 tokens" in shown.out
    assert lmsupply("run", "guide", "--dry-run").out.splitlines()[0] == "model        guide"
    plan = lmsupply("run", "-m", "guide", "--dry-run", "--json").json["plan"]
    assert (plan["model"], plan["context_tokens"]) == ("guide", 1024)
    assert lmsupply("chat", "guide", "--dry-run").out.startswith("model        guide")
    too_long = lmsupply("run", "-m", "guide", "--dry-run", "--context", "2000")
    assert too_long.code == 2
    assert "--context 2000 is more than this model's maximum of 1,024 tokens" in too_long.err


def test_the_events_of_a_stream_have_the_log_probabilities() -> None:
    lines = [json.loads(line) for line in lmsupply(*RUN, "--stream-json", "--top-logprobs", "1", "hi").out.splitlines()]
    found = [row for row in lines if row["type"] == "logprob"]
    whole = next(row for row in lines if row["type"] == "finished")
    assert len(found) == whole["usage"]["completion_tokens"]
    assert all(row["logprob"] <= 0 and row["top"][0]["token"] == row["token"] for row in found), "greedy"


def test_a_bias_and_penalties_change_the_answer() -> None:
    plain = lmsupply(*RUN, "--json", "--top-logprobs", "1", "hi").json
    first = plain["logprobs"][0]["token"]
    other = lmsupply(*RUN, "--json", "--logprobs", "--logit-bias", f"{first}=-100", "hi").json
    assert other["logprobs"][0]["token"] != first
    asked = (*RUN, "-q", "--regex", "(a|b|c){6}", "hi")
    free, penalized = lmsupply(*asked).out, lmsupply(*asked, "--frequency-penalty", "2", "--presence-penalty", "2").out
    assert max(map(penalized.count, "abc")) < max(map(free.count, "abc"))
