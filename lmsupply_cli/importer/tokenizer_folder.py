"""The tokenizer and the chat template of a repository of transformers: copied, or made from the older files that it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmsupply_cli.chat.special import CONFIG, MAP, NAMED, PROCESSOR, TEMPLATE
from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import JSON_BYTES, is_file, read_bytes, read_json, read_text, write_whole
from lmsupply_cli.foreign import plain
from lmsupply_cli.genai_config import TOKENIZER, token_ids
from lmsupply_cli.importer.pretokenizers import PRE_TOKENIZERS
from lmsupply_cli.importer.sentencepiece import read_pieces
from lmsupply_cli.importer.source import TokenizerFacts
from lmsupply_cli.importer.vocabulary import (
    Added,
    Kind,
    Vocabulary,
    check_written,
    checked,
    facts,
    tokenizer_config,
    tokenizer_json,
    write_tokenizer_files,
)

_PIECES, _WORDS, _MERGES, _ADDED = "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json"
_MOST_TOKENS = 4_000_000
_AGAIN = "download it again"
# byte-level tokenizers that are kept in vocab.json and merges.txt, and the rule by which their class cuts text
_BYTE_LEVEL = {
    "GPT2Tokenizer": "gpt-2",
    "CodeGenTokenizer": "gpt-2",
    "GPTNeoXTokenizer": "mpt",
    "CohereTokenizer": "command-r",
    "Qwen2Tokenizer": "qwen2",
}


def write_tokenizer(
    source: Path, folder: Path, config: Mapping[str, Any], generation: Mapping[str, Any]
) -> TokenizerFacts:
    """Write tokenizer.json, and tokenizer_config.json with the chat template in it. `config` and `generation` are the
    source's config.json and generation_config.json. Raises ModelFilesError, FileError."""
    settings = _read_settings(source)
    if is_file(source / TOKENIZER):
        write_whole(folder / TOKENIZER, read_bytes(source / TOKENIZER, limit_bytes=JSON_BYTES, error=ModelFilesError))
        write_tokenizer_files(folder, None, settings)
        check_written(folder, str(source / TOKENIZER))
        return _facts(settings, config, generation, _ids_of(source / TOKENIZER), None)
    vocabulary = checked(_read_vocabulary(source, settings))
    write_tokenizer_files(folder, tokenizer_json(vocabulary), tokenizer_config(vocabulary) | settings)
    check_written(folder, vocabulary.name)
    ids = {text: token for token, text in enumerate(vocabulary.tokens)}
    return _facts(settings, config, generation, ids, facts(vocabulary))


def _facts(
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    ids: Mapping[str, int],
    made: TokenizerFacts | None,
) -> TokenizerFacts:
    """The files of the model decide before those of the tokenizer; every token that one of them calls an end is one."""

    def found(name: str) -> list[int]:
        stated = [*token_ids(generation.get(f"{name}_id")), *token_ids(config.get(f"{name}_id"))]
        text = _content(settings.get(name))
        own = [ids[text]] if text in ids else []
        return [token for token in dict.fromkeys([*stated, *own]) if token >= 0]

    bos, eos, pad, unk = (found(f"{name}_token") for name in ("bos", "eos", "pad", "unk"))
    if made is not None:
        bos, pad, unk = bos or token_ids(made.bos_id), pad or token_ids(made.pad_id), unk or token_ids(made.unk_id)
        eos = list(dict.fromkeys([*eos, *made.eos_ids]))
    first = [ids[0] if ids else None for ids in (bos, pad, unk)]
    return TokenizerFacts(first[0], tuple(eos), first[1], unk_id=first[2])


def _ids_of(path: Path) -> dict[str, int]:
    """Of the tokens that text may name: those added to the model, and its words where they are a table."""
    tokenizer = _object(path)
    model = tokenizer.get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    found = dict(words) if isinstance(words, dict) else {}
    rows = tokenizer.get("added_tokens")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and isinstance(row.get("content"), str):
            found[row["content"]] = row.get("id")
    return {text: token for text, token in found.items() if isinstance(token, int)}


def _read_settings(source: Path) -> dict[str, Any]:
    """tokenizer_config.json with what newer and older repositories keep beside it. A chat template in a file of its own
    wins, as in transformers; of several with names it is "default", else the first."""
    settings = _object(source / CONFIG)
    special = _object(source / MAP)
    settings |= {name: special[name] for name in NAMED if name in special and settings.get(name) is None}
    template = _template(source / TEMPLATE) or settings.get("chat_template")
    template = template or _object(source / PROCESSOR).get("chat_template")
    if isinstance(template, list):
        named = {row.get("name"): row.get("template") for row in template if isinstance(row, dict)}
        template = named.get("default") or next(iter(named.values()), None)
    settings.pop("chat_template", None)
    if template is not None:
        settings["chat_template"] = template
    return settings


def _template(path: Path) -> str | None:
    return read_text(path, error=ModelFilesError) if is_file(path) else None


def _object(path: Path) -> dict[str, Any]:
    """{} where there is no such file. Raises ModelFilesError for anything but a JSON object."""
    if not is_file(path):
        return {}
    value = read_json(path, error=ModelFilesError)
    if not isinstance(value, dict):
        raise ModelFilesError(f"{path} must be a JSON object", hint=_AGAIN)
    return value


