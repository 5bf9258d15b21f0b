"""The tokenizer that is made from a GGUF file gives the ids of the tokenizer.json that the file was converted from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from support.gguf_files import write_gguf
from support.hard_texts import hard_texts
from support.vocabularies import gguf_vocabulary

from lmsupply_cli.chat.formats.template import Template
from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chat.special import read_chat_files
from lmsupply_cli.engine.folder import ModelFolder, open_folder
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import GuidanceVocabulary, Matcher
from lmsupply_cli.engine.tokenizer import ModelTokenizer
from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.gguf_file import open_gguf_file
from lmsupply_cli.importer.pretokenizers import PRE_TOKENIZERS
from lmsupply_cli.importer.source import TokenizerFacts
from lmsupply_cli.importer.tokenizer_gguf import write_tokenizer

Json = dict[str, Any]

DATA = Path(__file__).parent.parent / "data" / "tokenizers"
MODELS = Path(__file__).parent.parent / "models"
BYTE_LEVEL = {
    "deepseek_v3": "deepseek-v3",
    "gptoss": "gpt-4o",
    "llama3": "llama-bpe",
    "llama3_1": "llama-bpe",
    "neox": "olmo",
    "phi4": "dbrx",
    "phi4mini": "gpt-4o",
    "qwen25": "qwen2",
    "qwen3": "qwen2",
    "smollm2": "smollm",
    "tekken": "tekken",
}
FAMILIES = sorted(path.stem for path in DATA.glob("*.json") if path.stem != "expected")


def original(family: str) -> Json:
    found: Json = json.loads((DATA / f"{family}.json").read_text(encoding="utf-8"))
    return found


def written(tmp_path: Path, metadata: Json) -> tuple[Path, TokenizerFacts]:
    """The folder with the tokenizer of a GGUF file with that metadata."""
    path = write_gguf(tmp_path / "model.gguf", "llama", metadata, {"x": np.zeros(32, np.float32)})
    folder = tmp_path / "made"
    folder.mkdir(exist_ok=True)
    return folder, write_tokenizer(open_gguf_file(path), folder)


def of_family(family: str) -> Json:
    found = gguf_vocabulary(original(family), BYTE_LEVEL.get(family, ""))
    if family == "gemma3":
        words = original(family)["model"]["vocab"]
        found |= {f"tokenizer.ggml.{name}_token_id": words[f"<{name}>"] for name in ("bos", "eos")}
        found |= {"tokenizer.ggml.unknown_token_id": words["<unk>"], "tokenizer.ggml.add_space_prefix": False}
    return found


def library(folder: Path) -> Any:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def read(folder: Path, name: str = "tokenizer.json") -> Json:
    found: Json = json.loads((folder / name).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_and_text_equal_the_original(family: str, tmp_path: Path) -> None:
    folder, _ = written(tmp_path, of_family(family))
    made, whole = library(folder), tokenizers.Tokenizer.from_file(str(DATA / f"{family}.json"))
    for text in hard_texts():
        ids = whole.encode(text, add_special_tokens=False).ids
        assert (text, made.encode(text, add_special_tokens=False).ids) == (text, ids)
        assert made.decode(ids, skip_special_tokens=False) == whole.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - BYTE_LEVEL.keys() - {"gemma3"}))
def test_merges_are_derived_from_scores_in_the_order_of_the_original(family: str, tmp_path: Path) -> None:
    folder, _ = written(tmp_path, of_family(family))
    pairs = [row.split(" ") if isinstance(row, str) else row for row in original(family)["model"]["merges"]]
    assert read(folder)["model"]["merges"] == pairs


def test_pieces_with_merges_equal_the_original(tmp_path: Path) -> None:
    """As in Gemma 4: spaces as in SentencePiece, merges as in BPE."""
    merges = [" ".join(pair) for pair in original("gemma3")["model"]["merges"]]
    more = {"tokenizer.ggml.model": "gemma4", "tokenizer.ggml.pre": "gemma4", "tokenizer.ggml.merges": merges}
    folder, _ = written(tmp_path, of_family("gemma3") | more)
    made, whole = library(folder), tokenizers.Tokenizer.from_file(str(DATA / "gemma3.json"))
    assert read(folder)["model"]["merges"] == original("gemma3")["model"]["merges"]
    for text in hard_texts():
        assert (text, made.encode(text).ids) == (text, whole.encode(text).ids)


@pytest.mark.parametrize("family", ["phi3", "phi4", "phi4mini", "qwen3", "smollm2", "tekken", "mistral_v3"])
def test_tokens_drop_the_white_space_that_the_original_drops(family: str, tmp_path: Path) -> None:
    folder, _ = written(tmp_path, of_family(family))

    def flags(tokenizer: Json) -> dict[str, tuple[bool, bool]]:
        return {row["content"]: (row["lstrip"], row["rstrip"]) for row in tokenizer["added_tokens"]}

    assert flags(read(folder)) == flags(original(family))


def test_tool_tokens_are_shown_and_control_tokens_are_not(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, of_family("phi4mini"))
    special = {row["content"]: row["special"] for row in read(folder)["added_tokens"]}
    assert special == {row["content"]: row["special"] for row in original("phi4mini")["added_tokens"]}


@pytest.mark.parametrize(("family", "bos"), [("llama3_1", "<|begin_of_text|>"), ("tekken", "<s>"), ("llama2", "<s>")])
def test_what_is_put_before_a_text_equals_the_original(family: str, bos: str, tmp_path: Path) -> None:
    wanted = original(family)
    bos_id = next(row["id"] for row in wanted["added_tokens"] if row["content"] == bos)
    folder, facts = written(tmp_path, of_family(family) | {"tokenizer.ggml.bos_token_id": bos_id})
    assert read(folder)["post_processor"] == wanted["post_processor"]
    assert facts.bos_id == bos_id
    assert read(folder, "tokenizer_config.json")["bos_token"] == bos
    assert read(folder, "tokenizer_config.json")["add_bos_token"] is True


def test_the_file_says_what_is_put_around_a_text(tmp_path: Path) -> None:
    start, end = (original("qwen3")["added_tokens"][place]["id"] for place in (1, 2))
    more = {"bos_token_id": start, "eos_token_id": end, "add_bos_token": True, "add_eos_token": True}
    folder, _ = written(tmp_path, of_family("qwen3") | {f"tokenizer.ggml.{key}": value for key, value in more.items()})
    made = library(folder)
    assert made.encode("x").ids == [start, *made.encode("x", add_special_tokens=False).ids, end]
    assert made.encode("x", "y").ids.count(end) == 2


# -- ends, and other special tokens


def words(*texts: str, **more: Any) -> Json:
    """A byte-level vocabulary of `a`, `b`, `ab` and those texts, which are control tokens."""
    tokens = ["a", "b", "ab", *texts]
    found = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": [1, 1, 1, *[3] * len(texts)],
        "merges": ["a b"],
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (found | more).items() if value is not None}


@pytest.mark.parametrize(
    ("texts", "more", "eos_ids"),
    [
        (("<|endoftext|>", "<|im_end|>", "<|im_start|>"), {"eos_token_id": 4}, (4, 3)),
        (("<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"), {"eos_token_id": 3}, (3, 4, 5)),
        (("<x>", "<y>", "<z>"), {"eos_token_id": 3, "eot_token_id": 4, "eom_token_id": 5}, (3, 4, 5)),
        (("<|end|>", "<|return|>", "<|call|>"), {"eos_token_id": 4}, (4, 5)),  # <|end|> ends a thought here
        (("<|end|>", "<|user|>"), {}, (3,)),
        (("<x>",), {"eos_token_id": 0xFFFFFFFF}, ()),
    ],
)
def test_ends_of_answers(texts: tuple[str, ...], more: Json, eos_ids: tuple[int, ...], tmp_path: Path) -> None:
    assert written(tmp_path, words(*texts, **more))[1].eos_ids == eos_ids


def test_an_end_that_the_file_calls_an_ordinary_word_is_a_control_token(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, words("<|im_end|>", token_type=[1, 1, 1, 1]))
    assert library(folder).encode("a<|im_end|>").ids == [0, 3]
    assert [row["special"] for row in read(folder)["added_tokens"]] == [True]


def test_a_word_that_the_file_names_as_special_remains_a_word(tmp_path: Path) -> None:
    folder, facts = written(tmp_path, words("<x>", bos_token_id=0, eos_token_id=1, padding_token_id=2))
    assert library(folder).encode("ab").ids == [2]
    assert [row["content"] for row in read(folder)["added_tokens"]] == ["<x>"]
    assert facts == TokenizerFacts(0, (1,), 2)


def test_special_tokens_are_named(tmp_path: Path) -> None:
    more = {"bos_token_id": 3, "eos_token_id": 4, "unknown_token_id": 5, "padding_token_id": 4}
    folder, facts = written(tmp_path, words("<s>", "</s>", "<unk>", **more))
    settings = read(folder, "tokenizer_config.json")
    assert {name: settings[f"{name}_token"] for name in ("bos", "eos", "unk", "pad")} == {
        "bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "</s>",
    }  # fmt: skip
    assert facts == TokenizerFacts(3, (4,), 4, unk_id=5)


def test_unused_and_empty_tokens_are_left_out(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, words("[PAD3]", "", "<x>", token_type=[1, 1, 1, 5, 1, 4]))
    assert library(folder).get_vocab() == {"a": 0, "b": 1, "ab": 2, "<x>": 5}


def test_a_file_without_kinds_is_read(tmp_path: Path) -> None:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    scores = [0.0] * 259 + [-3.0, -2.0, -1.0]
    found = {"model": "llama", "tokens": tokens, "scores": scores}
    folder, facts = written(tmp_path, {f"tokenizer.ggml.{key}": value for key, value in found.items()})
    assert library(folder).encode("a é").ids == [1, 261, 259, 3 + 0xC3, 3 + 0xA9]
    assert library(folder).decode([261, 259, 3 + 0xC3, 3 + 0xA9]) == "a é"
    assert facts == TokenizerFacts(1, (2,), None, unk_id=0)


def test_of_two_equal_merges_the_first_counts(tmp_path: Path) -> None:
    more = {"tokens": ["a", "b", "ab", "ba"], "token_type": [1] * 4, "merges": ["a b", "b a", "a b"]}
    assert library(written(tmp_path, words(**more))[0]).encode("aba").ids == [2, 0]


# -- pre-tokenizers


@pytest.mark.parametrize("name", sorted(PRE_TOKENIZERS))
def test_a_pre_tokenizer_loses_nothing(name: str) -> None:
    steps = list(PRE_TOKENIZERS[name].steps)
    empty: Json = {"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": None}
    model = {"type": "BPE", "vocab": {}, "merges": []}
    document = empty | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "model": model}
    cut = tokenizers.Tokenizer.from_str(json.dumps(document)).pre_tokenizer
    decoder = tokenizers.decoders.ByteLevel()
    for text in hard_texts():
        assert decoder.decode([piece for piece, _ in cut.pre_tokenize_str(text)]) == text


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("default", "I|'|ve|·|123|456|7|·HelloWorld|!!|·|·x"),
        ("gpt-2", "I|'ve|·1234567|·HelloWorld|!!|·|·x"),
        ("smollm", "I|'ve|·|1|2|3|4|5|6|7|·HelloWorld|!!|·|·x"),
        ("llama-bpe", "I|'ve|·|123|456|7|·HelloWorld|!!|·|·x"),
        ("qwen2", "I|'ve|·|1|2|3|4|5|6|7|·HelloWorld|!!|·|·x"),
        ("gpt-4o", "I've|·|123|456|7|·Hello|World|!!|·|·x"),
        ("kimi-k2", "I've|·|123|456|7|·Hello|World|!!|·|·x"),
        ("tekken", "I|'ve|·|1|2|3|4|5|6|7|·Hello|World|!!|·|·x"),
        ("afmoe", "I|'ve|·|1|234|567|·HelloWorld|!!|·|·x"),
        ("tiny_aya", "I've|·|1|234|567|·Hello|World|!!|·|·x"),
        ("superbpe", "I've·|1|234|567|·HelloWorld!!··x"),
        ("deepseek-coder", "I|'|ve|·|1|2|3|4|5|6|7|·HelloWorld|!!|·|·x"),
        ("bloom", "I've|·1234567|·HelloWorld|!!·|·x"),
    ],
)
def test_where_a_pre_tokenizer_cuts(name: str, pieces: str, tmp_path: Path) -> None:
    folder, _ = written(tmp_path, words(pre=name))
    cut = library(folder).pre_tokenizer.pre_tokenize_str("I've 1234567 HelloWorld!!  x")
    assert "|".join(piece for piece, _ in cut).replace("Ġ", "·") == pieces


def test_a_file_that_names_no_pre_tokenizer_is_read_with_a_note(tmp_path: Path) -> None:
    _, facts = written(tmp_path, words(pre=None))
    assert len(facts.notes) == 1
    assert "by which rules" in facts.notes[0]
    assert written(tmp_path, words())[1].notes == ()


# -- chat templates


def test_the_chat_template_renders_with_the_special_tokens(tmp_path: Path) -> None:
    source = "{{ bos_token }}{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    more = {"tokenizer.chat_template": source, "tokenizer.ggml.bos_token_id": 3, "tokenizer.ggml.eos_token_id": 4}
    folder, _ = written(tmp_path, words("<s>", "</s>") | more)
    files = read_chat_files(folder)
    assert files.template == source
    assert files.notes == ()
    assert Template(source, files.special).render([ChatMessage(ChatRole.USER, "hi")]) == "<s>hi</s>"


def test_of_named_templates_the_default_one_is_kept(tmp_path: Path) -> None:
    others = {"tokenizer.chat_template.tool_use": "two", "tokenizer.chat_templates": ["tool_use"]}
    folder, _ = written(tmp_path, words() | {"tokenizer.chat_template": "one"} | others)
    assert read(folder, "tokenizer_config.json")["chat_template"] == "one"
    assert read_chat_files(folder).template == "one"


def test_without_a_default_template_the_first_is_kept(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, words() | {"tokenizer.chat_template.tool_use": "two"})
    assert read(folder, "tokenizer_config.json")["chat_template"] == "two"


def test_without_a_template_there_is_none(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, words())
    assert "chat_template" not in read(folder, "tokenizer_config.json")


# -- lmsupply's own tokenizer and guidance take it


def opened(made: Path, to: Path) -> ModelFolder:
    """The toy model with that tokenizer."""
    folder = Path(shutil.copytree(MODELS / "toy", to / "model"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(made / name, folder / name)
    config = read(folder, "genai_config.json")
    config["model"]["vocab_size"] = 2000
    (folder / "genai_config.json").write_text(json.dumps(config))
    return open_folder(folder)


@pytest.mark.parametrize("family", ["smollm2", "llama2", "gemma3"])
def test_text_streams_and_guidance_works(family: str, tmp_path: Path) -> None:
    folder, _ = written(tmp_path, of_family(family))
    tokenizer = ModelTokenizer(opened(folder, tmp_path))
    assert tokenizer.token_by_token
    assert tokenizer.note == ""
    text = "x = 1\n\nécole 😀 你好。"
    ids = tokenizer.encode(text)
    detokenizer = tokenizer.new_detokenizer()
    assert "".join(map(detokenizer.push, ids)) + detokenizer.flush() == text
    vocabulary = GuidanceVocabulary(2000, tokenizer, {})
    matcher = Matcher(Guidance("regex", "[0-9]"), vocabulary)
    digit = tokenizer.encode("x7")[-1]
    assert matcher.allowed()[digit]
    assert not matcher.allowed()[tokenizer.encode("x")[-1]]
    tokenizer.close()


# -- damaged and hostile files


def pieces(**more: Any) -> Json:
    found = {"model": "llama", "tokens": ["<unk>", "<s>", "</s>", "a"], "token_type": [2, 3, 3, 1], "scores": [0.0] * 4}
    return {f"tokenizer.ggml.{key}": value for key, value in (found | more).items() if value is not None}


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (words(model="rwkv"), "rwkv, which is not supported"),
        (words(model="bert"), "bert, which is not supported"),
        (words(model="\x1b[31m"), r"\x1b[31m"),
        (words(model=None), "tokenizer.ggml.model"),
        (words(pre="no-such-rule"), "has an unknown pre-tokenizer: no-such-rule"),
        (words(tokens=None, token_type=None), "there are no tokens"),
        (words(tokens=["a", "b", "ab", "a"], token_type=[1] * 4), "the tokens 0 and 3 are both 'a'"),
        (words(token_type=[1, 1]), "3 tokens, but 2 token types"),
        (words(merges=["a c"]), "the merge 'a c' names a token that does not exist"),
        (words(merges=["b a"]), "the merge 'b a' names a token that does not exist"),
        (words(merges=["ab"]), "the merge 'ab' names a token that does not exist"),
        (words(merges=[""]), "the merge '' names a token that does not exist"),
        (words(merges=None), "there are no merges"),
        (words(bos_token_id=3), "the special token 3 is not among the 3 tokens"),
        (words(eot_token_id=70_000), "the special token 70000 is not among the 3 tokens"),
        (words(eos_token_id="a"), "tokenizer.ggml.eos_token_id must be"),
        (words(tokens=["a", "b", "a" * 5_000], token_type=[1] * 3), "the token 2 has 5000 characters"),
        (pieces(tokens=["<unk>", "<s>", "</s>", "a" * 257]), "the token 3 has 257 characters"),
        (
            pieces(
                tokens=[letter * count for letter in "abcdef" for count in range(1, 257)],
                token_type=[1] * 1536,
                scores=[0.0] * 1536,
            ),
            "its tokens can be merged in too many ways",
        ),
        (pieces(scores=[0.0]), "4 tokens, but 1 scores"),
        (pieces(scores=None), "4 tokens, but 0 scores"),
        (pieces(unknown_token_id=9), "the special token 9 is not among the 4 tokens"),
        (pieces(add_space_prefix="no"), "tokenizer.ggml.add_space_prefix must be"),
        (words() | {"tokenizer.chat_template": 7}, "tokenizer.chat_template must be text"),
        (words() | {"tokenizer.chat_template.x": True}, "tokenizer.chat_template.x must be text"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(metadata: Json, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError) as caught:
        written(tmp_path, metadata)
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint
    assert list((tmp_path / "made").iterdir()) == []
