"""Vocabularies as llama.cpp's converter writes them into GGUF files, made from a tokenizer.json of transformers."""

from __future__ import annotations

import re
from typing import Any

Json = dict[str, Any]

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>", re.DOTALL)
_IS_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def gguf_vocabulary(tokenizer: Json, pre: str = "") -> Json:
    """Metadata of the vocabulary without special tokens. `pre`: the name of the pre-tokenizer; "" for SentencePiece."""
    added = {row["id"]: row for row in tokenizer["added_tokens"]}
    texts = {token: text for text, token in tokenizer["model"]["vocab"].items()}
    texts |= {token: row["content"] for token, row in added.items()}
    pairs = [tuple(row.split(" ")) if isinstance(row, str) else tuple(row) for row in tokenizer["model"]["merges"]]
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(pairs):
        ranks.setdefault("".join(pair), rank)
    tokens, kinds, scores = [], [], []
    for token in range(max(texts) + 1):
        text, kind = f"[PAD{token}]", _UNUSED
        if token in texts:
            text, kind = _entry(texts[token], added.get(token), pieces=not pre)
        tokens.append(text)
        kinds.append(kind)
        scores.append(-1000.0 if kind == _USER_DEFINED else -float(ranks.get(text, 1_000_000)))
    found: Json = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds}
    if pre:
        merges = [" ".join(pair) for pair in pairs]
        return found | {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.merges": merges}
    return found | {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default", "tokenizer.ggml.scores": scores}


def _entry(text: str, added: Json | None, *, pieces: bool) -> tuple[str, int]:
    """Text and kind. The converter takes what looks special for special, and writes spaces as such."""
    if added is not None:
        if pieces and text == "<unk>":
            return text, _UNKNOWN
        if added["special"] or _LOOKS_SPECIAL.fullmatch(text):
            return text, _CONTROL
        return text.replace("▁", " "), _USER_DEFINED
    return text, _BYTE if pieces and _IS_BYTE.fullmatch(text) else _NORMAL
