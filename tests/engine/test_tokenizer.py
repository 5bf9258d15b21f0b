"""Text to ids and back equals the library, whole and token by token, on an extract of each family's tokenizer."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from support.hard_texts import hard_texts

from lmsupply_cli.engine.detokenizer import ByteDetokenizer
from lmsupply_cli.engine.folder import ModelFolder, _begin_ids, open_folder
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import GuidanceVocabulary, Matcher
from lmsupply_cli.engine.token_bytes import read_decoding_rules
from lmsupply_cli.engine.tokenizer import ModelTokenizer
from lmsupply_cli.files import parse_json
from lmsupply_cli.genai_config import tokenizer_head

EXTRACTS = Path(__file__).parent.parent / "data" / "tokenizers"
FAMILIES = sorted(path.stem for path in EXTRACTS.glob("*.json") if path.stem != "expected")
MODELS = Path(__file__).parent.parent / "models"


def read(family: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXTRACTS / f"{family}.json").read_text(encoding="utf-8"))
    return found


def library_of(family: str) -> Any:
    made = tokenizers.Tokenizer.from_file(str(EXTRACTS / f"{family}.json"))
    made.no_truncation()
    made.no_padding()
    return made


def folder_of(family: str, to: Path) -> ModelFolder:
    """The toy model with that tokenizer."""
    folder = Path(shutil.copytree(MODELS / "toy", to / family))
    shutil.copy(EXTRACTS / f"{family}.json", folder / "tokenizer.json")
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"] |= {"vocab_size": 2000}
    (folder / "genai_config.json").write_text(json.dumps(config))
    return open_folder(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_encoding_equals_the_library(family: str, tmp_path: Path) -> None:
    tokenizer, library = ModelTokenizer(folder_of(family, tmp_path)), library_of(family)
    for text in hard_texts():
        assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode("") == []
    tokenizer.close()


def runs(family: str, library: Any) -> tuple[list[int], dict[int, int]]:
    """Ids that are no byte of their own, and ids by byte."""
    vocab = library.get_vocab(with_added_tokens=True)
    rules = read_decoding_rules(read(family)["decoder"])
    assert rules is not None
    bytes_of = {rules.bytes_of(text)[0]: token for text, token in vocab.items() if rules.is_byte(text)}
    return sorted(set(vocab.values()) - set(bytes_of.values())), bytes_of


def drawn_ids(family: str, library: Any, draw: random.Random) -> list[int]:
    """Any ids; where a byte has a token of its own, whole characters of such tokens."""
    plain, bytes_of = runs(family, library)
    ids: list[int] = []
    for _ in range(draw.randint(0, 12)):
        data = draw.choice("a é日🏳\n").encode()
        if draw.random() < 0.3 and set(data) <= bytes_of.keys():
            ids += [bytes_of[byte] for byte in data]
        else:
            ids.append(draw.choice(plain))
    return ids


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_text_equals_what_the_library_decodes(family: str) -> None:
    library, rules = library_of(family), read_decoding_rules(read(family)["decoder"])
    assert rules is not None
    draw = random.Random(family)
    for _ in range(300):
        ids = drawn_ids(family, library, draw)
        detokenizer = ByteDetokenizer(rules, library.id_to_token)
        shown = "".join([*map(detokenizer.push, ids), detokenizer.flush()])
        assert shown == library.decode(ids, skip_special_tokens=False), ids


@pytest.mark.parametrize("family", FAMILIES)
def test_a_character_is_shown_with_its_last_byte(family: str) -> None:
    library, rules = library_of(family), read_decoding_rules(read(family)["decoder"])
    assert rules is not None
    draw = random.Random(family)
    for _ in range(100):
        ids = drawn_ids(family, library, draw)
        detokenizer, shown = ByteDetokenizer(rules, library.id_to_token), ""
        for at, token in enumerate(ids, 1):
            shown += detokenizer.push(token)
            whole = b"".join(rules.bytes_of(library.id_to_token(one)) for one in ids[:at])
            try:
                text = whole.decode()
            except UnicodeDecodeError:
                continue  # in the middle of a character, or broken
            assert shown == (text if rules.byte_level else text.removeprefix(" " * min(rules.strip, 1)))


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_tokens_are_left_out_and_break_no_text(family: str) -> None:
    library, rules = library_of(family), read_decoding_rules(read(family)["decoder"])
    assert rules is not None
    special = [row["id"] for row in read(family)["added_tokens"] if row["special"]]
    if not special:
        pytest.skip("it has no control tokens")
    ids = library.encode("one two 日本", add_special_tokens=False).ids
    plain = library.decode(ids, skip_special_tokens=False)
    detokenizer = ByteDetokenizer(rules, library.id_to_token, special)
    mixed = [special[0], *ids[:2], special[-1], *ids[2:], special[0]]
    assert "".join([*map(detokenizer.push, mixed), detokenizer.flush()]) == plain


@pytest.mark.parametrize("family", FAMILIES)
def test_guided_tokens_make_a_text_of_the_guidance_whatever_the_model_likes(family: str, tmp_path: Path) -> None:
    folder = folder_of(family, tmp_path)
    tokenizer = ModelTokenizer(folder)
    names = {row["id"]: row["content"] for row in folder.added_tokens if row["special"]}
    vocabulary = GuidanceVocabulary(2000, tokenizer, names)
    rng, pattern = np.random.default_rng(1), r"(hello world|one two|a) [ab]{2}"
    for _ in range(20):
        matcher, said = Matcher(Guidance.regex(pattern), vocabulary), b""
        while (token := int(rng.choice(np.flatnonzero(matcher.allowed([1999]))))) != 1999:
            said += tokenizer.token_bytes(token) or b""
            matcher.accept(token)
        assert re.fullmatch(pattern, said.decode())
    tokenizer.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_of_a_tokenizer_json_parses_to_the_same_but_its_model(family: str) -> None:
    data = (EXTRACTS / f"{family}.json").read_bytes()
    head = tokenizer_head(data)
    assert len(head) < len(data)
    assert parse_json(head, "it") == read(family) | {"model": {}}
    pretty = json.dumps(read(family), indent=2, ensure_ascii=False).encode()
    assert parse_json(tokenizer_head(pretty), "it") == read(family) | {"model": {}}
    assert parse_json(tokenizer_head(b"\xef\xbb\xbf" + data), "it") == read(family) | {"model": {}}


def test_the_head_of_a_file_in_another_order_is_the_whole_file() -> None:
    whole = read("qwen3")
    draw = random.Random(1)
    for _ in range(30):
        keys = list(whole)
        draw.shuffle(keys)
        data = json.dumps({key: whole[key] for key in keys}).encode()
        found = parse_json(tokenizer_head(data), "it")
        assert {key: found[key] for key in keys if key != "model"} == {k: whole[k] for k in keys if k != "model"}
        assert found["model"] in ({}, whole["model"])
        if keys[-1] != "model":
            assert tokenizer_head(data) == data


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"{}", b"[]", b"null", b'{"model": {}}', b'{"model": {}, "model": {"a": 1}}', b"\xff\xfe", b"{" * 5000,
        b'{"added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": [1]}',
        b'{"added_tokens": [], "normalizer": null, "pre_tokenizer": null, "decoder": null, "model": {"vocab": {}}}',
        b'{"added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": {',
    ],
)  # fmt: skip
def test_the_head_of_anything_else_is_the_whole(data: bytes) -> None:
    assert tokenizer_head(data) == data


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]}},
}
BARE = TEMPLATE | {"single": [{"Sequence": {"id": "A", "type_id": 0}}]}
BYTES = {"type": "ByteLevel", "trim_offsets": True}
ROWS = [{"id": 7, "content": "<s>", "special": True}]


@pytest.mark.parametrize("processor", [TEMPLATE, {"type": "Sequence", "processors": [BYTES, TEMPLATE]}])
@pytest.mark.parametrize(
    ("settings", "found"), [({}, (7,)), ({"add_bos_token": True}, (7,)), ({"add_bos_token": False}, ())]
)
def test_what_a_template_puts_before_a_text_comes_first_unless_the_settings_say_no(
    processor: Any, settings: dict[str, Any], found: tuple[int, ...]
) -> None:
    assert _begin_ids({"post_processor": processor}, settings, {"model": {"vocab_size": 9}}) == found


@pytest.mark.parametrize("processor", [None, BYTES, BARE, {"type": "Sequence", "processors": [BYTES]}])
def test_without_such_a_template_the_settings_alone_ask_for_it(processor: Any) -> None:
    tokenizer, config = (
        {"post_processor": processor, "added_tokens": ROWS},
        {"model": {"vocab_size": 9, "bos_token_id": 3}},
    )
    assert _begin_ids(tokenizer, {}, config) == ()
    assert _begin_ids(tokenizer, {"add_bos_token": False, "bos_token": "<s>"}, config) == ()
    assert _begin_ids(tokenizer, {"add_bos_token": True, "bos_token": "<s>"}, config) == (7,)
    assert _begin_ids(tokenizer, {"add_bos_token": True, "bos_token": {"content": "<s>"}}, config) == (7,)
    assert _begin_ids(tokenizer, {"add_bos_token": True}, config) == (3,), "by the config, where nothing else names it"


def test_a_begin_token_beyond_the_vocabulary_is_none() -> None:
    assert _begin_ids({"post_processor": TEMPLATE}, {}, {"model": {"vocab_size": 7}}) == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_begin_ids_are_those_that_the_library_puts_before_a_text(family: str, tmp_path: Path) -> None:
    folder, library = folder_of(family, tmp_path), library_of(family)
    whole = library.encode("word").ids
    alone = library.encode("word", add_special_tokens=False).ids
    assert list(folder.begin_ids) == whole[: len(whole) - len(alone)]
