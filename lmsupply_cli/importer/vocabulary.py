"""The tokens of a model as GGUF and SentencePiece files list them, and the tokenizer.json that does the same.

The forms are those that the converters of transformers write for each family, so that ids and decoded text are equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, NoReturn

from lmsupply_cli.engine.tokenizer import CannotLoad, load_library
from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import write_whole
from lmsupply_cli.foreign import plain
from lmsupply_cli.genai_config import TOKENIZER, TOKENIZER_CONFIG
from lmsupply_cli.importer.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from lmsupply_cli.importer.source import TokenizerFacts

DAMAGED = "the file is damaged or was converted by a faulty tool; use another file of this model"
_MOST_CHARACTERS = 2_048  # in a token
_MOST_IN_PIECE = 256  # the work to find merges grows with the square; those of Llama 2 and Gemma have at most 31
_MOST_MERGED = 32_000_000  # characters in all merges that are derived: room for several million
_SPACE = "▁"  # what SentencePiece writes for a space
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPECIAL = re.compile(r"_?<.+>|\[.+[\[\]]", re.DOTALL)
# tokens that end a turn or an answer, whatever the file says of them (llama.cpp, llama-vocab.cpp)
_ENDS = frozenset(
    {
        "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<end_of_utterance>", "<turn|>",
        "<｜end▁of▁sentence｜>", "[e~[",
    }
)  # fmt: skip
# vocabularies in which <|end|> ends a part of an answer, such as a thought
_END_OF_PART = ({"<|return|>", "<|call|>"}, {"<|calls|>", "<|flush|>"})
_TOOL = re.compile(r"<[|｜][^|｜]*tool[^|｜]*[|｜]>")


class Kind(IntEnum):
    """Of a token, as both GGUF and SentencePiece number them."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Added:
    """How a token is found in a text before it is tokenized. `lstrip`, `rstrip`: with the white space beside it."""

    special: bool
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`name`: of the file, for errors. `form`: bytes written as characters (BPE), pieces with scores (SentencePiece's BPE
    and Unigram), or pieces with merges. `merges` are pairs joined by a space; `scores` rank pieces. `prefix`: before which
    texts a space is put. `unk_id` … are ids or None; `added` overrides what `kinds` says."""

    name: str
    form: Literal["bytes", "pieces", "unigram", "merged pieces"]
    tokens: Sequence[str]
    kinds: Sequence[int]
    pre: PreTokenizer | None = None
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    prefix: Literal["", "each", "first"] = ""
    bos_id: int | None = None
    eos_id: int | None = None
    unk_id: int | None = None
    pad_id: int | None = None
    end_ids: frozenset[int] = frozenset()
    add_bos: bool = False
    add_eos: bool = False
    added: Mapping[int, Added] = field(default_factory=dict)
    drops_spaces: bool = False
    charsmap: bytes = b""
    notes: tuple[str, ...] = ()

    def fail(self, what: str) -> NoReturn:
        raise ModelFilesError(f"{self.name}: {what}", hint=DAMAGED)


def pre_tokenizer(name: str, file: str) -> PreTokenizer:
    """By its name in a GGUF file. Raises ModelFilesError."""
    try:
        return PRE_TOKENIZERS[name]
    except KeyError:
        raise ModelFilesError(
            f"{file} has an unknown pre-tokenizer: {plain(name)}",
            hint="import the model from its safetensors, which bring their own tokenizer",
        ) from None


def checked(given: Vocabulary) -> Vocabulary:
    """The same with the kinds of its special tokens set, and spaces in pieces written as SentencePiece writes them.
    Raises ModelFilesError for ids and tokens that cannot be."""
    _check_lengths(given)
    special = (given.bos_id, given.eos_id, given.unk_id, given.pad_id, *given.end_ids)
    for token in special:
        if token is not None and not 0 <= token < len(given.tokens):
            given.fail(f"the special token {token} is not among the {len(given.tokens)} tokens")
    ends = _ends(given)
    kinds = list(given.kinds) or [_guessed(given, text) for text in given.tokens]
    for token in (given.bos_id, given.eos_id, *ends):
        if token is not None and (kinds[token] == Kind.UNUSED or _looks_special(given, token, kinds)):
            kinds[token] = Kind.CONTROL
    tokens = _spaced(given.tokens, kinds) if given.form != "bytes" else given.tokens
    made = replace(
        given, tokens=tokens, kinds=kinds, end_ids=frozenset(token for token in ends if token != given.eos_id)
    )
    _check_texts(made)
    return made


def _check_lengths(given: Vocabulary) -> None:
    count = len(given.tokens)
    if not count:
        given.fail("there are no tokens")
    if given.kinds and len(given.kinds) != count:
        given.fail(f"there are {count} tokens, but {len(given.kinds)} token types")
    if given.form in ("pieces", "unigram") and len(given.scores) != count:
        given.fail(f"there are {count} tokens, but {len(given.scores)} scores")
    most = _MOST_IN_PIECE if given.form == "pieces" else _MOST_CHARACTERS
    for token, text in enumerate(given.tokens):
        if len(text) > most:
            given.fail(f"the token {token} has {len(text)} characters")


def _ends(given: Vocabulary) -> frozenset[int]:
    """The tokens that end an answer: those that the file names, and those that are known by their text."""
    ends = given.end_ids | {token for token, text in enumerate(given.tokens) if text in _ENDS}
    texts = {given.tokens[token] for token in ends}
    if any(part <= texts for part in _END_OF_PART):
        return ends - {token for token in ends if given.tokens[token] == "<|end|>"}
    return ends


def _looks_special(given: Vocabulary, token: int, kinds: Sequence[int]) -> bool:
    """Some files call `<|im_end|>` an ordinary token, and some name an ordinary word as their beginning or end."""
    return kinds[token] != Kind.UNKNOWN and _SPECIAL.fullmatch(given.tokens[token]) is not None


def _guessed(vocabulary: Vocabulary, text: str) -> int:
    """The kind of a token in a file that does not tell: byte tokens look like nothing else."""
    return Kind.BYTE if vocabulary.form != "bytes" and _BYTE.fullmatch(text) else Kind.NORMAL


def _spaced(tokens: Sequence[str], kinds: Sequence[int]) -> list[str]:
    """Runs of spaces, which llama.cpp's converter writes as such, are pieces that merges lead to."""
    known = set(tokens)
    made = list(tokens)
    for token, text in enumerate(tokens):
        if kinds[token] == Kind.USER_DEFINED and text and not text.strip(" ") and _SPACE * len(text) not in known:
            made[token] = _SPACE * len(text)
    return made