def _read_vocabulary(source: Path, settings: Mapping[str, Any]) -> Vocabulary:
    if is_file(source / _PIECES):
        made = _from_pieces(source / _PIECES, settings)
    elif is_file(source / _WORDS) and is_file(source / _MERGES):
        made = _from_words(source, settings)
    else:
        raise ModelFilesError(
            f"{source} has no tokenizer that can be used",
            hint="it must have a tokenizer.json, a tokenizer.model, or a vocab.json and merges.txt",
        )
    made = _with_added(made, source, settings)
    ids = {text: token for token, text in enumerate(made.tokens)}
    named = {f"{name}_id": ids.get(_content(settings.get(f"{name}_token"))) for name in ("bos", "eos", "unk", "pad")}
    return replace(made, **{name: token for name, token in named.items() if token is not None})  # type: ignore[arg-type]


def _from_pieces(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    pieces = read_pieces(path)
    prefix = pieces.prefix and settings.get("add_prefix_space") is not False
    if pieces.form == "unigram" and pieces.unk_id is None:
        raise ModelFilesError(f"{path} has no unknown token", hint=_AGAIN)
    return Vocabulary(
        name=str(path),
        form=pieces.form,
        tokens=pieces.tokens,
        kinds=pieces.kinds,
        scores=pieces.scores,
        prefix="" if not prefix else "first" if settings.get("legacy") is False else "each",
        bos_id=pieces.bos_id,
        eos_id=pieces.eos_id,
        unk_id=pieces.unk_id,
        pad_id=pieces.pad_id,
        add_bos=settings.get("add_bos_token") is not False,
        add_eos=settings.get("add_eos_token") is True,
        drops_spaces=pieces.drops_spaces,
        charsmap=pieces.charsmap,
    )


def _from_words(source: Path, settings: Mapping[str, Any]) -> Vocabulary:
    path = source / _WORDS
    name = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    if name not in _BYTE_LEVEL:
        raise ModelFilesError(
            f"{source} has no tokenizer.json, and it is unknown how its {plain(name) or 'tokenizer'} splits text",
            hint="add the tokenizer.json that transformers writes: AutoTokenizer.from_pretrained(…).save_pretrained(…)",
        )
    words = _object(path)
    tokens = _listed(words, path)
    lines = read_text(source / _MERGES, limit_bytes=JSON_BYTES, error=ModelFilesError).splitlines()
    return Vocabulary(
        name=str(path),
        form="bytes",
        tokens=tokens,
        kinds=[Kind.NORMAL if text else Kind.UNUSED for text in tokens],
        pre=PRE_TOKENIZERS[_BYTE_LEVEL[name]],
        merges=[line for line in lines if line and not line.startswith("#version")],
        add_bos=settings.get("add_bos_token") is True,
        add_eos=settings.get("add_eos_token") is True,
    )


def _listed(words: Mapping[str, Any], path: Path) -> list[str]:
    """By id; "" where there is none."""
    rows = {token: text for text, token in words.items() if _is_id(token)}
    if len(rows) != len(words) or not rows:
        raise ModelFilesError(f"{path} must give each token a number of its own", hint=_AGAIN)
    return [rows.get(token, "") for token in range(max(rows) + 1)]


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS


def _with_added(vocabulary: Vocabulary, source: Path, settings: Mapping[str, Any]) -> Vocabulary:
    """With the tokens that were added after training, which replace those with the same id."""
    tokens, kinds, scores = list(vocabulary.tokens), list(vocabulary.kinds), list(vocabulary.scores)
    least = min(scores, default=0.0)
    added: dict[int, Added] = {}
    for token, text, flags in _added_rows(source, settings):
        while token >= len(tokens):
            tokens.append("")
            kinds.append(Kind.UNUSED)
            scores.append(least)
        if kinds[token] in (Kind.NORMAL, Kind.UNUSED, Kind.BYTE) or tokens[token] != text:
            kinds[token] = Kind.CONTROL if flags.special else Kind.USER_DEFINED
        tokens[token], added[token] = text, flags
    if vocabulary.form == "unigram" and "" in tokens:
        vocabulary.fail("the ids of its added tokens have gaps")
    scores = scores if vocabulary.scores else []
    return replace(vocabulary, tokens=tokens, kinds=kinds, scores=scores, added=added)


def _added_rows(source: Path, settings: Mapping[str, Any]) -> Iterable[tuple[int, str, Added]]:
    """Those of added_tokens.json, then those of tokenizer_config.json, which say more."""
    for text, token in _object(source / _ADDED).items():
        if not _is_id(token):
            raise ModelFilesError(f"{source / _ADDED}: {plain(text)} has no valid id", hint=_AGAIN)
        yield token, text, Added(special=False)
    rows = settings.get("added_tokens_decoder")
    for number, row in rows.items() if isinstance(rows, dict) else ():
        text = _content(row)
        if not number.isdecimal() or not _is_id(int(number[:9])) or len(number) > 9 or not text:
            raise ModelFilesError(f"{source / CONFIG}: the added token {plain(number)} is malformed", hint=_AGAIN)
        flag = row.get if isinstance(row, dict) else {}.get
        yield int(number), text, Added(*(flag(name) is True for name in ("special", "lstrip", "rstrip", "normalized")))


def _content(value: Any) -> str:
    """A special token is written as a text, or as an object with its content."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""
