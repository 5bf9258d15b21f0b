from __future__ import annotations

import pytest

from lmsupply_cli.chat.formats import choose_formatter
from lmsupply_cli.chat.formats.template import Template
from lmsupply_cli.chat.messages import ChatMessage, ChatRole, as_messages
from lmsupply_cli.errors import ModelFilesError, UsageError

TALK = [
    ChatMessage.system("Be brief."),
    ChatMessage.user("Hello"),
    ChatMessage.assistant("Hi"),
    ChatMessage.user("Why?"),
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
REFUSES_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "[{{ m.role }}]{{ m.content | trim }}{% endfor %}"
)


def test_chatml_where_the_vocabulary_has_it() -> None:
    formatter = choose_formatter(None, ["<|im_start|>", "<|im_end|>"], SPECIAL).formatter
    assert formatter.name == "chatml"
    assert formatter.render(TALK) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_generic_format_ends_at_the_next_name() -> None:
    formatter = choose_formatter(None, [], SPECIAL).formatter
    assert formatter.name == "generic"
    assert formatter.render(TALK) == "System: Be brief.\nUser: Hello\nAssistant: Hi\nUser: Why?\nAssistant:"
    assert "\nUser:" in formatter.stop


def test_the_models_own_template_comes_first() -> None:
    formatter = choose_formatter("{{ messages[0].content }}", ["<|im_start|>"], SPECIAL).formatter
    assert formatter.render(TALK) == "Be brief."


def test_common_jinja_works() -> None:
    source = """
{%- for m in messages %}
    {%- if 'o' in m.content and loop.index > 1 %}{% continue %}{% endif %}
    {{- m.content.upper().replace('B', 'X') + (m.role | capitalize) }}
{%- endfor %}{{ strftime_now('%Y') | length }}{{ messages | length | tojson }}"""
    assert Template(source, SPECIAL).render(TALK) == "XE XRIEF.SystemHIAssistantWHY?User44"


def test_a_refused_system_message_goes_into_the_first_turn() -> None:
    template = Template(REFUSES_SYSTEM, SPECIAL)
    assert template.render(TALK) == "<s>[user]Be brief.\n\nHello[assistant]Hi[user]Why?"


ONE_AT_FIRST = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('system comes first') }}"
    "{% endif %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}"
)
LAST_WINS = (
    "{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}{% set ns.system = m.content %}"
    "{% endif %}{% endfor %}{{ ns.system }}{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        (ONE_AT_FIRST, "[system]Be brief.[user]Hello[assistant]Hi[user]Use tabs.\n\nNow.\n\nWhy?"),
        (REFUSES_SYSTEM, "<s>[user]Be brief.\n\nHello[assistant]Hi[user]Use tabs.\n\nNow.\n\nWhy?"),
        (LAST_WINS, "Be brief.[user]Hello[assistant]Hi[user]Use tabs.\n\nNow.\n\nWhy?"),
    ],
)
def test_a_later_system_message_is_never_lost(source: str, prompt: str) -> None:
    talk = [*TALK[:3], ChatMessage.system("Use tabs."), ChatMessage.system("Now."), TALK[3]]
    assert Template(source, SPECIAL).render(talk) == prompt


@pytest.mark.parametrize(
    "source", ["{{ raise_exception('no') }}", "{{ messages.x.y }}", "{{ messages[0].append(1) }}", "{{ 1/0 }}"]
)
def test_a_failing_template_is_said(source: str) -> None:
    with pytest.raises(ModelFilesError, match="template fails"):
        Template(source, SPECIAL).render(TALK)


def test_a_template_that_does_not_parse_is_said() -> None:
    with pytest.raises(ModelFilesError, match="does not parse"):
        Template("{% if %}", SPECIAL)


def test_messages_are_checked() -> None:
    assert as_messages([{"role": "user", "content": "x"}]) == [ChatMessage(ChatRole.USER, "x")]
    for bad in ({"role": "boss", "content": "x"}, {"role": "user"}, {"role": "user", "content": 3}):
        with pytest.raises(UsageError, match="message 1"):
            as_messages([bad])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="no message"):
        as_messages([])
