from __future__ import annotations

import json
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli import GeneratorPool, Guidance, LoadOptions, estimate_memory, load, pull
from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.chat.formats.families import ChatML
from lmsupply_cli.chat.formatter import PromptFormat
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.reasoning import find_markers
from lmsupply_cli.chats.session import ChatSession
from lmsupply_cli.engine.fake import FakeModel, replies
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.prefill import LEAST
from lmsupply_cli.errors import DoesNotFit, EngineError, LmsupplyError, UsageError
from lmsupply_cli.events import Finished, ReasoningDelta, TextDelta
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.generator import GeneratorLimits, TextGenerator
from lmsupply_cli.loading.recommend import recommend_model

GREEDY = GenerationOptions(temperature=0, repetition_penalty=1.0)


def generator(*answers: str | bytes, context: int = 400, **more: int) -> TextGenerator:
    model = FakeModel(replies(*answers), context_length=context)
    info = ModelInfo("fake", None, UNKNOWN_LICENSE, "cpu", 1, context)
    return TextGenerator(model, ChatML(), info, options=GREEDY, limits=GeneratorLimits(**more))


def marks_thoughts(model: TextGenerator) -> None:
    own = replace(model.prompter.format, markers=find_markers([], "<think>"))
    model.prompter = replace(model.prompter, format=own)


def test_generate_and_stream_say_the_same() -> None:
    with generator("Hello, 日本 🏳️!") as model:
        whole = model.generate("x")
        assert (str(whole), whole.finish_reason) == ("Hello, 日本 🏳️!", "stop")
        events = list(model.stream("x"))
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == whole.text
        assert isinstance(events[-1], Finished)
        assert events[-1].usage.cached_tokens == events[-1].usage.prompt_tokens - LEAST


def test_a_broken_answer_loses_nothing() -> None:
    with generator(b"ok \xf0\x9f then more \xc3") as model:
        assert model.generate("x").text == "ok \ufffd then more \ufffd"


def test_options_of_a_call() -> None:
    with generator("one two three") as model:
        assert model.generate("x", max_tokens=3).text == "one"
        assert model.generate("x", stop=["two"]).text == "one "
        with pytest.raises(UsageError, match="unknown generation option"):
            model.generate("x", max_token=3)


def test_a_prompt_beyond_the_context_is_never_cut() -> None:
    with generator("x", context=60) as model, pytest.raises(DoesNotFit, match="tokens; the context has 60") as caught:
        model.generate("y" * 100)
    assert caught.value.exit_code == 4


def test_the_cache_grows_by_doubling_and_is_used_again() -> None:
    with generator("a", "b", "c", context=400) as model:
        model.generate("x", max_tokens=4)
        first = model.cache._decoder
        assert first is not None
        model.generate("x" * 60, max_tokens=4)
        grown = model.cache._decoder
        assert grown is not None
        assert grown is not first
        assert grown.capacity_tokens >= 2 * first.capacity_tokens
        model.generate("x" * 61, max_tokens=4)
        assert model.cache._decoder is grown


def test_another_answer_ends_the_first_one() -> None:
    with generator("abcdef") as model:
        first = model.stream("x")
        next(first)
        assert model.generate("x").text == "abcdef"
        with pytest.raises(LmsupplyError, match="abandoned"):
            list(first)


def test_closed_is_closed() -> None:
    model = generator("x")
    model.close()
    model.close()
    with pytest.raises(EngineError, match="closed"):
        model.generate("x")


def test_a_session_keeps_what_was_said() -> None:
    with generator("first", "second", "third") as model:
        session = ChatSession(model, system="Be brief.")
        assert "".join(e.text for e in session.send("a") if isinstance(e, TextDelta)) == "first"
        assert [m.content for m in session.messages] == ["Be brief.", "a", "first"]
        events = session.send("b")
        for event in events:
            if isinstance(event, TextDelta):
                break
        events.close()  # type: ignore[attr-defined]
        assert [m.content for m in session.messages][-2:] == ["b", "s"]
        assert "".join(e.text for e in session.send("c") if isinstance(e, TextDelta)) == "third"
        session.clear()
        assert [m.content for m in session.messages] == ["Be brief."]


def test_a_message_without_any_answer_is_taken_back() -> None:
    with generator("x", context=80) as model:
        session = ChatSession(model)
        with pytest.raises(DoesNotFit):
            list(session.send("y" * 100))
        assert session.messages == []


def test_a_second_turn_reads_only_what_is_new() -> None:
    with generator("first", "second", reserve_tokens=400) as model:
        session = ChatSession(model)
        list(session.send("a"))
        *_, last = session.send("b")
        assert isinstance(last, Finished)
        new = "<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
        last_token = 1  # chosen, but never fed to the model
        read = last.usage.prompt_tokens - last.usage.cached_tokens
        assert read <= len(model.model.encode(new)) + last_token


