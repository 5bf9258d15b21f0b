"""Write the tiny models of the importer's tests: configs, and the logits that transformers computes.

python tools/make_import_cases.py [NAME …]

Needs torch and transformers, which the tests do not. To cover another architecture, add a row to ROWS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.import_cases import Case, weights, write_case  # noqa: E402

TOKENS = 24
Arrays = dict[str, "np.ndarray[Any, Any]"]

SIZES = {
    "vocab_size": 96,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "attn_implementation": "eager",
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def as_they_are(name: str, array: np.ndarray[Any, Any]) -> Arrays:
    return {name: array}


class Row(NamedTuple):
    """`kind`: NAME in NAMEConfig and NAMEForCausalLM. `changes` to SIZES. `to_source`: from a tensor of transformers to
    those that a source offers."""

    kind: str
    changes: Mapping[str, Any]
    to_source: Callable[[str, np.ndarray[Any, Any]], Arrays] = as_they_are


ROWS: Mapping[str, Row] = {
    "llama": Row("Llama", {}),
    "llama_tied": Row("Llama", {"tie_word_embeddings": True}),
    "llama3_rope": Row("Llama", {"rope_parameters": LLAMA3}),
    "llama_biases": Row("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama_wide_heads": Row("Llama", {"head_dim": 48, "num_attention_heads": 3, "num_key_value_heads": 1}),
    "mistral": Row("Mistral", {"sliding_window": 7}),
    "qwen2": Row("Qwen2", {"tie_word_embeddings": True}),
    "qwen2_window": Row("Qwen2", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    "qwen3": Row("Qwen3", {"tie_word_embeddings": True, "rope_theta": 1e6}),
}


def make(name: str, row: Row) -> None:
    config = getattr(transformers, f"{row.kind}Config")(**{**SIZES, **row.changes})
    model = getattr(transformers, f"{row.kind}ForCausalLM")(config).eval()
    drawn: Arrays = {}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            drawn[key] = weights(key, parameter.shape)
            parameter.copy_(torch.from_numpy(drawn[key]))
        ids = np.random.RandomState(1).randint(0, config.vocab_size, TOKENS).tolist()
        logits = model(torch.tensor([ids])).logits[0].float().numpy()
    offered = {key: array for name_, values in drawn.items() for key, array in row.to_source(name_, values).items()}
    idle = ("id2label", "label2id", "_name_or_path")
    kept = {key: value for key, value in config.to_dict().items() if value is not None and key not in idle}
    write_case(name, Case(kept, {key: array.shape for key, array in offered.items()}, tuple(ids), logits))
    print(f"{name}: {len(offered)} tensors, logits of deviation {logits.std():.2f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    for name in sys.argv[1:] or ROWS:
        make(name, ROWS[name])
