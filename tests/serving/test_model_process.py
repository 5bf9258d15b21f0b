"""A model in a process of its own, on the real engine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli import (
    ChatMessage,
    ContextOverflow,
    EngineError,
    Guidance,
    ModelNotFound,
    QueueFull,
    QueueTimeout,
    ToolSpec,
    UsageError,
    load,
)
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import WorkerDied
from lmsupply_cli.events import Finished, GenerationEvent, PrefillProgress, TextDelta
from lmsupply_cli.generation.completion import Completion, complete
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.serving import model_process
from lmsupply_cli.serving.model_process import ModelProcess, ProcessAnswer, WorkerLimits
from lmsupply_cli.serving.requests import AnswerRequest

MODELS = Path(__file__).parent.parent / "models"
QUESTIONS = ("hello", "How do I download a model?", "thanks", "How do I list my models, please? I would like to know.")
GREEDY = {"temperature": 0}
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def served(runner: asyncio.Runner) -> Iterator[ModelProcess]:
    """The guide."""
    process = runner.run(ModelProcess.start("guide", LoadOptions(), limits=WorkerLimits(slots=4, queue=16)))
    yield process
    runner.run(process.close())


@pytest.fixture
def alone() -> Iterator[Callable[..., Completion]]:
    """What the guide says in this process."""
    with load("guide") as model:
        yield lambda text, **more: model.generate(text, **more)


def chat(text: str, **more: Any) -> AnswerRequest:
    return AnswerRequest(messages=(ChatMessage.user(text),), **{"options": GREEDY} | more)


async def events(answer: ProcessAnswer) -> list[GenerationEvent]:
    return [event async for event in answer]


async def ask(process: ModelProcess, request: AnswerRequest) -> Completion:
    return complete(iter(await events(await process.answer(request))))


async def slow(**limits: Any) -> ModelProcess:
    """A model that takes its time, and never ends by itself."""
    return await ModelProcess.start(MODELS / "slow", LoadOptions(), limits=WorkerLimits(**limits))


def endless(length: int = 10) -> AnswerRequest:
    return AnswerRequest(ids=tuple(range(10, 10 + length)), options={"max_tokens": 200, **GREEDY})


def test_it_says_what_the_model_says_here(
    runner: asyncio.Runner, served: ModelProcess, alone: Callable[..., Completion]
) -> None:
    for question in QUESTIONS:
        found, here = runner.run(ask(served, chat(question))), alone(question, temperature=0)
        assert (found.text, found.finish_reason) == (here.text, here.finish_reason)
        assert found.usage.prompt_tokens == here.usage.prompt_tokens
        assert found.usage.completion_tokens == here.usage.completion_tokens
    assert (served.info.ref, served.context_tokens, served.running, served.waiting) == ("guide", 1024, 0, 0)
    assert served.answered >= len(QUESTIONS)


def test_many_at_once_say_what_each_says_alone(
    runner: asyncio.Runner, served: ModelProcess, alone: Callable[..., Completion]
) -> None:
    async def all_at_once() -> list[Completion]:
        return await asyncio.gather(*(ask(served, chat(question)) for question in QUESTIONS * 3))

    texts = [one.text for one in runner.run(all_at_once())]
    assert texts == [alone(question, temperature=0).text for question in QUESTIONS] * 3


def test_the_prompt_is_accepted_before_it_is_read(runner: asyncio.Runner, served: ModelProcess) -> None:
    async def look() -> None:
        answer = await served.answer(chat("How do I download a model?" * 10))
        found = await events(answer)
        progress = [event for event in found if isinstance(event, PrefillProgress)]
        assert progress[0].done_tokens < progress[-1].done_tokens == answer.prompt_tokens
        assert isinstance(found[-1], Finished)

    runner.run(look())


def test_what_cannot_be_answered_is_refused_by_its_own_class(runner: asyncio.Runner, served: ModelProcess) -> None:
    with pytest.raises(ContextOverflow, match=r"the context has 1,024") as overflow:
        runner.run(ask(served, chat("word " * 2000)))
    assert overflow.value.hint
    with pytest.raises(UsageError, match="unknown generation option"):
        runner.run(ask(served, chat("x", options={"warmth": 1})))
    assert runner.run(served.count_tokens(AnswerRequest(text="hello"))) >= 1
    with pytest.raises(UsageError):
        runner.run(served.count_tokens(AnswerRequest(text="\0")))
    assert (served.running, served.waiting) == (0, 0)


def test_tools_guidance_and_logprobs(
    runner: asyncio.Runner, served: ModelProcess, alone: Callable[..., Completion]
) -> None:
    def secret(place: str) -> str:
        """A function that no other process could call."""
        return place

    tool = ToolSpec("weather", "Say the weather.", function=secret)
    called = runner.run(ask(served, chat("x", tools=(tool,), tool_choice="required", options={"max_tokens": 60})))
    assert called.finish_reason == "tool_calls"
    assert [call.name for call in called.tool_calls] == ["weather"]
    guidance = Guidance.regex("(yes|no)")
    found = runner.run(ask(served, chat("x", guidance=guidance)))
    assert found.text == alone("x", guidance=guidance, temperature=0).text
    assert found.complete
    scored = runner.run(ask(served, chat("hello", options={"top_logprobs": 2, "max_tokens": 3, **GREEDY})))
    here = alone("hello", top_logprobs=2, max_tokens=3, temperature=0)
    assert [one.token for one in scored.logprobs] == [one.token for one in here.logprobs]
    assert len(scored.logprobs[0].top) == 2


def test_a_conversation_goes_on_from_its_cache(runner: asyncio.Runner, served: ModelProcess) -> None:
    first = ChatMessage.user("How do I download a model? " * 12)

    async def talk() -> tuple[Completion, Completion]:
        one = await ask(served, AnswerRequest(messages=(first,), options=GREEDY))
        again = (first, ChatMessage.assistant(one.text), ChatMessage.user("and then?"))
        return one, await ask(served, AnswerRequest(messages=again, options=GREEDY))

    one, two = runner.run(talk())
    assert two.usage.cached_tokens >= one.usage.prompt_tokens + one.usage.completion_tokens - 4
    assert two.usage.prompt_tokens - two.usage.cached_tokens < 40


def test_a_slow_reader_gets_the_whole_text_in_fewer_pieces(
    runner: asyncio.Runner, served: ModelProcess, alone: Callable[..., Completion]
) -> None:
    async def late() -> list[GenerationEvent]:
        before = served.answered
        answer = await served.answer(chat(QUESTIONS[1]))
        while served.answered == before:
            await asyncio.sleep(0)
        return await events(answer)

    found = runner.run(late())
    pieces = [event for event in found if isinstance(event, TextDelta)]
    assert [piece.text for piece in pieces] == [alone(QUESTIONS[1], temperature=0).text]


def test_a_cancel_ends_the_answer(runner: asyncio.Runner) -> None:
    async def stop(early: bool) -> Completion:
        process = await slow()
        try:
            answer = await process.answer(endless())
            found: list[GenerationEvent] = []
            async for event in answer:
                found.append(event)
                if early or isinstance(event, TextDelta):
                    answer.cancel()
                    answer.cancel()
            assert process.running == 0
            return complete(iter(found))
        finally:
            process.kill()
            await process.wait_ended()

    for early in (True, False):
        found = runner.run(stop(early))
        assert found.finish_reason == "cancelled"
        assert found.usage.completion_tokens < 200


def test_whoever_stops_reading_cancels(runner: asyncio.Runner) -> None:
    async def stop() -> None:
        process = await slow(slots=1)
        answer = await process.answer(endless())
        iterator = aiter(answer)
        await anext(iterator)
        await iterator.aclose()  # type: ignore[attr-defined]
        assert (await ask(process, AnswerRequest(ids=(10,), options={"max_tokens": 2, **GREEDY}))).text
        await process.close()

    runner.run(stop())


def test_a_full_queue_and_one_that_takes_too_long(runner: asyncio.Runner) -> None:
    async def fill() -> None:
        process = await slow(slots=1, queue=1)
        runs = await process.answer(endless())
        process.limits = WorkerLimits(slots=1, queue=1, queue_timeout_s=0)
        waits = asyncio.create_task(process.answer(endless()))
        with pytest.raises(QueueTimeout):
            await waits
        assert (process.running, process.waiting) == (1, 0)
        process.limits = WorkerLimits(slots=1, queue=1)
        gone = asyncio.create_task(process.answer(endless()))
        await asyncio.sleep(0)
        assert (process.running, process.waiting) == (1, 1)
        with pytest.raises(QueueFull):
            await process.answer(endless())
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        runs.cancel()
        assert isinstance((await events(runs))[-1], Finished)
        assert (process.running, process.waiting, process.answered) == (0, 0, 1)
        await process.close()

    runner.run(fill())


@posix
def test_a_killed_process_ends_every_answer_at_once(runner: asyncio.Runner) -> None:
    async def crash() -> None:
        process = await slow(slots=2)
        answers = [await process.answer(endless()) for _ in range(2)]
        waits = [asyncio.create_task(process.answer(endless())), asyncio.create_task(process.count_tokens(endless()))]
        await anext(aiter(answers[0]))
        os.kill(process.pid, signal.SIGKILL)
        for answer in answers:
            with pytest.raises(WorkerDied, match="exit code -9"):
                await events(answer)
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert isinstance(found[0], WorkerDied)
        assert isinstance(found[1], WorkerDied | int)
        assert await process.wait_ended() == -signal.SIGKILL
        assert (process.running, process.waiting, process.memory_bytes()) == (0, 0, 0)
        with pytest.raises(EngineError):
            await process.answer(endless())
        await process.close()

    runner.run(crash())


def test_closing_lets_answers_finish_and_gives_the_memory_back(runner: asyncio.Runner) -> None:
    async def close() -> None:
        process = await slow(slots=1)
        assert process.memory_bytes() > 10_000_000
        answer = await process.answer(AnswerRequest(ids=(10,), options={"max_tokens": 20, **GREEDY}))
        waits = asyncio.create_task(process.answer(endless()))
        await asyncio.sleep(0)
        reading = asyncio.create_task(events(answer))
        await process.close()
        assert complete(iter(await reading)).usage.completion_tokens == 20
        with pytest.raises(EngineError, match="unloaded"):
            await waits
        assert await process.wait_ended() == 0
        assert process.memory_bytes() == 0
        await process.close()

    runner.run(close())


def test_closing_does_not_wait_beyond_the_grace(runner: asyncio.Runner) -> None:
    async def close() -> None:
        process = await slow()
        answer = await process.answer(endless())
        await process.close(grace_s=0)
        with pytest.raises(WorkerDied):
            await events(answer)

    runner.run(close())


def test_what_cannot_be_loaded_raises_what_load_raises(runner: asyncio.Runner, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as here:
        load("no-such-model")
    with pytest.raises(ModelNotFound) as there:
        runner.run(ModelProcess.start("no-such-model", LoadOptions()))
    assert (there.value.message, there.value.hint) == (here.value.message, here.value.hint)
    with pytest.raises(UsageError):
        runner.run(ModelProcess.start("guide", LoadOptions(context=10**6)))


def test_a_start_that_is_given_up_leaves_no_process(runner: asyncio.Runner) -> None:
    async def give_up() -> None:
        start = asyncio.create_task(ModelProcess.start("guide", LoadOptions()))
        await asyncio.sleep(0.01)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start

    runner.run(give_up())


def test_the_options_of_the_load_hold(runner: asyncio.Runner) -> None:
    async def short() -> Completion:
        options = LoadOptions(context=64, options=GenerationOptions(temperature=0, max_tokens=2))
        process = await ModelProcess.start("guide", options)
        assert process.context_tokens == 64
        found = await ask(process, AnswerRequest(messages=(ChatMessage.user("hello"),)))
        await process.close()
        return found

    assert runner.run(short()).finish_reason == "length"


PROGRAM = """
import asyncio, sys
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.serving.model_process import ModelProcess