@pytest.mark.parametrize(
    ("free", "ref"), [(9e9, "phi-4-mini"), (6e9, "qwen3-4b"), (4e9, "qwen3-1.7b"), (1e9, "qwen3-0.6b")]
)
def test_the_recommendation_follows_the_memory(free: float, ref: str) -> None:
    recommended = recommend_model(int(free))
    assert recommended.entry.ref == ref
    assert "GB" in recommended.reason


def test_thoughts_are_told_apart_and_not_given_back() -> None:
    answers = ["<think>\nA greeting.\n</think>\n\nHi there", "<think>more</think>ok"]
    with generator(*answers) as model:
        marks_thoughts(model)
        found = model.generate("hello")
        assert (found.text, found.reasoning) == ("Hi there", "A greeting.")
        session = ChatSession(model)
        events = list(session.send("hello"))
        assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "A greeting."
        assert session.messages[-1] == ChatMessage.assistant("Hi there", reasoning="A greeting.")
        list(session.send("more"))
        assert "greeting" not in session.prompt_text()
        assert "<think>\nmore\n</think>\n\nok" in session.prompt_text(), "the answer that goes on keeps its thought"


def test_an_answer_goes_on_inside_its_thought() -> None:
    with generator("<think>\nA long thought.\n</think>\n\nHi") as model:
        marks_thoughts(model)
        session = ChatSession(model)
        list(session.send("hello", max_tokens=15))
        assert session.messages[-1] == ChatMessage.assistant("", reasoning="A long", partial=True)
        list(session.resume())
        assert session.messages[-1].reasoning.startswith("A long")


def test_text_that_turns_out_a_thought() -> None:
    with generator("no beginning</think>Hi") as model:
        marks_thoughts(model)
        found = model.generate("hello")
        assert (found.text, found.reasoning) == ("Hi", "no beginning")


def test_the_familys_end_token_ends_an_answer_that_the_config_would_not_end() -> None:
    model = FakeModel(replies("yes"), context_length=400, eos_ids=())
    info = ModelInfo("fake", None, UNKNOWN_LICENSE, "cpu", 1, 400)
    control = frozenset({"<|im_end|>"})
    generator = TextGenerator(model, PromptFormat(ChatML(), control), info, options=GREEDY)
    found = generator.generate("x", max_tokens=50)
    assert (found.text, found.finish_reason) == ("yes", "stop")
    assert generator.generate("x", max_tokens=50, stop=("e",)).text == "y", "and the user's stops hold as well"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.generate(None), "prompt must be a string, not NoneType"),
        (lambda m: m.generate_chat("thanks"), "messages must be a list of messages, not str"),
        (lambda m: m.generate_chat([5]), "message 1 must be a mapping, not int"),
        (lambda m: m.generate_batch(["thanks", 5]), r"prompts\[1\] must be a string or a list of messages, not int"),
        (lambda m: m.generate("x", guidance='{"type":"object"}'), "guidance must be a Guidance, such as"),
        (lambda m: m.generate("x", temprature=3), "unknown generation option 'temprature'"),
        (lambda m: m.generate("x", stop=5), "`stop` must be a text or a list of texts"),
        (lambda m: m.count_tokens(5), "text must be a string"),
        (
            lambda m: m.generate("x", logit_bias={9999: 1}),
            "`logit_bias` names token 9999, but the vocabulary has only 300 tokens",
        ),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(call: Any, said: str) -> None:
    with generator("x") as model, pytest.raises(UsageError, match=said):
        call(model)


def test_the_hint_stands_in_an_uncaught_traceback() -> None:
    with generator("x") as model, pytest.raises(UsageError) as caught:
        model.generate("x", temprature=3)  # type: ignore[call-arg]
    assert caught.value.__notes__ == ["hint: did you mean temperature?"]


