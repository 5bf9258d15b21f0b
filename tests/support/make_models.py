"""Make the small models in tests/models: needs tools/requirements.txt, the tests do not.

    python tests/support/make_models.py

toy     a 1.4 KB decoder whose next token is the last one plus one, over bytes and three control
        tokens: exact expectations on the real engine; slow and last are variants of it
others  random weights in the shape of a family, converted by the engine's model builder in int4 (-fp32: in fp32)
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MODELS = Path(__file__).resolve().parent.parent / "models"
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
PHI3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
TOYS = ("toy", "slow", "last")
LAST = {"before": -1, "end": 2**31 - 1, "row": 1}
LONGROPE = {  # other frequencies beyond 64 tokens, as Phi-3.5 has beyond 4,096
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [1.0 + 1.5 * i for i in range(8)],
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 64,
}
SAMPLE = ["the quick brown fox jumps over the lazy dog", "hello world", "system user assistant", "größe 日本語 émoji 🏳️"]


def byte_characters() -> list[str]:
    """The character that stands for each byte in byte-level BPE (GPT-2)."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in kept else chr(next(others)) for b in range(256)]


def make_toy(out: Path, *, slow: bool = False, last: bool = False, vocabulary: int = 300, context: int = 256) -> None:
    """`slow`: work for nothing at each token; `last`: scores of the last token only, as with `prune_lm_head`."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.array(value), name)

    node, info = helper.make_node, helper.make_tensor_value_info
    cache = {kv: (f"past_key_values.0.{kv}", f"present.0.{kv}") for kv in ("key", "value")}
    work = [  # depends on the input, so that it is not folded away
        node("ReduceMax", ["floats"], ["scalar"], keepdims=0),
        node("Expand", ["scalar", "square"], ["matrix"]),
        node("MatMul", ["matrix", "matrix"], ["product"]),
        node("ReduceMin", ["product"], ["least"], keepdims=0),
        node("Min", ["least", "zero"], ["nothing"]),
        node("Add", ["fast", "nothing"], ["logits"]),
    ]
    graph = helper.make_graph(
        [
            node("Add", ["input_ids", "one"], ["plus"]),
            node("Mod", ["plus", "size"], ["next"]),
            *([node("Slice", ["next", "before", "end", "row"], ["scored"])] if last else []),
            node("OneHot", ["scored" if last else "next", "size", "scores"], ["fast" if slow else "logits"], axis=-1),
            node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["floats", "axes"], ["new"]),
            *(node("Concat", [past, "new"], [present], axis=2) for past, present in cache.values()),
            *(work if slow else []),
        ],
        "toy",
        [
            info("input_ids", TensorProto.INT64, ["b", "s"]),
            info("attention_mask", TensorProto.INT64, ["b", "t"]),
            *(info(past, TensorProto.FLOAT, ["b", 1, "p", 1]) for past, _ in cache.values()),
        ],
        [
            info("logits", TensorProto.FLOAT, ["b", 1 if last else "s", vocabulary]),
            *(info(present, TensorProto.FLOAT, ["b", 1, "t", 1]) for _, present in cache.values()),
        ],
        [
            constant("one", np.int64(1)),
            constant("size", np.int64(vocabulary)),
            constant("scores", np.array([0, 10], np.float32)),
            constant("axes", np.array([1, 3], np.int64)),
            *([constant(name, np.array([at], np.int64)) for name, at in LAST.items()] if last else []),
            *([constant("square", np.array([900, 900], np.int64)), constant("zero", np.float32(0))] if slow else []),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(model, out / "model.onnx")
    decoder = {
        "session_options": {"provider_options": []},
        "filename": "model.onnx",
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_size": 1,
        "hidden_size": 1,
        "num_hidden_layers": 1,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    settings = {
        "type": "llama",
        "bos_token_id": 256,
        "eos_token_id": 258,
        "pad_token_id": 256,
        "vocab_size": vocabulary,
    }
    config = {
        "model": {**settings, "context_length": context, "decoder": decoder},
        "search": {"max_length": context, "do_sample": False, "past_present_share_buffer": False},
    }
    write(out / "genai_config.json", config)
    tokens = [
        {
            "id": 256 + i,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, text in enumerate(CONTROL)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": tokens,
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {"type": "BPE", "vocab": {c: i for i, c in enumerate(byte_characters())}, "merges": []},
    }
    write(out / "tokenizer.json", tokenizer)
    write(
        out / "tokenizer_config.json",
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "bos_token": None, "chat_template": CHATML},
    )


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def byte_level(vocabulary: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=CONTROL,
        show_progress=False,
    )
    tokenizer.train_from_iterator(SAMPLE * 50, trainer)
    return tokenizer


def sentence_piece(vocabulary: int) -> Any:
    """BPE with byte fallback, as Llama 2, Phi-3 and Mistral files look."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    special += ["<|user|>", "<|assistant|>", "<|end|>", "<|system|>"]
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SAMPLE * 50, trainer)
    data = json.loads(tokenizer.to_str())
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    data["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}
    data["pre_tokenizer"] = None
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    data["decoder"] = {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]}
    data["added_tokens"] = [row for row in data["added_tokens"] if not row["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(data))


def make_family(name: str, out: Path) -> None:
    import torch
    import transformers

    family, _, precision = name.partition("-")
    torch.manual_seed(0)
    random.seed(0)
    pieces = family in ("phi3", "longrope", "mistral", "gemma2")
    tokenizer = sentence_piece(512) if pieces else byte_level(512)
    end = {"phi3": "<|end|>", "longrope": "<|end|>", "mistral": "</s>", "gemma2": "</s>"}.get(family, "<|im_end|>")
    sizes = {
        "vocab_size": 512,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.token_to_id("<s>") if pieces else None,
        "eos_token_id": tokenizer.token_to_id(end),
        "pad_token_id": tokenizer.token_to_id("</s>" if pieces else "<|endoftext|>"),
        "tie_word_embeddings": True,
    }
    config = {
        "llama": lambda: transformers.LlamaConfig(**sizes, head_dim=16),
        "qwen2": lambda: transformers.Qwen2Config(**sizes),
        "qwen3": lambda: transformers.Qwen3Config(**sizes, head_dim=16),
        "phi3": lambda: transformers.Phi3Config(**sizes, original_max_position_embeddings=512),
        "longrope": lambda: transformers.Phi3Config(
            **sizes, original_max_position_embeddings=64, rope_parameters={**LONGROPE, "rope_type": "longrope"}
        ),
        "mistral": lambda: transformers.MistralConfig(**sizes, head_dim=16, sliding_window=None),
        "gemma2": lambda: transformers.Gemma2Config(**sizes, head_dim=16, query_pre_attn_scalar=16, sliding_window=32),
    }[family]()
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if family == "longrope":  # attention that depends on where things stand
        with torch.no_grad():
            for weights in model.parameters():
                weights.mul_(3.0 if weights.ndim == 2 else 1.0)
    with tempfile.TemporaryDirectory() as work:
        checkpoint = Path(work) / "hf"
        model.save_pretrained(checkpoint)
        if family == "longrope":  # the builder asks for a key that is no longer written
            saved = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
            saved["rope_parameters"]["type"] = "longrope"
            write(checkpoint / "config.json", saved)
        tokenizer.save(str(checkpoint / "tokenizer.json"))
        write(
            checkpoint / "tokenizer_config.json",
            {
                "tokenizer_class": {
                    "phi3": "LlamaTokenizer",
                    "longrope": "LlamaTokenizer",
                    "mistral": "LlamaTokenizer",
                    "gemma2": "GemmaTokenizer",
                }.get(family, "Qwen2Tokenizer"),
                "eos_token": end,
                "bos_token": "<s>" if pieces else None,
                "chat_template": PHI3 if family in ("phi3", "longrope") else CHATML,
            },
        )
        command = [
            sys.executable,
            "-m",
            "onnxruntime_genai.models.builder",
            "-i",
            checkpoint,
            "-o",
            out,
            "-p",
            precision or "int4",
            "-e",
            "cpu",
        ]
        subprocess.run([str(part) for part in [*command, "-c", Path(work) / "cache"]], check=True, capture_output=True)
    for path in out.iterdir():  # indented JSON is a third larger
        if path.suffix == ".json":
            write(path, json.loads(path.read_text(encoding="utf-8")))


def main() -> None:
    for name in sys.argv[1:] or [*TOYS, "llama", "qwen2", "phi3", "gemma2", "llama-fp32", "longrope-fp32"]:
        out = MODELS / name
        shutil.rmtree(out, ignore_errors=True)
        make_toy(out, **{name: True} if name != "toy" else {}) if name in TOYS else make_family(name, out)
        print(f"{name}: {sum(f.stat().st_size for f in out.iterdir()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