def _check_texts(vocabulary: Vocabulary) -> None:
    """No text stands for two ids, and each can be written in UTF-8."""
    seen: dict[str, int] = {}
    for token, text in _used(vocabulary):
        if text in seen:
            vocabulary.fail(f"the tokens {seen[text]} and {token} are both {plain(repr(text), 40)}")
        seen[text] = token
    try:
        "".join(seen).encode()
    except UnicodeEncodeError as error:
        raise ModelFilesError(f"{vocabulary.name}: a token is not valid Unicode", hint=DAMAGED) from error


def _used(vocabulary: Vocabulary) -> Iterator[tuple[int, str]]:
    """Tokens that a text can become; the others only fill the vocabulary up."""
    for token, text in enumerate(vocabulary.tokens):
        if text and vocabulary.kinds[token] != Kind.UNUSED:
            yield token, text


def tokenizer_json(vocabulary: Vocabulary) -> dict[str, Any]:
    """The tokenizer.json of a `checked` vocabulary. Raises ModelFilesError for merges that cannot be."""
    parts = _byte_parts(vocabulary) if vocabulary.form == "bytes" else _piece_parts(vocabulary)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token,
                "content": vocabulary.tokens[token],
                "single_word": False,
                "lstrip": added.lstrip,
                "rstrip": added.rstrip,
                "normalized": added.normalized,
                "special": added.special,
            }
            for token, added in _added(vocabulary)
        ],
        **parts,
    }


def _added(vocabulary: Vocabulary) -> Iterator[tuple[int, Added]]:
    flags = _flags_of_family(vocabulary)
    for token, text in _used(vocabulary):
        kind = vocabulary.kinds[token]
        if (found := vocabulary.added.get(token)) is not None:
            yield token, found
        elif kind in (Kind.CONTROL, Kind.UNKNOWN):
            yield token, replace(flags.get(text, flags["*"]), special=_TOOL.fullmatch(text) is None)
        elif kind == Kind.USER_DEFINED:
            yield token, replace(flags.get(text, flags["*"]), special=False)


