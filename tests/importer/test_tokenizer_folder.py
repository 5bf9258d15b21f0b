"""Tokenizers and chat templates of repositories of transformers, with tokenizer.json or only the older files."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from support.hard_texts import hard_texts, telling_texts

from lmsupply_cli.chat.special import read_chat_files
from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.sentencepiece import read_pieces
from lmsupply_cli.importer.source import TokenizerFacts
from lmsupply_cli.importer.tokenizer_folder import write_tokenizer

Json = dict[str, Any]

EXTRACTS = Path(__file__).parent.parent / "data" / "tokenizers"
VOCAB = Path(__file__).parent / "data" / "vocab"
# SentencePiece takes these for text, and transformers does not
CONTROL = ("<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>")
# what Unigram of `tokenizers` takes for a byte, and for a space
ODD_IN_UNIGRAM = ("<0x0A>", "▁")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, value: Any) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def made(source: Path, config: Json | None = None, generation: Json | None = None) -> tuple[Path, TokenizerFacts]:
    folder = source.parent / "made"
    folder.mkdir(exist_ok=True)
    return folder, write_tokenizer(source, folder, config or {}, generation or {})


def ids(folder: Path, text: str) -> list[int]:
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def settings(folder: Path) -> Json:
    found: Json = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    return found


# -- tokenizer.json


def test_a_tokenizer_json_is_copied_as_it_is(source: Path) -> None:
    shutil.copy(EXTRACTS / "qwen3.json", source / "tokenizer.json")
    put(source, "tokenizer_config.json", {"eos_token": "<|im_end|>", "chat_template": "x", "model_max_length": 7})
    folder, _ = made(source)
    assert (folder / "tokenizer.json").read_bytes() == (EXTRACTS / "qwen3.json").read_bytes()
    assert settings(folder) == {"eos_token": "<|im_end|>", "chat_template": "x", "model_max_length": 7}


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({"chat_template.jinja": "file"}, "file"),
        ({"chat_template.json": {"chat_template": "json"}}, "json"),
        ({"chat_template.jinja": "file", "tokenizer_config.json": {"chat_template": "entry"}}, "file"),
        ({"chat_template.json": {"chat_template": "json"}, "tokenizer_config.json": {"chat_template": "entry"}}, "entry"),
        ({}, None),
    ],
)  # fmt: skip
def test_the_chat_template_is_found_where_transformers_finds_it(
    source: Path, files: Json, template: str | None
) -> None:
    shutil.copy(EXTRACTS / "qwen3.json", source / "tokenizer.json")
    for name, value in files.items():
        put(source, name, value)
    folder, _ = made(source)
    assert settings(folder).get("chat_template") == template
    assert read_chat_files(folder).template == template


@pytest.mark.parametrize(
    ("templates", "kept"),
    [
        ([{"name": "tool_use", "template": "two"}, {"name": "default", "template": "one"}], "one"),
        ([{"name": "rag", "template": "three"}, {"name": "tool_use", "template": "two"}], "three"),
        ([], None),
        (["odd"], None),
    ],
)
def test_of_several_templates_one_is_kept(source: Path, templates: list[Any], kept: str | None) -> None:
    """The engine takes no more."""
    shutil.copy(EXTRACTS / "qwen3.json", source / "tokenizer.json")
    put(source, "tokenizer_config.json", {"chat_template": templates})
    folder, _ = made(source)
    assert settings(folder).get("chat_template") == kept


def test_a_template_in_a_file_wins_over_named_ones(source: Path) -> None:
    shutil.copy(EXTRACTS / "qwen3.json", source / "tokenizer.json")
    put(source, "chat_template.jinja", "one")
    put(source, "additional_chat_templates/tool_use.jinja", "two")
    folder, _ = made(source)
    assert settings(folder)["chat_template"] == "one"
    assert read_chat_files(folder).template == "one"


def test_special_tokens_of_an_older_repository_are_named(source: Path) -> None:
    shutil.copy(EXTRACTS / "llama2.json", source / "tokenizer.json")
    put(source, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": None})
    put(source, "special_tokens_map.json", {"bos_token": "other", "eos_token": {"content": "</s>"}})
    folder, facts = made(source)
    assert settings(folder)["bos_token"] == "<s>"
    assert read_chat_files(folder).special == {"bos_token": "<s>", "eos_token": "</s>"}
    assert facts == TokenizerFacts(1, (2,), None)


def test_every_end_counts_and_the_generation_config_decides_first(source: Path) -> None:
    shutil.copy(EXTRACTS / "qwen3.json", source / "tokenizer.json")
    put(source, "tokenizer_config.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    rows = json.loads((EXTRACTS / "qwen3.json").read_text(encoding="utf-8"))["added_tokens"]
    end, pad = (next(row["id"] for row in rows if row["content"] == text) for text in ("<|im_end|>", "<|endoftext|>"))
    _, facts = made(source, {"eos_token_id": 5, "bos_token_id": 6}, {"eos_token_id": [7, 5], "bos_token_id": None})
    assert facts == TokenizerFacts(6, (7, 5, end), pad)


# -- tokenizer.model


def sentencepiece(source: Path, name: str, **entries: Any) -> None:
    shutil.copy(VOCAB / f"{name}.model", source / "tokenizer.model")
    put(source, "tokenizer_config.json", entries)


def compared(source: Path, name: str, *, odd: tuple[str, ...] = ()) -> list[tuple[str, list[int], list[int]]]:
    """Texts, and the ids that the library and SentencePiece give them."""
    sentencepiece(source, name)
    tokenizer = tokenizers.Tokenizer.from_file(str(made(source)[0] / "tokenizer.json"))
    expected = json.loads((VOCAB / "expected.json").read_text())[name]
    rows = [
        (text, tokenizer.encode(text, add_special_tokens=False).ids, ids)
        for text, ids in zip(telling_texts(), expected, strict=True)
        if not any(part in text for part in (*CONTROL, *odd))
    ]
    assert len(rows) > 150
    return rows


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_ids_equal_those_of_sentencepiece(source: Path, name: str) -> None:
    for text, found, wanted in compared(source, name):
        assert (text, found) == (text, wanted)


def test_unigram_finds_pieces_as_good_as_those_of_sentencepiece(source: Path) -> None:
    """Of two ways with the same score each library takes another."""
    scores = read_pieces(VOCAB / "unigram.model").scores
    rows = compared(source, "unigram", odd=ODD_IN_UNIGRAM)
    for _, found, wanted in rows:
        assert sum(scores[token] for token in found) == pytest.approx(sum(scores[token] for token in wanted))
    assert sum(found == wanted for _, found, wanted in rows) > 0.95 * len(rows)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("llama", TokenizerFacts(1, (2,), None, unk_id=0)),
        ("gemma", TokenizerFacts(2, (1, 5), 0, unk_id=3)),
        ("unigram", TokenizerFacts(1, (2,), None, unk_id=0)),
    ],
)
def test_special_tokens_of_a_model_of_sentencepiece(source: Path, name: str, facts: TokenizerFacts) -> None:
    sentencepiece(source, name)
    folder, found = made(source)
    assert found == facts
    whole = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert whole.encode("x").ids[0] == facts.bos_id
    assert read_chat_files(folder).special["bos_token"] == whole.id_to_token(facts.bos_id)


def test_a_tokenizer_that_is_not_legacy_puts_one_space_before_a_text(source: Path) -> None:
    sentencepiece(source, "llama")
    legacy = ids(made(source)[0], "[INST]x")
    sentencepiece(source, "llama", legacy=False)
    newer = ids(made(source)[0], "[INST]x")
    sentencepiece(source, "llama", add_prefix_space=False)
    none = ids(made(source)[0], "x")
    control = legacy[0]
    x = none[0]
    assert legacy == [control, *ids_with_space(source)]
    assert newer == [control, x]
    assert none == [x]


def ids_with_space(source: Path) -> list[int]:
    """Of `x` at the start of a text."""
    sentencepiece(source, "llama")
    return ids(made(source)[0], "x")


def test_the_config_says_whether_a_text_begins_with_bos(source: Path) -> None:
    sentencepiece(source, "llama", add_bos_token=False, add_eos_token=True)
    folder, _ = made(source)
    whole = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert whole.encode("x").ids == [*ids(folder, "x"), 2]
    assert settings(folder)["add_bos_token"] is False


def test_added_tokens_come_with_their_flags(source: Path) -> None:
    count = len(read_pieces(VOCAB / "llama.model").tokens)
    rows = {
        "0": {"content": "<unk>", "special": True},
        str(count): {"content": "<|im_start|>", "special": True, "rstrip": True},
        str(count + 1): {"content": "<think>", "special": False},
    }
    sentencepiece(source, "llama", added_tokens_decoder=rows, eos_token="<|im_start|>")
    put(source, "added_tokens.json", {"<|im_start|>": count, "<think>": count + 1, "<far>": count + 9})
    folder, facts = made(source)
    assert ids(folder, "<|im_start|>  x<think><far>") == [count, *ids(folder, "x"), count + 1, count + 9]
    added = {row["content"]: row for row in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]}
    assert [added[text]["special"] for text in ("<|im_start|>", "<think>", "<far>")] == [True, False, False]
    assert facts.eos_ids == (count,)


# -- vocab.json and merges.txt


@pytest.mark.parametrize(("family", "kind"), [("qwen25", "Qwen2Tokenizer"), ("neox", "GPTNeoXTokenizerFast")])
def test_ids_of_vocab_json_and_merges_equal_the_original(source: Path, family: str, kind: str) -> None:
    whole = json.loads((EXTRACTS / f"{family}.json").read_text(encoding="utf-8"))
    put(source, "vocab.json", whole["model"]["vocab"])
    pairs = [row if isinstance(row, str) else " ".join(row) for row in whole["model"]["merges"]]
    put(source, "merges.txt", "#version: 0.2\n" + "\n".join(pairs) + "\n")
    rows = {str(row["id"]): {key: row[key] for key in row if key != "id"} for row in whole["added_tokens"]}
    put(source, "tokenizer_config.json", {"tokenizer_class": kind, "added_tokens_decoder": rows})
    folder, _ = made(source)
    original = tokenizers.Tokenizer.from_file(str(EXTRACTS / f"{family}.json"))
    rebuilt = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in hard_texts():
        assert rebuilt.encode(text).ids == original.encode(text).ids


# -- damaged and hostile files


def no_tokenizer(source: Path) -> None:
    put(source, "tekken.json", {})


def broken_json(source: Path) -> None:
    put(source, "tokenizer.json", "{")


def no_model(source: Path) -> None:
    put(source, "tokenizer.json", {"version": "1.0"})


def list_for_settings(source: Path) -> None:
    shutil.copy(EXTRACTS / "qwen3.json", source / "tokenizer.json")
    put(source, "tokenizer_config.json", [])


def no_text(source: Path) -> None:
    shutil.copy(EXTRACTS / "qwen3.json", source / "tokenizer.json")
    (source / "chat_template.jinja").write_bytes(b"\xff\xfe")


def unknown_class(source: Path) -> None:
    put(source, "vocab.json", {"a": 0})
    put(source, "merges.txt", "")
    put(source, "tokenizer_config.json", {"tokenizer_class": "OddTokenizer"})


def same_ids(source: Path) -> None:
    unknown_class(source)
    put(source, "vocab.json", {"a": 0, "b": 0})
    put(source, "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})


def huge_id(source: Path) -> None:
    same_ids(source)
    put(source, "vocab.json", {"a": 10**12})


def no_merges(source: Path) -> None:
    same_ids(source)
    put(source, "vocab.json", {"a": 0, "b": 1})


def far_added(source: Path) -> None:
    sentencepiece(source, "llama")
    put(source, "added_tokens.json", {"<x>": 10**12})


def odd_added(source: Path) -> None:
    sentencepiece(source, "llama", added_tokens_decoder={"-1": {"content": "x"}})


def gap_in_unigram(source: Path) -> None:
    sentencepiece(source, "unigram")
    put(source, "added_tokens.json", {"<x>": 5_000})


def twice_added(source: Path) -> None:
    sentencepiece(source, "llama", added_tokens_decoder={"900": {"content": "▁t"}})


HOSTILE = {
    no_tokenizer: "has no tokenizer that can be used",
    broken_json: "tokenizer",
    no_model: "its tokenizer cannot be used",
    list_for_settings: "must be a JSON object",
    no_text: "is not text in UTF-8",
    unknown_class: "OddTokenizer",
    same_ids: "must give each token a number of its own",
    huge_id: "must give each token a number of its own",
    no_merges: "there are no merges",
    far_added: "<x> has no valid id",
    odd_added: "the added token -1 is malformed",
    gap_in_unigram: "have gaps",
    twice_added: "are both '▁t'",
}


@pytest.mark.parametrize("build", HOSTILE)
def test_what_cannot_be_is_refused_in_one_line(source: Path, build: Any) -> None:
    build(source)
    with pytest.raises(ModelFilesError) as caught:
        made(source)
    assert HOSTILE[build] in caught.value.message
    assert str(source) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["llama", "unigram"])
def test_damaged_models_of_sentencepiece_are_refused_or_read(tmp_path: Path, name: str) -> None:
    data = (VOCAB / f"{name}.model").read_bytes()
    rng, path, refused = random.Random(3), tmp_path / "tokenizer.model", 0
    for _ in range(300):
        damaged = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(len(damaged)) if len(damaged) > 1 else 0 : 0] = bytes([rng.randrange(256)])
        path.write_bytes(damaged)
        try:
            pieces = read_pieces(path)
        except ModelFilesError:
            refused += 1
        else:
            assert len(pieces.tokens) == len(pieces.kinds) == len(pieces.scores)
    assert refused > 100


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it has no pieces"),
        (b"\x0a\xff\xff\xff\xff\x0f", "it ends within a field"),
        (b"\x0a", "it ends within a number"),
        (b"\xff" * 12, "a number is too long"),
        (b"\x0b", "a field of unknown type 3"),
        (b"\x08\x01", "a number stands where a text must be"),
        (b"\x0a\x03\x0a\x01\xff", "a piece is not valid UTF-8"),
        (b"\x0a\x08\x0a\x01a\x15\x00\x00\xc0\x7f", "a score is not a number"),
        (b"\x0a\x03\x0a\x01a\x12\x02\x18\x03", "it is neither Unigram nor BPE"),
        (b"\x0a\x03\x0a\x01a\x12\x03\xc0\x02\x05", "the special token 5 is not among the 1 pieces"),
    ],
)
def test_a_file_that_is_no_model_of_sentencepiece_says_why(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(ModelFilesError) as caught:
        read_pieces(tmp_path / "tokenizer.model")
    assert says in caught.value.message
