"""Chat templates see what they see in transformers: tags, filters, globals and variables, nothing less and no more."""

from __future__ import annotations

from datetime import datetime

import pytest

from lmsupply_cli.chat.formats import choose_formatter
from lmsupply_cli.chat.formats.template import Template
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.errors import ModelFilesError

TALK = [ChatMessage.user("Hi <b>"), ChatMessage.assistant("Ho", reasoning="why")]


def rendered(source: str, **special: str) -> str:
    return Template(source, special).render(TALK)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a{% generation %} {{ messages[1].content }} {% endgeneration %}b", "a Ho b"),
        ("a {%- generation -%} {{ messages[1].content }} {%- endgeneration -%} b", "aHob"),
        (
            "{% for m in messages %}\n{% generation %}\n{{ m.content }}\n{% endgeneration %}\n{% endfor %}",
            "Hi <b>\nHo\n",
        ),
        ("{% generation %}{% if loop is defined %}x{% else %}y{% endif %}{% endgeneration %}", "y"),
    ],
)
def test_the_generation_tag_is_what_stands_in_it(source: str, text: str) -> None:
    assert rendered(source) == text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("tojson", '{"b": "é<", "a": [1, null]}'),
        ("tojson(ensure_ascii=True)", '{"b": "\\u00e9<", "a": [1, null]}'),
        ("tojson(True)", '{"b": "\\u00e9<", "a": [1, null]}'),
        ("tojson(separators=(',', ':'))", '{"b":"é<","a":[1,null]}'),
        ("tojson(sort_keys=True)", '{"a": [1, null], "b": "é<"}'),
        ("tojson(ensure_ascii=False, indent=1)", '{\n "b": "é<",\n "a": [\n  1,\n  null\n ]\n}'),
        ("tojson(indent='\t')", '{\n\t"b": "é<",\n\t"a": [\n\t\t1,\n\t\tnull\n\t]\n}'),
    ],
)
def test_tojson_takes_the_arguments_of_json(call: str, text: str) -> None:
    assert rendered("{{ {'b': 'é<', 'a': [1, none]} | " + call + " }}") == text


def test_messages_have_their_reasoning_under_the_names_and_in_the_order_of_transformers() -> None:
    assert rendered("{{ messages[1] | tojson }}{{ messages[0] | tojson }}") == (
        '{"thinking": "why", "role": "assistant", "content": "Ho", "reasoning_content": "why"}'
        '{"role": "user", "content": "Hi <b>"}'
    )


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}",
        "{% for m in messages %}{{ m.content[0]['text'] }}{% endfor %}",
        "{% for m in messages %}{{ m.content[0]['text'] + '' }}{% endfor %}",
    ],
)
def test_a_template_that_reads_content_in_parts_gets_parts(source: str) -> None:
    formatter = choose_formatter(source, [], {}).formatter
    assert formatter.render(TALK) == "Hi <b>Ho"
    assert isinstance(formatter, Template)
    assert formatter.with_variables(x=1).render(TALK) == "Hi <b>Ho"


def test_a_template_that_reads_content_as_text_gets_text() -> None:
    expected = {
        "{{ messages[0].content is string }}": "True",
        "{{ messages[0].content | upper }}": "HI <B>",
        "{{ 1 }}": "1",
    }
    for source, text in expected.items():
        assert choose_formatter(source, [], {}).formatter.render(TALK) == text


def test_tools_and_documents_are_there_and_none() -> None:
    assert rendered("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}") == "TrueTrueTrue"


def test_special_tokens_are_those_that_the_model_names() -> None:
    source = "{{ bos_token }}{{ pad_token }}{{ image_token }}{{ eos_token is defined }}"
    assert rendered(source, bos_token="<s>", pad_token="<pad>", image_token="<img>") == "<s><pad><img>False"


def test_dict_and_namespace_give_nothing_of_python_away() -> None:
    assert rendered("{{ dict(a=1) }}{{ dict.fromkeys('ab', 0) }}") == "{'a': 1}{'a': 0, 'b': 0}"
    assert rendered("{% set n = namespace({'x': 1}, self=2) %}{% set n.x = 5 %}{{ n.x }}{{ n.self }}") == "52"
    for source in ("{{ namespace(_x=1) }}", "{% set n = namespace() %}{% set n['_x'] = 1 %}", "{{ dict.mro() }}"):
        with pytest.raises(ModelFilesError):
            rendered(source)


def test_blocks_take_their_line_with_them_and_loops_break() -> None:
    assert (
        rendered("  {% for x in [1, 2, 3] %}\n{% if x == 2 %}{% break %}{% endif %}\n{{ x }}\n  {% endfor %}\n")
        == "1\n"
    )
    assert rendered("\r\na\r\n{% if true %}\r\nb\r\n{% endif %}\r\n") == "\na\nb\n"


def test_the_time_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(2031, 2, 3, 4, 5)

    monkeypatch.setattr("lmsupply_cli.chat.formats.template.datetime", Clock)
    assert rendered("{{ strftime_now('%d %b %Y %H:%M') }}") == "03 Feb 2031 04:05"
