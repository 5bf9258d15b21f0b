"""The tokenizer of an import, made and checked before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import JSON_BYTES, listed, our_io_error, parse_json, read_bytes, write_whole
from lmsupply_cli.foreign import plain
from lmsupply_cli.genai_config import TOKENIZER, TOKENIZER_CONFIG
from lmsupply_cli.importer.source import Source, TokenizerFacts

_NO_END = "its tokenizer names no end token, so answers end only at `max_tokens` or a stop text"


@dataclass(frozen=True, slots=True)
class PlannedTokenizer:
    """`files`: what will be written, by name."""

    facts: TokenizerFacts
    files: Mapping[str, bytes]

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.files.values()))

    def write(self, folder: Path) -> None:
        """Raises FileError."""
        for name, data in self.files.items():
            write_whole(folder / name, data)


def plan_tokenizer(source: Source, rows: int) -> PlannedTokenizer:
    """That of `source`, whose embedding has `rows` rows. Raises ModelFilesError for one that is not supported, or belongs to
    another model, FileError."""
    with our_io_error("a temporary folder"), TemporaryDirectory(prefix="lmsupply-") as name:
        folder = Path(name)
        facts = source.write_tokenizer(folder)
        files = {path.name: read_bytes(path, limit_bytes=JSON_BYTES) for path in listed(folder)}
    tokenizer = _object(files, TOKENIZER)
    words, added = dict(_words(tokenizer)), dict(_added(tokenizer))
    template = str(_object(files, TOKENIZER_CONFIG).get("chat_template"))
    for text, token in (words | added).items():
        # an added token that nothing writes does no harm: Gemma 3 has one for images
        if token >= rows and (text not in added or text in template):
            raise ModelFilesError(
                f"the tokenizer has the token {plain(repr(text), 60)} with the id {token:,}, but the embedding has only"
                f" {rows:,} rows",
                hint="the tokenizer belongs to another model: get the one of this model",
            )
    first_free = 1 + max([*words.values(), *added.values()], default=rows)
    return PlannedTokenizer(_settled(facts, rows, first_free), files)


def _settled(facts: TokenizerFacts, rows: int, first_free: int) -> TokenizerFacts:
    """With ids that the model has. The engine wants an end token: where there is none, one that answers do not contain, of
    rows that only fill the embedding up, else of a special token."""

    def within(token: int | None) -> int | None:
        return token if token is not None and token < rows else None

    ends = tuple(token for token in facts.eos_ids if token < rows)
    facts = replace(facts, bos_id=within(facts.bos_id), pad_id=within(facts.pad_id), eos_ids=ends)
    if ends:
        return facts
    candidates = (within(first_free), facts.bos_id, facts.pad_id, within(facts.unk_id))
    end = next((token for token in candidates if token is not None), None)
    if end is None:
        raise ModelFilesError(
            "its tokenizer names no end token, and no other special token",
            hint="name one as eos_token in tokenizer_config.json, or use another source of this model",
        )
    return replace(facts, eos_ids=(end,), notes=(*facts.notes, _NO_END))


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    value = parse_json(files[name], f"{name} is damaged: it", error=ModelFilesError) if name in files else {}
    return value if isinstance(value, dict) else {}


def _words(tokenizer: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Of the model: a table of ids, or rows in their order."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        yield from ((text, token) for text, token in vocabulary.items() if isinstance(token, int))
    elif isinstance(vocabulary, list):
        yield from ((str(row[0]), token) for token, row in enumerate(vocabulary) if isinstance(row, list) and row)


def _added(tokenizer: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    rows = tokenizer.get("added_tokens")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and isinstance(row.get("id"), int):
            yield str(row.get("content")), row["id"]
