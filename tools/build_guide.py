"""Build the built-in `guide` model: train on tools/guide/corpus.toml, export, score, install.

    python -m venv .venv-build
    .venv-build/bin/pip install -r tools/requirements.txt -e .
    .venv-build/bin/python tools/build_guide.py            # everything, about 90 minutes on two cores
    .venv-build/bin/python tools/build_guide.py --from-shipped   # train the shipped weights further: 25 minutes
    .venv-build/bin/python tools/build_guide.py score      # score the shipped files again

A Qwen2-shaped decoder learns to give each topic's answer, word for word. It is exported with
the engine's own model builder in fp32 and int4; both are scored greedy on the held-out
questions, and the int4 files are copied into the package only when they keep the promise
in guide/score.py. Seed, steps and data are fixed; another torch or CPU may round differently.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guide.expand import Message, Sampler
from guide.score import REQUIRED, score_folder

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "lmsupply_cli" / "builtin" / "guide"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 1280
CONTEXT = 1024
CYCLES = ((3000, 3e-3), (1500, 1.5e-3))  # steps, and the highest learning rate of each
FURTHER = ((700, 1.2e-3), (450, 6e-4))  # from shipped weights: for new topics and changed answers
KEPT_SHARE = 0.3  # of the shipped weights, after training them further
TOKENS_PER_BATCH = 4096
ROWS_PER_PART = 16  # of a batch, for less padding; the gradient is that of the batch
DROPOUT = 0.1
QUESTION_WEIGHT = 0.1  # of the loss: learning to read questions helps to understand unseen ones
# ChatML; questions are read in lower case, since words like JSON or GPU are asked for in either.
TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n'"
    " + (message['content'] | lower if message['role'] == 'user' else message['content'])"
    " + '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
# What the guide answers reliably at; the rest of `search` is the builder's.
SEARCH = {"do_sample": True, "temperature": 0.1, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.0}


def make_tokenizer(sampler: Sampler) -> Tokenizer:
    """Byte-level BPE: any text encodes, nothing is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [m["content"] for _ in range(8000) for m in sampler.conversation(1)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *(["system\nuser\nassistant\n"] * 2000)], trainer)
    return tokenizer


def shipped_tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))


def encode(tokenizer: Tokenizer, messages: list[Message]) -> tuple[list[int], list[float]]:
    """Token ids in ChatML, and for each the weight of its loss."""
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    newline = tokenizer.encode("\n").ids
    ids: list[int] = []
    weights: list[float] = []
    for message in messages:
        head = [start, *tokenizer.encode(message["role"] + "\n").ids]
        body = [*tokenizer.encode(message["content"]).ids, end]
        weight = {"assistant": 1.0, "user": QUESTION_WEIGHT}.get(message["role"], 0.0)
        ids += head + body + newline
        weights += [0.0] * len(head) + [weight] * len(body) + [0.0] * len(newline)
    return ids, weights


def shipped_weights(model: Any) -> dict[str, Any]:
    """The state of `model` from the shipped int4 files: symmetric blocks of 32, as the model builder writes them."""
    import numpy as np
    import onnx
    import torch
    from onnx import numpy_helper

    graph = onnx.load(str(SHIPPED / "model.onnx")).graph
    stored = {one.name: numpy_helper.to_array(one) for one in graph.initializer}

    def matrix(name: str) -> Any:
        packed = stored[f"{name}.MatMul.weight_Q4"]
        codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], 32).astype(np.float32)
        return ((codes - 8) * stored[f"{name}.MatMul.weight_scales"][..., None]).reshape(packed.shape[0], -1)

    state: dict[str, Any] = {"model.embed_tokens.weight": matrix("lm_head"), "lm_head.weight": matrix("lm_head")}
    layers, attention = model.config.num_hidden_layers, model.model.layers[0].self_attn
    sizes = [attention.q_proj.out_features, attention.k_proj.out_features, attention.v_proj.out_features]
    for at in range(layers):
        ours, theirs = f"model.layers.{at}", f"model.layers.{at}.attn"
        bounds = np.cumsum(sizes)[:-1]
        weights = np.split(matrix(f"{theirs}.qkv_proj"), bounds)
        biases = np.split(stored[f"{theirs}.qkv_proj.Add.bias"], bounds)
        for part, weight, bias in zip("qkv", weights, biases, strict=True):
            state[f"{ours}.self_attn.{part}_proj.weight"] = weight
            state[f"{ours}.self_attn.{part}_proj.bias"] = bias
        state[f"{ours}.self_attn.o_proj.weight"] = matrix(f"{theirs}.o_proj")
        for part in ("gate", "up", "down"):
            state[f"{ours}.mlp.{part}_proj.weight"] = matrix(f"{ours}.mlp.{part}_proj")
        for norm in ("input_layernorm", "post_attention_layernorm"):
            state[f"{ours}.{norm}.weight"] = stored[f"{ours}.{norm}.weight"]
    state["model.norm.weight"] = stored[f"model.layers.{layers}.final_norm_layernorm.weight"]
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


