"""Write tests/importer/cases/rope.json: frequencies and table rows of transformers for every kind of rotary scaling.

Needs torch and transformers 5. usage: python tools/make_rope_cases.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Gemma3TextConfig, LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

TARGET = Path(__file__).parent.parent / "tests" / "importer" / "cases" / "rope.json"
ROWS = (1, 37, 1000)


def rising(count: int, most: float) -> list[float]:
    return [round(1 + (most - 1) * (i / (count - 1)) ** 2, 4) for i in range(count)]


def config(
    head_size: int, length: int, theta: float, scaling: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": 2 * head_size, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2,
        "vocab_size": 8, "intermediate_size": 8, "max_position_embeddings": length, "rope_theta": theta,
        "rope_scaling": scaling, "pad_token_id": 0, "eos_token_id": 1, **more,
    }  # fmt: skip


LLAMA = {
    "default": config(64, 2048, 10_000.0),
    "a size of 96": config(96, 4096, 10_000.0),
    "linear": config(32, 8192, 1_000_000.0, {"type": "linear", "factor": 8.0}),
    "dynamic": config(32, 2048, 10_000.0, {"type": "dynamic", "factor": 4.0}),
    "llama3": config(
        64, 131_072, 500_000.0,
        {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8192},
    ),
    "yarn": config(64, 131_072, 1_000_000.0, {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}),
    "yarn without a factor": config(
        32, 65_536, 10_000.0, {"type": "yarn", "factor": None, "original_max_position_embeddings": 8192}
    ),
    "yarn with mscale": config(
        64, 163_840, 10_000.0,
        {"rope_type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.707,
         "original_max_position_embeddings": 4096},
    ),
    "yarn, not truncated": config(
        64, 131_072, 150_000.0,
        {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
         "original_max_position_embeddings": 4096},
    ),
    "yarn with attention_factor": config(
        32, 16_384, 10_000.0,
        {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.25, "beta_fast": 16, "beta_slow": 2,
         "original_max_position_embeddings": 8192},
    ),
}  # fmt: skip
PHI3 = {
    "partial": config(128, 4096, 10_000.0, partial_rotary_factor=0.75),
    "longrope": config(
        96, 131_072, 10_000.0, {"type": "longrope", "short_factor": rising(48, 1.5), "long_factor": rising(48, 64.0)},
        original_max_position_embeddings=4096,
    ),
    "su, partial": config(
        64, 131_072, 10_000.0,
        {"type": "su", "short_factor": [1.0] * 24, "long_factor": rising(24, 40.0), "original_max_position_embeddings": 4096},
        original_max_position_embeddings=4096, partial_rotary_factor=0.75,
    ),
}  # fmt: skip
GEMMA3 = {
    "two bases": config(
        64, 32_768, 1_000_000.0, {"rope_type": "linear", "factor": 8.0}, head_dim=64, rope_local_base_freq=10_000.0,
        sliding_window=512, sliding_window_pattern=2, model_type="gemma3_text",
    )
}  # fmt: skip


def main() -> None:
    cases = {name: case(values, LlamaConfig, LlamaRotaryEmbedding) for name, values in LLAMA.items()}
    cases |= {name: case(values, Phi3Config, Phi3RotaryEmbedding) for name, values in PHI3.items()}
    for name, values in GEMMA3.items():
        made = Gemma3TextConfig(**copy(values))
        rotary = Gemma3RotaryEmbedding(made)
        cases[name] = {"config": values} | record(rotary, "full_attention")
        cases[name]["local"] = record(rotary, "sliding_attention")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(rounded(cases), separators=(",", ":")) + "\n", encoding="utf-8")


def case(values: dict[str, Any], config_class: Any, rotary_class: Any) -> dict[str, Any]:
    made = config_class(**copy(values))
    result = {"config": values} | record(rotary_class(made))
    if made.rope_parameters["rope_type"] == "longrope":
        border = values["original_max_position_embeddings"]
        long, _ = ROPE_INIT_FUNCTIONS["longrope"](made, None, seq_len=border + 1)
        result |= {"border": border, "long": long.tolist()}
    return result


def record(rotary: Any, kind: str | None = None) -> dict[str, Any]:
    prefix = f"{kind}_" if kind else ""
    frequencies = getattr(rotary, f"{prefix}inv_freq").tolist()
    cos, sin = rotary(torch.zeros(1), torch.tensor([ROWS]), *([kind] if kind else []))
    return {
        "frequencies": frequencies,
        "factor": float(getattr(rotary, f"{prefix}attention_scaling")),
        "rows": ROWS,
        "cos": cos[0, :, : len(frequencies)].tolist(),
        "sin": sin[0, :, : len(frequencies)].tolist(),
    }


def copy(values: dict[str, Any]) -> dict[str, Any]:
    """transformers changes what it is given."""
    return json.loads(json.dumps({key: value for key, value in values.items() if value is not None}))


def rounded(value: Any) -> Any:
    """Nine digits hold a float32."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    main()
