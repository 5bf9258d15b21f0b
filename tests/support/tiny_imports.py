"""Tiny models to import, whole ones that answer anything: a llama of two layers with the tokenizer of the test models."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from support.gguf_files import Sizes, model_metadata, model_tensors, quantized, write_gguf
from support.safetensors_files import write_safetensors
from support.vocabularies import gguf_vocabulary

MODEL = Path(__file__).parent.parent / "models" / "llama"
SIZES = Sizes(vocabulary=512)
NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip

WAITS = """
import sys, time
from pathlib import Path
from lmsupply_cli.importer import architectures

folder, build = Path(sys.argv.pop(1)), architectures.build

def waits(source, model, *more):
    (model / "model.onnx.data").write_bytes(b"half of it")
    (folder / "begun").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    build(source, model, *more)

architectures.build = waits
from lmsupply_cli.__main__ import main
sys.exit(main())
"""


def write_tiny_gguf(
    path: Path,
    kind: str = "Q4_0",
    *,
    seed: int = 0,
    architecture: str = "llama",
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """`kind`: of the matrices, F32 or F16 for floats; another `seed` gives other weights; `metadata`: goes over ours, and
    what is None is left out."""
    values: dict[str, Any] = {}
    for name, value in model_tensors(architecture, SIZES, seed=seed).items():
        if value.ndim == 1 or kind == "F32":
            values[name] = value
        elif kind == "F16":
            values[name] = value.astype(np.float16)
        else:
            values[name] = quantized(kind, value)
    own = model_metadata(architecture, SIZES) | vocabulary() | dict(metadata or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_gguf(path, architecture, {key: value for key, value in own.items() if value is not None}, values)


def vocabulary() -> dict[str, Any]:
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text())
    return gguf_vocabulary(tokenizer, "qwen2") | {
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": (MODEL / "chat_template.jinja").read_text(),
    }


def write_tiny_safetensors(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """A folder as transformers writes it, in 32-bit floats. `config`: goes over ours."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": SIZES.hidden,
        "intermediate_size": SIZES.inner, "num_hidden_layers": SIZES.layers, "num_attention_heads": SIZES.heads,
        "num_key_value_heads": SIZES.kv_heads, "head_dim": SIZES.head, "vocab_size": SIZES.vocabulary,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": True, "eos_token_id": 2, "torch_dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(own | config))
    tensors = {_name(name): value for name, value in model_tensors("llama", SIZES, seed=seed).items()}
    write_safetensors(folder / "model.safetensors", tensors)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(MODEL / name, folder / name)
    return folder


def _name(name: str) -> str:
    """GGUF's name as that of transformers."""
    if name.startswith("blk."):
        _, layer, part, end = name.split(".")
        return f"model.layers.{layer}.{NAMES[part]}.{end}"
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[name]


def repo_files(folder: Path) -> dict[str, bytes]:
    """A folder as the files of a repo of the Hub."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def begun_import(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`lmsupply ARGUMENTS` as a process that stands in the middle of its import until there is a file `go` in `folder`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(folder), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (folder / "begun").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process