async def main():
    process = await ModelProcess.start(sys.argv[1], LoadOptions())
    print(process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@posix
def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    """The program has no `__main__` guard, and a module in its folder is not taken for another."""
    (tmp_path / "queue.py").write_text("raise SystemExit('shadowed')")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    parent = subprocess.Popen(
        [sys.executable, "-P", program, str(MODELS / "slow")], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert parent.stdout
    with parent.stdout:
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        while is_running(child):
            pass


def is_running(pid: int) -> bool:
    """A zombie that nobody has waited for is not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return sys.platform != "linux"
    except ProcessLookupError:
        return False


NOISY = """
import os, sys
from lmsupply_cli.serving.model_worker import _own_pipes

requests, replies = _own_pipes()
print("printed")
os.write(1, b"written\\n")
sys.stdout.flush()
assert sys.stdin.read() == ""
replies.write(requests.read())
replies.close()
"""


def test_what_libraries_print_is_no_frame() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], input=b"frames", capture_output=True, check=True)
    assert done.stdout == b"frames"
    assert sorted(done.stderr.split()) == [b"printed", b"written"]


@posix
def test_ctrl_c_is_for_the_parent(runner: asyncio.Runner) -> None:
    async def interrupt() -> None:
        process = await slow()
        assert os.getpgid(process.pid) != os.getpgid(0)
        os.kill(process.pid, signal.SIGINT)
        assert (await ask(process, AnswerRequest(ids=(10,), options={"max_tokens": 2, **GREEDY}))).text
        await process.close()

    runner.run(interrupt())


@posix
def test_what_the_process_said_last_is_part_of_the_error(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "import sys; sys.exit('\\x1b[31mno \\x07 luck\\x1b[0m\\n')"
    monkeypatch.setattr(model_process, "_command", lambda _: [sys.executable, "-c", broken])
    with pytest.raises(WorkerDied) as died:
        runner.run(ModelProcess.start("guide", LoadOptions()))
    assert died.value.message == r"the process of guide ended with exit code 1: no \x07 luck"