def _flags_of_family(vocabulary: Vocabulary) -> dict[str, Added]:
    """By text, `*` for all others: the white space that some families drop beside control tokens, which no GGUF file
    tells. They are known by their tokens: Phi-4, Phi-4-mini and Phi-3."""
    texts, none = set(vocabulary.tokens), Added(special=True)
    if vocabulary.form == "bytes" and {"<|im_sep|>", "<|im_start|>"} <= texts:
        return {"*": Added(special=True, lstrip=True, rstrip=True)}
    if vocabulary.form == "bytes" and {"<|assistant|>", "<|/tool|>"} <= texts:
        return {"*": Added(special=True, rstrip=True), "<|endoftext|>": none, "<|endofprompt|>": none}
    if vocabulary.form == "pieces" and {"<|assistant|>", "<|end|>", "<|user|>"} <= texts:
        return {"*": Added(special=True, rstrip=True), "<unk>": none, "<s>": none, "<|endoftext|>": none}
    return {"*": none}


def _byte_parts(vocabulary: Vocabulary) -> dict[str, Any]:
    pre = vocabulary.pre or PRE_TOKENIZERS["gpt-2"]
    steps = list(pre.steps)
    words = {text: token for token, text in _used(vocabulary)}
    post = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    template = _template(vocabulary)
    return {
        "normalizer": {"type": "NFC"} if pre.nfc else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps} if len(steps) > 1 else steps[0],
        "post_processor": {"type": "Sequence", "processors": [post, template]} if template else post,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre.whole_words,
            "vocab": words,
            "merges": _given_merges(vocabulary, words),
        },
    }


def _piece_parts(vocabulary: Vocabulary) -> dict[str, Any]:
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if vocabulary.prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    metaspace = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "first", "split": False}
    return {
        "normalizer": _piece_normalizer(vocabulary),
        "pre_tokenizer": metaspace if vocabulary.prefix == "first" else None,
        "post_processor": _template(vocabulary),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _piece_model(vocabulary),
    }


