"""Write the tokenizers of the tests: of each whole one only what the telling texts need, and the ids that it gives them.

python tools/make_tokenizer_extracts.py SRC

SRC is the folder that fetch_tokenizers.py wrote. All that a tokenizer does stays as it is: normalizer, pre-tokenizer,
post-processor, decoder, the options of the model, and the order of the merges. The ids begin at 0 and have no gaps.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.hard_texts import telling_texts  # noqa: E402

Json = dict[str, Any]

TARGET = ROOT / "tests" / "data" / "tokenizers"
FILLER = re.compile(r"unused\d|reserved_|place▁holder|placeholder|control_\d|SPECIAL_\d|dummy_\d|REFERENCE_DOC", re.I)
PRINTABLE = [chr(code) for code in range(33, 127)]


class Merges:
    """What a model makes of the characters of one token."""

    def __init__(self, model: Json) -> None:
        self._vocab: dict[str, int] = model["vocab"]
        self.pairs = [tuple(row.split(" ")) if isinstance(row, str) else tuple(row) for row in model["merges"]]
        self._ranks = {pair: rank for rank, pair in enumerate(self.pairs)}

    def ancestors(self, token: str) -> Iterator[str]:
        """The token, and all that it is merged from. Some are in the vocabulary without merges that lead to them."""
        parts, seen = list(token), set(token)
        while pairs := [(rank, at) for at in range(len(parts) - 1) if (rank := self._rank(parts, at)) is not None]:
            _, at = min(pairs)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
            seen.add(parts[at])
        yield token
        if parts == [token]:
            yield from seen & self._vocab.keys()

    def _rank(self, parts: list[str], at: int) -> int | None:
        return self._ranks.get((parts[at], parts[at + 1]))


def extract(whole: Json, used: Iterable[int]) -> tuple[Json, dict[int, int]]:
    """The tokenizer, and its id for each one of the whole tokenizer's that it still has."""
    model = whole["model"]
    if model["type"] != "BPE":
        raise ValueError(f"a model of type {model['type']}")
    rows = [row for row in whole["added_tokens"] if not FILLER.search(row["content"])]
    merges = Merges(model)
    kept = _vocabulary(model, merges, rows, set(used))
    ids = {token: number for number, token in enumerate(_in_order(model, rows, kept))}
    found_first = {
        row["content"] for row in rows if "▁" not in row["content"]
    }  # in the text, before anything is merged
    small = {
        "vocab": {text: ids[token] for text, token in model["vocab"].items() if text in kept},
        "merges": [
            row
            for row, (left, right) in zip(model["merges"], merges.pairs, strict=True)
            if {left, right, left + right} <= kept and left + right not in found_first
        ],
    }
    post_processor = _renumbered(whole["post_processor"], ids)
    added = [row | {"id": ids[row["id"]]} for row in rows]
    return whole | {"added_tokens": added, "post_processor": post_processor, "model": model | small}, ids


def _vocabulary(model: Json, merges: Merges, rows: list[Json], used: set[int]) -> set[str]:
    """Bytes, printable ASCII, added tokens, and the used tokens with their ancestors."""
    added = {row["content"] for row in rows}
    kept = {text for text in model["vocab"] if re.fullmatch(r"<0x[0-9A-F]{2}>", text) or text in added}
    kept.update(_alphabet(model))
    for text, token in model["vocab"].items():
        if token in used and text not in added:
            kept.update(merges.ancestors(text))
    if model["unk_token"]:
        kept.add(model["unk_token"])
    return kept


def _alphabet(model: Json) -> list[str]:
    chars = PRINTABLE if model["byte_fallback"] else [chr(code) for code in range(33, 400)]
    return [char for char in [*chars, "▁"] if char in model["vocab"]]


def _in_order(model: Json, rows: list[Json], kept: set[str]) -> list[int]:
    """Ids as they were, those of added tokens outside the vocabulary of the model last, where they are counted on."""
    inside = sorted(token for text, token in model["vocab"].items() if text in kept)
    return inside + sorted({row["id"] for row in rows} - set(inside))


def _renumbered(part: Any, ids: dict[int, int]) -> Any:
    """A post-processor with the new ids."""
    if isinstance(part, list):
        return [_renumbered(item, ids) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: [ids[token] for token in value] if key == "ids" else _renumbered(value, ids) for key, value in part.items()
    }


def compact(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("src", type=Path, metavar="SRC")
    expected = {}
    for folder in sorted(path for path in parser.parse_args().src.iterdir() if (path / "tokenizer.json").exists()):
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
        encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in telling_texts()]
        small, ids = extract(json.loads(text), {token for row in encoded for token in row})
        _write(f"{folder.name}.json", compact(small) + "\n")
        expected[folder.name] = [[ids[token] for token in row] for row in encoded]
        print(f"{folder.name}: {len(ids)} tokens")
    lines = [f'"{family}":{compact(rows)}' for family, rows in expected.items()]
    _write("expected.json", "{\n" + ",\n".join(lines) + "\n}\n")


def _write(name: str, text: str) -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
