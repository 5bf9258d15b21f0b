"""What must not change an answer: the prompt cache, draft tokens, the other prompts of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest
from support.real_model import Imports

from lmsupply_cli import ChatMessage, ChatSession, Completion, GenerationOptions, Guidance, TextGenerator, load
from lmsupply_cli.generation.completion import complete

SYSTEM = (
    "You are a helpful assistant who knows the names of all cities, rivers and mountains of the world, and answers every "
    "question about them in one short sentence, without any further remarks, lists or examples."
)
QUESTIONS = ["Name the capital of Italy.", "Name the capital of Germany."]
REPEATED = "été, forêt, garçon, Noël\nété, forêt, garçon, Noël\nété,"
STORY = "Once upon a time"
GREEDY = GenerationOptions(temperature=0, max_tokens=24, logprobs=True)
SAMPLED = GREEDY.replaced(temperature=1.0, seed=7)
COLORS = Guidance.json_schema(
    {"type": "array", "items": {"enum": ["red", "green", "blue", "yellow"]}, "minItems": 3, "maxItems": 5}
)


def scores(answer: Completion) -> list[tuple[int, float]]:
    return [(token.token, token.logprob) for token in answer.logprobs]


def tokens(answer: Completion) -> list[int]:
    return [token for token, _ in scores(answer)]


def raw(model: TextGenerator, prompt: str, options: GenerationOptions) -> Completion:
    model.clear_cache()
    return complete(model.stream_prompt(model.prompter.raw(prompt), options))


def ask(model: TextGenerator, messages: list[ChatMessage]) -> Completion:
    return model.generate_chat(messages, max_tokens=16, logprobs=True)


@pytest.mark.parametrize("model", ["exact", "int4", "fp32"], indirect=True)
def test_a_cached_prompt_gives_the_scores_of_a_fresh_one(model: TextGenerator) -> None:
    """To the last bit, in quantized forms too."""
    chats = [[ChatMessage.system(SYSTEM), ChatMessage.user(question)] for question in QUESTIONS]
    ask(model, chats[0])
    for chat in chats[1:]:
        cached = ask(model, chat)
        model.clear_cache()
        fresh, again = ask(model, chat), ask(model, chat)
        assert fresh.usage.cached_tokens == 0
        assert again.usage.cached_tokens > cached.usage.cached_tokens > 0.7 * fresh.usage.prompt_tokens
        assert scores(cached) == scores(again) == scores(fresh)


def test_in_fp32_a_conversation_continues_as_if_it_were_read_anew(fp32: TextGenerator) -> None:
    """Tokens that were decoded one at a time are in the cache."""
    chat = ChatSession(fp32)
    list(chat.send(QUESTIONS[0]))
    messages = [*chat.messages, ChatMessage.user(QUESTIONS[1])]
    cached = ask(fp32, messages)
    fp32.clear_cache()
    fresh = ask(fp32, messages)
    assert cached.usage.cached_tokens > 0.6 * fresh.usage.prompt_tokens
    assert tokens(cached) == tokens(fresh)
    assert cached.text == "The capital of Germany is Berlin."


@pytest.fixture(scope="module", params=["ngram", "draft"])
def drafting(request: pytest.FixtureRequest, imports: Imports) -> Iterator[TextGenerator]:
    """In fp32, with draft tokens from the text or from the exact form."""
    source = "ngram" if request.param == "ngram" else f"draft:{imports.folder('exact')}"
    with load(imports.folder("fp32"), options=GREEDY, speculative=source) as model:
        yield model


@pytest.fixture(scope="module")
def plain(imports: Imports) -> Iterator[Callable[[str, GenerationOptions], Completion]]:
    """Without draft tokens, each answer made once."""
    with load(imports.folder("fp32")) as model:
        yield functools.cache(functools.partial(raw, model))


@pytest.mark.parametrize(("prompt", "options"), [(REPEATED, GREEDY), (STORY, SAMPLED)], ids=["copied", "sampled"])
def test_in_fp32_draft_tokens_change_nothing(
    plain: Callable[[str, GenerationOptions], Completion],
    drafting: TextGenerator,
    prompt: str,
    options: GenerationOptions,
) -> None:
    expected, found = plain(prompt, options), raw(drafting, prompt, options)
    assert (tokens(found), found.text, found.finish_reason) == (tokens(expected), expected.text, expected.finish_reason)
    assert found.speculative is not None
    if prompt == REPEATED:
        assert found.speculative.accepted > 0.7 * found.speculative.proposed > 5


def test_in_fp32_draft_tokens_change_nothing_in_a_guided_answer(fp32: TextGenerator, drafting: TextGenerator) -> None:
    question = "List three colors as JSON."
    expected, found = (model.generate(question, guidance=COLORS) for model in (fp32, drafting))
    assert found.text == expected.text
    assert found.complete


def test_in_fp32_a_batch_gives_the_answers_of_its_prompts(fp32: TextGenerator) -> None:
    """Of different lengths, so that all but one are padded."""
    prompts = [*QUESTIONS, "Hi! Please tell me, as shortly as you can, what the opposite of big is."]
    alone = [fp32.generate(prompt, max_tokens=12, logprobs=True) for prompt in prompts]
    together = fp32.generate_batch(prompts, batch_size=3, max_tokens=12, logprobs=True)
    assert [tokens(answer) for answer in together] == [tokens(answer) for answer in alone]
    assert [(answer.text, answer.finish_reason) for answer in together] == [
        (answer.text, answer.finish_reason) for answer in alone
    ]


def test_a_batch_answers_rightly(model: TextGenerator, imports: Imports) -> None:
    """In the exact form, whose rounding depends on how many rows are read at once: facts are the same."""
    facts = {
        "Name the capital of Italy.": "The capital of Italy is Rome.",
        "Name the capital of Germany.": "The capital of Germany is Berlin.",
        "Name the capital of France.": "The capital of France is Paris.",
        "Name the capital of Japan.": "The capital of Japan is Tokyo.",
    }
    assert [str(answer) for answer in model.generate_batch(list(facts), batch_size=4)] == list(facts.values())
    lines = "".join(f"{fact}\n" for fact in facts)
    done = imports.lmsupply("run", "exact", "--batch", "-", "--temperature", "0", "--batch-size", "3", stdin=lines)
    assert done.code == 0, done.err
    assert [line["text"] for line in done.json_lines] == list(facts.values())