def train(sampler: Sampler, tokenizer: Tokenizer, *, from_shipped: bool = False) -> torch.nn.Module:
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(2)
    config = transformers.Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=192, intermediate_size=576, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, bos_token_id=None, tie_word_embeddings=True, attention_dropout=0.1,
        eos_token_id=tokenizer.token_to_id("<|im_end|>"), pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if from_shipped:
        model.load_state_dict(shipped_weights(model))
    _drop(model)
    cycles = FURTHER if from_shipped else CYCLES
    total_steps = sum(steps for steps, _ in cycles)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1, betas=(0.9, 0.95))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters, {total_steps} steps", flush=True)
    began = time.monotonic()
    for step in range(total_steps):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, cycles)
        optimizer.zero_grad()
        parts = batch(sampler, tokenizer)
        total, loss = sum(float(weights.sum()) for _, weights in parts), 0.0
        for x, weights in parts:
            logits = model(input_ids=x).logits[:, :-1]
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), x[:, 1:], reduction="none")
            part = (losses * weights[:, 1:]).sum() / total
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(model)
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}  loss {loss:.4f}  {time.monotonic() - began:.0f} s", flush=True)
    trained: torch.nn.Module = average.module
    if from_shipped:
        _keep(trained, shipped_weights(trained), KEPT_SHARE)
    return trained.eval()


def _keep(model: Any, before: dict[str, Any], share: float) -> None:
    """Average with the weights that training began with: both know the old topics, and the mean is rounded with less
    harm."""
    state = model.state_dict()
    mixed = {name: (1 - share) * value + share * before[name].reshape(value.shape) for name, value in state.items()}
    model.load_state_dict(mixed)


def _learning_rate(step: int, cycles: tuple[tuple[int, float], ...]) -> float:
    """Each cycle warms up for 60 steps and cools down along a cosine."""
    for steps, highest in cycles:
        if step < steps:
            warm, cool = min(1.0, (step + 1) / 60), 0.5 + 0.5 * math.cos(math.pi * step / steps)
            return highest * warm * (0.02 + 0.98 * cool)
        step -= steps
    return 0.0


def _drop(model: Any) -> None:
    """Dropout after the embedding and each feed-forward part: Qwen2 has none, and unseen wordings need it."""
    import torch

    def hook(module: Any, _: Any, output: Any) -> Any:
        return torch.nn.functional.dropout(output, DROPOUT, module.training)

    for module in (model.model.embed_tokens, *(layer.mlp for layer in model.model.layers)):
        module.register_forward_hook(hook)


def batch(sampler: Sampler, tokenizer: Tokenizer) -> list[tuple[Any, Any]]:
    """Conversations of one number of turns, in parts of similar length: (ids, loss weights), each (rows, tokens)."""
    turns = sampler.random.choices([1, 2, 3, 6], weights=[70, 15, 10, 5])[0]
    rows = [encode(tokenizer, sampler.conversation(turns)) for _ in range(max(4, TOKENS_PER_BATCH // (64 * turns)))]
    rows.sort(key=lambda row: len(row[0]))
    return [_padded(rows[i : i + ROWS_PER_PART]) for i in range(0, len(rows), ROWS_PER_PART)]


def _padded(rows: list[tuple[list[int], list[float]]]) -> tuple[Any, Any]:
    import torch

    length = min(CONTEXT, max(len(ids) for ids, _ in rows))
    x, weights = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length)
    for i, (ids, row_weights) in enumerate(rows):
        x[i, : len(ids)] = torch.tensor(ids[:length])
        weights[i, : len(ids)] = torch.tensor(row_weights[:length])
    return x, weights


def save_checkpoint(model: Any, tokenizer: Tokenizer, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True
        }
        for token in SPECIAL
    }  # fmt: skip
    settings = {
        "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "bos_token": None, "pad_token": "<|endoftext|>",
        "model_max_length": CONTEXT, "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE,
        "added_tokens_decoder": added,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")


def export(checkpoint: Path, out: Path, precision: str) -> None:
    """Convert with the engine's model builder, then say how the guide wants to be sampled."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", checkpoint, "-o", out, "-p", precision]
    command += ["-e", "cpu", "-c", checkpoint.parent / "cache"]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = out / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["search"].update(SEARCH)
    config["model"]["bos_token_id"] = config["model"]["pad_token_id"]
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=["all", "train", "export", "score"], default="all")
    parser.add_argument("--work", type=Path, default=ROOT / ".guide-build", help="where checkpoints and exports go")
    parser.add_argument("--from-shipped", action="store_true", help="begin with the shipped weights and tokenizer")
    arguments = parser.parse_args()
    step, work = arguments.step, arguments.work
    if step in ("all", "train"):
        sampler = Sampler(seed=0)
        tokenizer = shipped_tokenizer() if arguments.from_shipped else make_tokenizer(sampler)
        trained = train(sampler, tokenizer, from_shipped=arguments.from_shipped)
        save_checkpoint(trained, tokenizer, work / "checkpoint")
    if step in ("all", "export"):
        for precision in ("fp32", "int4"):
            export(work / "checkpoint", work / precision, precision)
        whole, small = score_folder(work / "fp32"), score_folder(work / "int4")
        print(f"fp32  {whole}\nint4  {small}")
        if whole.right_percent - small.right_percent > REQUIRED.int4_loss_points or not small.kept(REQUIRED):
            sys.exit("not installed: the int4 model does not keep what guide/score.py requires")
        shutil.rmtree(SHIPPED, ignore_errors=True)
        shutil.copytree(work / "int4", SHIPPED)
    if step != "train":
        print(f"shipped  {score_folder(SHIPPED).report()}")


if __name__ == "__main__":
    main()
