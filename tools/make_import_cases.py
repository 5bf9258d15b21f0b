"""Write the tiny models of the importer's tests: configs, and the logits that transformers computes.

python tools/make_import_cases.py [NAME …]

Needs torch and transformers, which the tests do not. To cover another architecture, add a row to ROWS.
"""

from __future__ import annotations

import copy
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
Shapes = Mapping[str, tuple[int, ...]]

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


LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0],
    "long_factor": [1.0, 1.4, 2.0, 3.0, 4.5, 6.0, 7.0, 8.0],
    "attention_factor": 1.19,
}
FACTS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
EXPERTS = {"num_local_experts": 6, "num_experts_per_tok": 2}
GEMMA = {**FACTS, "sliding_window": 7, "query_pre_attn_scalar": 24, "hidden_activation": "gelu_pytorch_tanh"}


def as_they_are(name: str, shape: tuple[int, ...]) -> Shapes:
    return {name: shape}


def by_expert(name: str, shape: tuple[int, ...]) -> Shapes:
    """Gate and up apart."""
    if name.endswith("gate_up_proj"):
        experts, rows, inputs = shape
        return {
            name.replace("gate_up_proj", f"{part}_proj.weight"): (experts, rows // 2, inputs) for part in ("gate", "up")
        }
    return {f"{name}.weight" if name.endswith("experts.down_proj") else name: shape}


def as_mixtral(name: str, shape: tuple[int, ...]) -> Shapes:
    """As its files have them, the numbers of the experts taken out."""
    names = (("mlp.", "block_sparse_moe."), ("gate_proj.", "w1."), ("down_proj.", "w2."), ("up_proj.", "w3."))
    found = {}
    for key, value in by_expert(name, shape).items():
        for new, old in names:
            key = key.replace(new, old)
        found[key] = value
    return found


class Row(NamedTuple):
    """`kind`: NAME in NAMEConfig and NAMEForCausalLM. `changes` to SIZES. `parts`: the tensors of a source whose rows, one
    after another, are a tensor of transformers."""

    kind: str
    changes: Mapping[str, Any]
    parts: Callable[[str, tuple[int, ...]], Shapes] = as_they_are


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
    "qwen3_moe": Row("Qwen3Moe", {**EXPERTS, "moe_intermediate_size": 64, "norm_topk_prob": True}, by_expert),
    "qwen3_moe_partly": Row(
        "Qwen3Moe", {**EXPERTS, "moe_intermediate_size": 64, "norm_topk_prob": False, "mlp_only_layers": [0]}, by_expert
    ),
    "mixtral": Row("Mixtral", EXPERTS, as_mixtral),
    "phi3": Row("Phi3", {**FACTS, "sliding_window": 7}),
    "phi3_partial": Row(
        "Phi3",
        {
            **FACTS, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32, "partial_rotary_factor": 0.5,
            "tie_word_embeddings": True, "sliding_window": 1000,
        },
    ),
    "phi3_longrope": Row("Phi3", {**FACTS, "rope_scaling": LONGROPE, "original_max_position_embeddings": 16}),
    "phi3_longrope_short": Row("Phi3", {**FACTS, "rope_scaling": LONGROPE, "original_max_position_embeddings": 100}),
    "gemma2": Row("Gemma2", {**GEMMA, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 6.0}),
    "gemma2_old": Row("Gemma2", {**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma3": Row(
        "Gemma3",
        {
            **GEMMA, "num_hidden_layers": 3, "sliding_window_pattern": 2, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
}  # fmt: skip


def make(name: str, row: Row) -> None:
    config_class = "Gemma3TextConfig" if row.kind == "Gemma3" else f"{row.kind}Config"
    config = getattr(transformers, config_class)(**copy.deepcopy({**SIZES, **row.changes}))
    model = getattr(transformers, f"{row.kind}ForCausalLM")(config).eval()
    offered: dict[str, tuple[int, ...]] = {}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parts = row.parts(key, tuple(parameter.shape))
            drawn = [weights(name_, shape) for name_, shape in parts.items()]
            parameter.copy_(torch.from_numpy(np.concatenate(drawn, axis=-2 if len(drawn) > 1 else 0)))
            offered.update(parts)
        ids = np.random.RandomState(1).randint(0, config.vocab_size, TOKENS).tolist()
        logits = model(torch.tensor([ids])).logits[0].float().numpy()
    idle = ("id2label", "label2id", "_name_or_path")
    kept = {key: value for key, value in config.to_dict().items() if key not in idle}
    write_case(name, Case(kept, offered, tuple(ids), logits))
    print(f"{name}: {len(offered)} tensors, logits of deviation {logits.std():.2f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    for name in sys.argv[1:] or ROWS:
        make(name, ROWS[name])