def test_two_threads_on_one_generator_never_get_half_an_answer() -> None:
    right, wrong, refused = [0], list[str](), [0]
    with load("guide") as model:
        whole = model.generate("thanks", temperature=0).text

        def ask() -> None:
            for _ in range(25):
                try:
                    text = model.generate("thanks", temperature=0).text
                except EngineError:
                    refused[0] += 1
                    continue
                right[0] += text == whole
                wrong.extend([text] * (text != whole))

        workers = [threading.Thread(target=ask) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert wrong == []
    assert right[0] > 0


def test_a_stream_that_nobody_reads_keeps_no_other_thread_out() -> None:
    with generator("Hello") as model:
        model.stream("x")  # never begun
        found: list[str] = []
        worker = threading.Thread(target=lambda: found.append(model.generate("x").text))
        worker.start()
        worker.join()
        assert found == ["Hello"]


def test_two_sessions_on_one_generator_have_their_own_options() -> None:
    with generator("one two", "one two") as model:
        short, long = ChatSession(model), ChatSession(model)
        short.options = short.options.replaced(max_tokens=3)
        list(short.send("x"))
        list(long.send("x"))
        assert [s.messages[-1].content for s in (short, long)] == ["one", "one two"]


def test_a_session_takes_a_pool() -> None:
    with GeneratorPool(generator("Hello", "again"), concurrency=2) as pool:
        session = ChatSession(pool)
        list(session.send("x"))
        list(session.send("y"))
        assert [m.content for m in session.messages] == ["x", "Hello", "y", "again"]


def test_text_is_streamed_as_strings() -> None:
    with generator("Hello you", "Hello you") as model:
        assert "".join(model.stream_text("x", stop=" y")) == "Hello"
        assert "".join(model.stream_text([{"role": "user", "content": "x"}])) == "Hello you"


def test_the_first_guidance_is_checked_against_the_memory_limit() -> None:
    with load("guide", memory_limit="8GB") as model:
        assert model.memory_shape is not None
        assert model.budget is not None
        model.memory_shape = replace(model.memory_shape, vocabulary=10**9)
        with pytest.raises(DoesNotFit, match="the tables of the guidance would bring the process to"):
            model.generate("x", guidance=Guidance.regex("a"))


def test_a_continued_answer_keeps_to_the_format() -> None:
    with load("guide") as model:
        session = ChatSession(model)
        session.guidance = Guidance.regex("[0-9]{6}")
        list(session.send("hi", max_tokens=2, seed=1))
        first = session.messages[-1].content
        list(session.resume(seed=1))
        assert re.fullmatch("[0-9]{6}", session.messages[-1].content)
        assert session.messages[-1].content.startswith(first)
        session.messages[-1] = ChatMessage.assistant("abc")
        with pytest.raises(UsageError, match="the answer so far does not match the regular expression"):
            list(session.resume())


def test_a_closed_model_has_no_siblings() -> None:
    with generator("one") as model:
        pass
    with pytest.raises(EngineError, match="the model is closed"):
        model.sibling()


@pytest.mark.parametrize("decoder", [None, {"type": "WordPiece", "prefix": "##", "cleanup": True}])
def test_guidance_needs_a_tokenizer_that_decodes_token_by_token(tmp_path: Path, decoder: object) -> None:
    shutil.copytree(Path(__file__).parent.parent / "models" / "phi3", tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"decoder": decoder}))
    with load(tmp_path / "model") as model:
        assert model.generate("x", max_tokens=4, seed=1).usage.completion_tokens == 4
        with pytest.raises(UsageError, match="does not decode token by token"):
            model.generate("x", guidance=Guidance.regex("[a-z]{3}"))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: load("guide", provider="x"), "`provider` must be one of"),
        (lambda: load("guide", threads=-1), "`threads` must be a whole number from 1"),
        (lambda: load("guide", context="5"), "`context` must be a whole number"),
        (lambda: load("guide", draft_tokens=-3), "`draft_tokens` must be"),
        (lambda: load("guide", reserve_tokens=-1), "`reserve_tokens` must be"),
        (lambda: load("guide", reserve_tokens=True), "`reserve_tokens` must be"),
        (lambda: load("guide", cache_dir=5), "`cache_dir` must be a path, not int"),
        (lambda: load("guide", speculative=None), "`speculative` must be a string, not NoneType"),
        (lambda: load("guide", enable_thinking="off"), "`enable_thinking` must be True or False, not str"),
        (lambda: pull("phi-4", provider="x"), "`provider` must be one of"),
        (lambda: pull("phi-4", precision="int3"), "`precision` must be one of"),
        (lambda: estimate_memory("phi-4", provider="x"), "`provider` must be one of"),
        (lambda: load("guide", options={"a": 1}), "`options` must be a GenerationOptions, not dict"),
        (lambda: load("guide", contxt=5), "unknown load option 'contxt'"),
        (lambda: load(None), "ref must be a name or a path"),
        (lambda: load("guide", {"context": 5}), "must be a LoadOptions, not dict"),
        (lambda: load("guide", LoadOptions(), context=60), "can't be combined: context"),
        (lambda: Guidance.regex(5), "must be a string, not int"),
        (lambda: Guidance.regex("\udcff"), "is not valid UTF-8"),
    ],
)
def test_loading_names_what_is_wrong(call: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()