def _piece_normalizer(vocabulary: Vocabulary) -> dict[str, Any] | None:
    steps: list[dict[str, Any]] = []
    if vocabulary.charsmap:
        from base64 import b64encode

        steps.append({"type": "Precompiled", "precompiled_charsmap": b64encode(vocabulary.charsmap).decode()})
    if vocabulary.drops_spaces:
        steps.append({"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if vocabulary.prefix == "each":
        steps.append({"type": "Prepend", "prepend": _SPACE})
    if vocabulary.prefix != "first":
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": _SPACE})
    if not steps:
        return None
    return {"type": "Sequence", "normalizers": steps} if len(steps) > 1 else steps[0]


def _piece_model(vocabulary: Vocabulary) -> dict[str, Any]:
    bytes_known = sum(kind == Kind.BYTE for kind in vocabulary.kinds) == 256
    if vocabulary.form == "unigram":
        rows = [[text, float(score)] for text, score in zip(vocabulary.tokens, vocabulary.scores, strict=True)]
        return {"type": "Unigram", "unk_id": vocabulary.unk_id, "vocab": rows, "byte_fallback": bytes_known}
    words = {text: token for token, text in _used(vocabulary)}
    merges = derived_merges(vocabulary) if vocabulary.form == "pieces" else _given_merges(vocabulary, words)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None if vocabulary.unk_id is None else vocabulary.tokens[vocabulary.unk_id],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": bytes_known,
        "ignore_merges": False,
        "vocab": words,
        "merges": merges,
    }


def derived_merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, the best score first: SentencePiece merges by scores, `tokenizers` by the
    order of this list. Among equal scores the older pieces come first; for Gemma, which puts
    no space before a text, that with the longer one (transformers, convert_slow_tokenizer.py, then and now)."""
    scores, ids = {}, {}
    for token, text in _used(vocabulary):
        if vocabulary.kinds[token] == Kind.NORMAL:
            scores[text], ids[text] = float(vocabulary.scores[token]), token
        elif vocabulary.kinds[token] == Kind.USER_DEFINED:
            scores[text], ids[text] = 0.0, token  # as in SentencePiece's files; GGUF files have another score
    pairs, characters = [], 0
    for text, score in scores.items():
        found = [at for at in range(1, len(text)) if text[:at] in ids and text[at:] in ids]
        characters += len(found) * len(text)
        if characters > _MOST_MERGED:
            vocabulary.fail(f"its tokens can be merged in too many ways (more than {_MOST_MERGED:,} characters)")
        pairs += [(-score, text[:at], text[at:]) for at in found]
    if vocabulary.prefix:
        pairs.sort(key=lambda pair: (pair[0], ids[pair[1] + pair[2]], ids[pair[1]], ids[pair[2]]))
    else:
        pairs.sort(key=lambda pair: (pair[0], -len(pair[1]), -len(pair[2])))
    return [pair[1:] for pair in pairs]


def _given_merges(vocabulary: Vocabulary, words: Mapping[str, int]) -> list[tuple[str, str]]:
    """Each once, in order: the first of two that are equal counts."""
    if not vocabulary.merges:
        vocabulary.fail("there are no merges")
    found: dict[tuple[str, str], None] = {}
    for merge in vocabulary.merges:
        cut = merge.find(" ", 1)
        pair = merge[:cut], merge[cut + 1 :]
        if cut < 0 or not {*pair, "".join(pair)} <= words.keys():
            vocabulary.fail(f"the merge {plain(repr(merge), 60)} names a token that does not exist")
        found[pair] = None
    return list(found)


def _template(vocabulary: Vocabulary) -> dict[str, Any] | None:
    """What is put before and after a text."""
    bos = vocabulary.bos_id if vocabulary.add_bos else None
    eos = vocabulary.eos_id if vocabulary.add_eos else None
    if bos is None and eos is None:
        return None

    def around(name: str, number: int) -> list[dict[str, Any]]:
        parts = [{"Sequence": {"id": name, "type_id": number}}]
        if bos is not None:
            parts.insert(0, {"SpecialToken": {"id": vocabulary.tokens[bos], "type_id": number}})
        if eos is not None:
            parts.append({"SpecialToken": {"id": vocabulary.tokens[eos], "type_id": number}})
        return parts

    named = {vocabulary.tokens[token]: token for token in (bos, eos) if token is not None}
    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": around("A", 0) + around("B", 1),
        "special_tokens": {text: {"id": text, "ids": [token], "tokens": [text]} for text, token in named.items()},
    }


def tokenizer_config(vocabulary: Vocabulary) -> dict[str, Any]:
    """The tokenizer_config.json of a `checked` vocabulary, without a chat template."""
    named = {
        "bos_token": vocabulary.bos_id,
        "eos_token": vocabulary.eos_id,
        "unk_token": vocabulary.unk_id,
        "pad_token": vocabulary.pad_id,
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": vocabulary.add_bos and vocabulary.bos_id is not None,
        "add_eos_token": vocabulary.add_eos and vocabulary.eos_id is not None,
        "clean_up_tokenization_spaces": False,
        **{name: vocabulary.tokens[token] for name, token in named.items() if token is not None},
    }


def facts(vocabulary: Vocabulary) -> TokenizerFacts:
    """Of a `checked` vocabulary."""
    first = () if vocabulary.eos_id is None else (vocabulary.eos_id,)
    ends = (*first, *sorted(vocabulary.end_ids))
    return TokenizerFacts(vocabulary.bos_id, ends, vocabulary.pad_id, vocabulary.notes, vocabulary.unk_id)


def write_vocabulary(vocabulary: Vocabulary, folder: Path, settings: Mapping[str, Any]) -> TokenizerFacts:
    """Write the tokenizer.json of a `checked` vocabulary and a tokenizer_config.json with `settings` in it. Raises
    ModelFilesError, FileError."""
    write_tokenizer_files(folder, tokenizer_json(vocabulary), tokenizer_config(vocabulary) | dict(settings))
    check_written(folder, vocabulary.name)
    return facts(vocabulary)


def write_tokenizer_files(folder: Path, tokenizer: Any, settings: Mapping[str, Any]) -> None:
    """Raises FileError."""
    if tokenizer is not None:
        write_whole(folder / TOKENIZER, json.dumps(tokenizer, ensure_ascii=False))
    write_whole(folder / TOKENIZER_CONFIG, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def check_written(folder: Path, name: str) -> None:
    """Whether the library takes the tokenizer.json in `folder`. Raises ModelFilesError."""
    try:
        load_library(folder / TOKENIZER)
    except (CannotLoad, ModelFilesError) as error:
        raise ModelFilesError(f"{name}: its tokenizer cannot be used: {error}", hint=DAMAGED) from error
