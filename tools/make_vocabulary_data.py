"""Write tests/importer/data/vocab: small models of SentencePiece, and the ids that its library gives.

Needs sentencepiece. usage: python tools/make_vocabulary_data.py
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import sentencepiece

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.hard_texts import hard_texts, telling_texts  # noqa: E402

TARGET = ROOT / "tests" / "importer" / "data" / "vocab"
_BPE = {"model_type": "bpe", "split_digits": True, "remove_extra_whitespaces": False}
MODELS: dict[str, dict[str, Any]] = {
    "llama": _BPE | {"control_symbols": ["[INST]", "[/INST]"]},
    "gemma": _BPE
    | {
        "add_dummy_prefix": False,
        "user_defined_symbols": ["▁▁", "▁▁▁", "\n\n", "<b>"],
        "control_symbols": ["<start_of_turn>", "<end_of_turn>"],
        "pad_id": 0,
        "eos_id": 1,
        "bos_id": 2,
        "unk_id": 3,
    },
    "unigram": {"model_type": "unigram"},
}


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    lines = [
        line for text in hard_texts() for line in text.splitlines() if line.strip() and max(map(ord, line)) < 0x250
    ]
    expected = {}
    for name, options in MODELS.items():
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines * 3),
            model_writer=model,
            vocab_size=600,
            hard_vocab_limit=False,
            character_coverage=0.99,
            byte_fallback=True,
            allow_whitespace_only_pieces=True,
            normalization_rule_name="identity",
            num_threads=1,
            minloglevel=2,
            **options,
        )
        (TARGET / f"{name}.model").write_bytes(model.getvalue())
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        expected[name] = [processor.encode(text) for text in telling_texts()]
    (TARGET / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
