"""Mixtures of experts: Qwen 3 MoE and Mixtral."""

from __future__ import annotations

from collections.abc import Mapping

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.foreign import plain
from lmsupply_cli.importer.architectures.base import Decoder
from lmsupply_cli.importer.architectures.qwen3 import Qwen3
from lmsupply_cli.importer.experts import Experts, add_experts
from lmsupply_cli.importer.weights import Tensor

_HINT = "use another model"
_NAMES = {  # of Mixtral's files, and as they are called since
    ".block_sparse_moe.": ".mlp.",
    ".experts.w1.": ".experts.gate_proj.",
    ".experts.w2.": ".experts.down_proj.",
    ".experts.w3.": ".experts.up_proj.",
}


class Qwen3Moe(Qwen3):
    """Qwen 3 with experts in place of the MLP, in most layers or all."""

    def mlp(self, layer: int, x: str) -> str:
        if not self.has_experts(layer):
            return super().mlp(layer, x)
        config = self.config
        return sparse_mlp(
            self,
            layer,
            x,
            count=config.count("num_local_experts", config.count("num_experts", 128)),  # transformers 5 renames it
            size=config.count("moe_intermediate_size"),
            is_normalized=config.flag("norm_topk_prob"),
        )

    def has_experts(self, layer: int) -> bool:
        dense = self.config.values.get("mlp_only_layers")
        if isinstance(dense, list) and layer in dense:
            return False
        return (layer + 1) % self.config.count("decoder_sparse_step") == 0


class Mixtral(Decoder):
    """Llama with experts in place of the MLP."""

    model_type = "mistral"

    def language_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {_as_qwen(name): tensor for name, tensor in tensors.items()}

    def mlp(self, layer: int, x: str) -> str:
        count, size = self.config.count("num_local_experts"), self.config.intermediate_size
        return sparse_mlp(self, layer, x, count=count, size=size, is_normalized=True)


def _as_qwen(name: str) -> str:
    for old, new in _NAMES.items():
        name = name.replace(old, new)
    return name


def sparse_mlp(decoder: Decoder, layer: int, x: str, *, count: int, size: int, is_normalized: bool) -> str:
    """The MLP of a layer with `count` experts of `size`. Raises ModelFilesError."""
    config, prefix = decoder.config, f"model.layers.{layer}.mlp"
    active, hidden = config.count("num_experts_per_tok"), config.hidden_size
    if active > count:
        raise ModelFilesError(f"config.json: {active} of {count} experts per token", hint="check the file")
    if config.activation not in ("silu", "swish"):
        raise ModelFilesError(
            f"experts with the activation {plain(config.activation, 40)} are not supported", hint=_HINT
        )
    router = decoder.tensor(f"{prefix}.gate.weight", count, hidden)
    gate, up = (
        decoder.tensor(f"{prefix}.experts.{part}.weight", count, size, hidden) for part in ("gate_proj", "up_proj")
    )
    down = decoder.tensor(f"{prefix}.experts.down_proj.weight", count, hidden, size)
    experts = Experts(router, gate, up, down, active, is_normalized)
    return add_experts(decoder.blocks, x, experts, f"layer.{layer}.mlp")
