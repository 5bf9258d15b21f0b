"""Answers that call tools: what is guaranteed holds whatever a model wants, on the vocabularies of the families."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.scripted import fake
from support.vocabulary_model import ENDS, HARMONY, formatter_of, vocabulary_generator

from lmsupply_cli import Guidance, ToolListener, ToolSpec, load
from lmsupply_cli.chat.messages import ChatMessage, ChatRole, as_messages
from lmsupply_cli.chat.tools.spec import ToolRequest
from lmsupply_cli.chats.export import export_text
from lmsupply_cli.chats.session import ChatSession
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    Notice,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from lmsupply_cli.generation.batch import BatchItem, answer_batch
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.tools import arguments_guidance, as_result, bounded
from lmsupply_cli.serving.generator_pool import GeneratorPool

ASK = [{"role": "user", "content": "What is 1+2?"}]
ADD: dict[str, Any] = {
    "name": "add",
    "description": "Add two numbers.",
    "parameters": {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": -9, "maximum": 9},
            "b": {"type": "integer", "minimum": 0, "maximum": 999},
            "note": {"type": "string", "maxLength": 6},
            "how": {"type": "array", "items": {"enum": ["fast", "slow", None]}, "maxItems": 2},
        },
        "required": ["a", "b"],
    },
}
NOW: dict[str, Any] = {"name": "get-time.now", "description": "", "parameters": {"type": "object", "properties": {}}}
TOOLS = [ADD, NOW]
SCHEMAS = {tool["name"]: tool["parameters"] for tool in TOOLS}


def check_calls(calls: Sequence[ToolCall]) -> None:
    for call in calls:
        jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])
        if call.name == "get-time.now":
            assert call.values == {}
    assert len({call.id for call in calls}) == len(calls)


def the_end(events: Sequence[GenerationEvent]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


@pytest.fixture(params=sorted(ENDS))
def wild(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TextGenerator]:
    """A model of each family that wants to say anything."""
    with vocabulary_generator(request.param, tmp_path) as model:
        yield model


def test_required_always_calls(wild: TextGenerator) -> None:
    for seed in range(10):
        answer = wild.generate_chat(
            ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=seed % 2 == 0, max_tokens=5000
        )
        check_calls(answer.tool_calls)
        assert answer.tool_calls
        assert answer.text == ""
        assert answer.finish_reason == "tool_calls"
        assert seed % 2 == 0 or len(answer.tool_calls) == 1
        assert answer.complete is None


def test_a_name_calls_that_tool_once(wild: TextGenerator) -> None:
    for choice in ("add", {"type": "function", "function": {"name": "get-time.now"}}):
        for _ in range(4):
            answer = wild.generate_chat(ASK, tools=TOOLS, tool_choice=choice, max_tokens=5000)
            name = choice if isinstance(choice, str) else "get-time.now"
            assert [call.name for call in answer.tool_calls] == [name]
            check_calls(answer.tool_calls)


def test_none_never_calls_and_auto_calls_well(wild: TextGenerator) -> None:
    for _ in range(8):
        answer = wild.generate_chat(ASK, tools=TOOLS, tool_choice="none", max_tokens=60)
        assert not answer.tool_calls
        assert answer.finish_reason != "tool_calls"
        answer = wild.generate_chat(ASK, tools=TOOLS, max_tokens=200)
        check_calls(answer.tool_calls)
        assert bool(answer.tool_calls) == (answer.finish_reason == "tool_calls") or answer.finish_reason == "length"
        assert '"arguments":' not in answer.text


ONE, TWO = '{"a": 1, "b": 2}', '{"a": 3, "b": 40, "note": "<|é\\"", "how": ["fast", null]}'
SAYS: dict[str, tuple[str, str, str, list[str]]] = {  # what it writes, then text, reasoning and arguments
    "qwen25": (
        f'I add.\n<tool_call>\n{{"name": "add", "arguments": {ONE}}}\n</tool_call>\n'
        f'<tool_call>\n{{"name": "add", "arguments": {TWO}}}\n</tool_call>',
        "I add.", "", [ONE, TWO],
    ),
    "qwen3": (
        f'<think>\nHm, "</tool".\n</think>\n\n<tool_call>\n{{"name": "add", "arguments": {TWO}}}\n</tool_call>',
        "", 'Hm, "</tool".', [TWO],
    ),
    "phi4mini": (
        f'<|tool_call|>[{{"name": "add", "arguments": {ONE}}}, {{"name": "add", "arguments": {TWO}}}]<|/tool_call|>',
        "", "", [ONE, TWO],
    ),
    "llama3_1": (f'{{"name": "add", "parameters": {TWO}}}', "", "", [TWO]),
    "mistral_v3": (
        f'[TOOL_CALLS] [{{"name": "add", "arguments": {ONE}}}, {{"name": "add", "arguments": {TWO}, "id": "abcdefghi"}}]',
        "", "", [ONE, TWO],
    ),
    "tekken": (f'Yes.[TOOL_CALLS][{{"name": "add", "arguments": {ONE}}}]', "Yes.", "", [ONE]),
    "gptoss": (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.add "
        f"<|constrain|>json<|message|>{TWO}",
        "", "Hm.", [TWO],
    ),
    "smollm2": (
        f'{{"name": "add", "arguments": {ONE}}}\n{{"name": "add", "arguments": {TWO}}}', "", "", [ONE, TWO],
    ),
    "gemma3": (f'{{"name": "add", "arguments": {TWO}}}', "", "", [TWO]),
}  # fmt: skip


@pytest.mark.parametrize("family", sorted(ENDS))
def test_a_call_in_the_form_of_the_family(family: str, tmp_path: Path) -> None:
    written, text, reasoning, arguments = SAYS[family]
    with vocabulary_generator(family, tmp_path, says=[written] * 2) as model:
        events = list(model.stream_chat(ASK, tools=TOOLS))
        answer = model.generate_chat(ASK, tools=TOOLS)
    assert (answer.text, answer.reasoning) == (text, reasoning)
    assert [call.arguments for call in answer.tool_calls] == arguments
    assert answer.finish_reason == the_end(events).finish_reason == "tool_calls"
    calls = [event for event in events if isinstance(event, ToolCall)]
    deltas = [event for event in events if isinstance(event, ToolCallDelta)]
    for index, call in enumerate(calls):
        own = [delta for delta in deltas if delta.index == index]
        assert {(delta.id, delta.name) for delta in own} == {(call.id, call.name)}
        assert own[0].arguments == ""
        assert len(own) > 2
        assert "".join(delta.arguments for delta in own) == call.arguments
        assert events.index(own[-1]) < events.index(call)
    shown = "".join(event.text for event in events if isinstance(event, (TextDelta, ReasoningDelta)))
    assert shown == reasoning + text


@pytest.mark.parametrize("family", ["qwen25", "phi4mini", "llama3_1", "mistral_v3", "gptoss", "smollm2"])
def test_a_model_that_errs_is_led_back(family: str, tmp_path: Path) -> None:
    written = SAYS[family][0].replace('"a"', '"x"').replace("1", '"one"').replace("3", "3.5")
    with vocabulary_generator(family, tmp_path, says=[written]) as model:
        answer = model.generate_chat(ASK, tools=TOOLS, tool_choice="required")
    check_calls(answer.tool_calls)
    assert answer.tool_calls


def test_text_is_text_where_no_call_is_meant(tmp_path: Path) -> None:
    for family, text in (
        ("llama3_1", '{"nam": 1, "name": "add", "parameters": {}}'),
        ("smollm2", 'Write {"name": "add"} to call.'),
        ("qwen25", '{"name": "add", "arguments": {}} <tools> '),
        ("mistral_v3", "[TOOL_RESULTS"),
    ):
        with vocabulary_generator(family, tmp_path / family, says=[text]) as model:
            answer = model.generate_chat(ASK, tools=TOOLS)
        assert (answer.text, answer.tool_calls, answer.finish_reason) == (text, (), "stop")


def test_a_spelled_mark_is_never_text(tmp_path: Path) -> None:
    """Ordinary tokens cannot write it, so in the answer it is the token."""
    with vocabulary_generator("qwen25", tmp_path) as model:
        prompt = model.prompter.chat([ChatMessage.user("x")], tools=ToolRequest.of(TOOLS))
        assert prompt.tools
        schemas = {tool.name: arguments_guidance(tool).text for tool in prompt.tools.request.tools}
        matcher = model.new_matcher(Guidance("lark_grammar", prompt.tools.grammar(schemas)))
        for char in "a <tool_call":
            (token,) = model.model.encode(char)
            assert matcher.allowed()[token]
            matcher.accept(token)
        (token,) = model.model.encode(">")
        assert not matcher.allowed()[token]


def test_a_thought_does_not_decide(tmp_path: Path) -> None:
    """A model that thinks first does so under `required` too; without a thought it calls at once."""
    for family in ("qwen3", "gptoss"):
        says = [SAYS[family][0], SAYS[family][0].replace("Hm", "Well")]
        with vocabulary_generator(family, tmp_path / family, says=says) as model:
            for word in ("Hm", "Well"):
                answer = model.generate_chat(ASK, tools=TOOLS, tool_choice="add")
                assert answer.reasoning.startswith(word)
                assert answer.tool_calls[0].arguments == TWO


def test_half_a_call_is_no_call(tmp_path: Path) -> None:
    with vocabulary_generator("qwen25", tmp_path, says=[SAYS["qwen25"][0]] * 200) as model:
        whole = len(model.model.encode(SAYS["qwen25"][0]))
        for tokens in range(1, whole):
            answer = model.generate_chat(ASK, tools=TOOLS, max_tokens=tokens)
            assert answer.finish_reason == "length"
            assert "I add.".startswith(answer.text.rstrip())
            assert [call.arguments for call in answer.tool_calls] == [ONE, TWO][: len(answer.tool_calls)]
            assert not answer.tool_calls or answer.message.partial


def test_a_stop_sequence_counts_in_text_only(tmp_path: Path) -> None:
    written, text = SAYS["qwen25"][:2]
    with vocabulary_generator("qwen25", tmp_path, says=[written] * 3) as model:
        answer = model.generate_chat(ASK, tools=TOOLS, stop=['"b"', "arguments"])
        assert (answer.text, len(answer.tool_calls), answer.finish_reason) == (text, 2, "tool_calls")
        answer = model.generate_chat(ASK, tools=TOOLS, stop=["add"])
        assert (answer.text, answer.tool_calls, answer.finish_reason) == ("I ", (), "stop")
        assert answer.usage.completion_tokens < 8
        cancel = CancelToken()
        cancel.cancel()
        assert model.generate_chat(ASK, tools=TOOLS, cancel=cancel).finish_reason == "cancelled"


def test_a_call_becomes_history_of_which_nothing_is_read_again(tmp_path: Path) -> None:
    for family in ("qwen25", "phi4mini", "mistral_v3", "tekken", "llama3_1"):
        says = [SAYS[family][0].replace(', "id": "abcdefghi"', ""), "It is 3."]
        with vocabulary_generator(family, tmp_path / family, says=says) as model:
            first = model.generate_chat(ASK, tools=TOOLS)
            results = [ChatMessage.tool("3", call.id) for call in first.tool_calls]
            messages = [ChatMessage.user(ASK[0]["content"]), first.message, *results]
            second = model.generate_chat(messages, tools=TOOLS)
        assert second.text == "It is 3."
        before = first.usage.prompt_tokens + (0 if "mistral" in family or family == "tekken" else 8)
        assert second.usage.cached_tokens >= before, family  # Mistral's history has ids, which the model did not write


def test_what_cannot_be_is_refused_before_anything_is_generated() -> None:
    with fake("x") as model:
        odd = {"name": "odd", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}
        with pytest.raises(UsageError, match=r"parameters of the tool odd: properties\.a uses the keyword 'not'"):
            model.stream_chat(ASK, tools=[odd])
        with pytest.raises(UsageError, match="beam search cannot be combined"):
            model.stream_chat(ASK, tools=TOOLS, num_beams=2)
        with pytest.raises(UsageError, match="cannot call tools"):
            model.prompter.chat([ChatMessage.user("x")], answer_prefix="y", tools=ToolRequest.of(TOOLS))
        guided = model.generate_chat(ASK, tools=TOOLS, tool_choice="none", guidance=Guidance.regex("yes|no"))
        assert guided.text in ("yes", "no")
        assert guided.complete


def test_integers_end(tmp_path: Path) -> None:
    """Whatever a model wants; and a number that has too many digits for Python is one all the same."""
    properties = {
        "a": {"type": "integer"},
        "b": {"type": ["integer", "null"], "minimum": 7},
        "c": {"type": "array", "items": {"type": "integer", "exclusiveMaximum": 0}, "maxItems": 2},
        "d": {"const": {"type": "integer"}},
        "e": {"anyOf": [{"type": "integer"}, {"type": "number"}]},
    }
    tool = {"name": "f", "parameters": {"type": "object", "properties": properties, "required": list("abcd")}}
    says = ['<tool_call>\n{"name": "f", "arguments": {"a": ' + "9" * 900]
    with vocabulary_generator("qwen25", tmp_path, says=says) as model:
        answer = model.generate_chat(ASK, tools=[tool], tool_choice="f", max_tokens=3000)
    values = answer.tool_calls[0].values
    jsonschema.validate(values, tool["parameters"])
    assert abs(values["a"]) <= 2**53
    assert values["d"] == {"type": "integer"}
    assert ToolCall("", "f", '{"a": ' + "9" * 5000 + "}").values["a"] == float("inf")


def test_a_schema_that_nothing_satisfies() -> None:
    odd = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 1}}, "required": ["a"]}
    with fake("x") as model, pytest.raises(UsageError, match="the parameters of the tool odd: "):
        model.stream_chat(ASK, tools=[{"name": "odd", "parameters": odd}])


def test_a_pydantic_model_and_a_function_that_takes_one() -> None:
    pydantic = pytest.importorskip("pydantic")
    inner = pydantic.create_model("Inner", z=(int, pydantic.Field(ge=1, le=9)))
    point = pydantic.create_model("Point", __doc__="A point.", x=(inner, ...), y=(int, 0))

    def move(to: point) -> point:  # type: ignore[valid-type]
        return to

    move.__annotations__ = {"to": point}
    with fake('{"name": "move", "arguments": {"to": {"x": {"z": 4}, "y": 5}}}', "Done.") as model:
        assert results_of(model, move) == ['{"x":{"z":4},"y":5}']
        answer = model.generate_chat(ASK, tools=[point], tool_choice="required", seed=1, max_tokens=150)
        assert point.model_validate_json(answer.tool_calls[0].arguments)


def test_a_model_without_a_form_says_so() -> None:
    with fake("Hi.", "Hi.") as model:
        first = next(iter(model.stream_chat(ASK, tools=TOOLS)))
        assert isinstance(first, Notice)
        assert first.code == "tools"
        events = list(model.stream_chat(ASK, tools=TOOLS, tool_choice="none"))
        assert not any(isinstance(event, Notice) for event in events)


CALL = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
NEXT = '{"name": "add", "arguments": {"a": 3, "b": 40}}'


def add(a: int, b: int) -> int:
    """Add two numbers."""
    if a == 9:
        raise ZeroDivisionError("nine")
    return a + b


def test_run_tools_until_there_is_an_answer() -> None:
    with fake(f"{CALL}\n{NEXT}", "It is 46.") as model:
        run = model.run_tools(ASK, [add])
    assert (str(run), run.stopped_by, len(run.completions)) == ("It is 46.", "answer", 2)
    roles = [str(message.role) for message in run.messages]
    assert roles == ["user", "assistant", "tool", "tool", "assistant"]
    assert [m.content for m in run.messages if m.role is ChatRole.TOOL] == ["3", "43"]
    ids = [call.id for call in run.messages[1].tool_calls]
    assert ids == [m.tool_call_id for m in run.messages if m.role is ChatRole.TOOL]


def test_run_tools_ends() -> None:
    with fake(CALL) as model:
        run = model.run_tools(ASK, [add], max_rounds=3)
        assert (run.stopped_by, len(run.completions)) == ("max_rounds", 3)
        assert run.completion.finish_reason == "tool_calls"
        assert run.messages[-1].tool_calls
        run = model.run_tools(ASK, [add], max_tokens=3)
        assert (run.stopped_by, run.completion.finish_reason, len(run.messages)) == ("answer", "length", 2)
        run = model.run_tools(ASK, TOOLS)
        assert (run.stopped_by, len(run.completions)) == ("no_function", 1)
        with pytest.raises(UsageError, match="at least 1"):
            model.run_tools(ASK, [add], max_rounds=0)


def test_a_choice_holds_for_the_first_answer() -> None:
    with fake("Hello.", "It is 3.") as model:
        run = model.run_tools(ASK, [add], tool_choice="add", seed=1)
        assert [completion.finish_reason for completion in run.completions] == ["tool_calls", "stop"]
        assert model.run_tools(ASK, [add], tool_choice="none").completion.text == "Hello."


class Listens(ToolListener):
    def __init__(self, allowed: bool = True) -> None:
        self.events: list[GenerationEvent] = []
        self.allowed = allowed

    def event(self, event: GenerationEvent) -> None:
        self.events.append(event)

    def allow(self, call: ToolCall) -> bool:
        return self.allowed

    def result(self, call: ToolCall, text: str) -> str:
        return bounded(text, limit=10)


def long(a: int, b: int) -> str:
    return "ä" * 25


def results_of(model: TextGenerator, tool: Any, listener: ToolListener | None = None) -> list[str]:
    run = model.run_tools(ASK, [tool], listener=listener)
    return [message.content for message in run.messages if message.role is ChatRole.TOOL]


def test_what_goes_wrong_is_a_result() -> None:
    failing = CALL.replace("1", "9")
    with fake(failing, "Oh.") as model:
        assert results_of(model, add) == ["error: ZeroDivisionError: nine"]
    with fake(CALL, "Oh.") as model:
        listener = Listens(allowed=False)
        assert results_of(model, add, listener) == ["error: this call was not allowed"]
        assert sum(isinstance(event, Finished) for event in listener.events) == 2
    with fake(CALL, "Oh.") as model:
        assert results_of(model, ToolSpec("add", "", ADD["parameters"], long), Listens()) == [
            "ä" * 10 + "\n[15 of 25 characters left out]"
        ]
    with fake(CALL, "Oh.", context=50_000) as model:
        assert len(results_of(model, ToolSpec("add", "", ADD["parameters"], lambda a, b: "x" * 30_000))[0]) < 20_100


def test_a_coroutine_function_is_run_to_its_end() -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a * b if a < 9 else 1 // 0

    async def within_a_loop(model: TextGenerator) -> list[str]:
        return results_of(model, add)

    with fake(CALL, "It is 2.") as model:
        assert results_of(model, add) == ["2"]
        assert asyncio.run(within_a_loop(model)) == ["2"]
    with fake(CALL.replace("1", "9"), "Oh.") as model:
        assert results_of(model, add) == ["error: ZeroDivisionError: integer division or modulo by zero"]


def test_run_tools_makes_one_call_at_a_time_if_asked() -> None:
    with fake(f"{CALL}\n{NEXT}", "It is 3.") as model:
        run = model.run_tools(ASK, [add], parallel_tool_calls=False)
    assert [call.arguments for call in run.messages[1].tool_calls] == [ONE]


def test_results_as_text() -> None:
    class Model:
        def model_dump_json(self) -> str:
            return '{"x":1}'

    assert as_result("a\n") == "a\n"
    assert as_result({"a": [1, None, "é"]}) == '{"a": [1, null, "é"]}'
    assert as_result(None) == "null"
    assert as_result({"p": Path("/x")}) == '{"p": "/x"}'
    assert as_result(Model()) == '{"x":1}'
    assert as_result(Finished("stop")).startswith('{"finish_reason": "stop"')


def test_a_pool_calls_tools_too() -> None:
    with GeneratorPool(fake(CALL, "It is 3.")) as pool:
        assert pool.generate_chat(ASK, tools=[add]).tool_calls[0].values == {"a": 1, "b": 2}
        assert str(pool.run_tools(ASK, [add])) == "It is 3."


def test_a_batch_calls_tools_too() -> None:
    with fake(CALL, CALL) as model:
        plain = model.prompter.chat([ChatMessage.user("x")])
        prompt = model.prompter.chat([ChatMessage.user("x")], tools=ToolRequest.of([add]))
        items = [BatchItem(one, GenerationOptions(temperature=0, max_tokens=80)) for one in (plain, prompt, plain)]
        found = answer_batch(model, items)
    assert [len(completion.tool_calls) for completion in found] == [0, 1, 0]
    assert found[0].text == CALL


def test_the_template_of_the_tests_is_known() -> None:
    assert formatter_of("gptoss").source == HARMONY


def test_a_session_keeps_a_call_as_an_answer() -> None:
    """Whoever gave the prompt its tools: here a generator that always does."""
    with fake(CALL) as model:
        prompt = model.prompter.chat([ChatMessage.user("x")], tools=ToolRequest.of([add]))
        session = ChatSession(model)
        stream = model.stream_prompt
        model.stream_prompt = lambda _, *more, **how: stream(prompt, *more, **how)  # type: ignore[method-assign]
        assert the_end(list(session.send("x"))).finish_reason == "tool_calls"
    answer = session.messages[-1]
    assert (answer.content, answer.partial, answer.tool_calls[0].values) == ("", False, {"a": 1, "b": 2})
    called = [*session.messages, ChatMessage.tool("3", answer.tool_calls[0].id)]
    assert '## Assistant\n\nadd({"a": 1, "b": 2})\n\n## Tool\n\n3' in export_text(called, ".md", model="x")
    assert as_messages(json.loads(export_text(called, ".json", model="x"))["messages"]) == called


def test_a_model_without_a_form_of_its_own_makes_one_call(guide: Path) -> None:
    with load(guide) as model:
        answer = model.generate_chat(ASK, tools=[ADD], tool_choice="required", max_tokens=400)
    assert len(answer.tool_calls) == 1
    assert answer.finish_reason == "tool_calls"
