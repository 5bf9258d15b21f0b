"""Gemma 2 and 3: norms around attention and MLP whose weights are 1 + w, scaled embeddings, windows in most layers."""

from __future__ import annotations

from collections.abc import Mapping

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.architectures.base import Decoder
from lmsupply_cli.importer.layers import Rotation
from lmsupply_cli.importer.weights import Tensor

_LANGUAGE = ("language_model.model.", "model.language_model.", "language_model.")  # in checkpoints that also see
_VISION = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


class Gemma2(Decoder):
    """Every other layer has a window; the scores of attention and the logits are capped."""

    model_type = "gemma2"

    def attention(self, layer: int, x: str) -> str:
        if self.config.flag("use_bidirectional_attention"):
            raise ModelFilesError(
                "this is an embedding model, which generates no text", hint="use a model that generates text"
            )
        return super().attention(layer, x)

    def embedded(self, x: str) -> str:
        """Multiplied by √hidden, which transformers rounds to the type of the embeddings."""
        return self.graph.node("Mul", [x, self.graph.scalar(self.config.hidden_size**0.5)], "embedding.scaled")

    def layer(self, layer: int, x: str, added: str) -> tuple[str, str]:
        """The results of attention and MLP are normed before they are added."""
        name, prefix = f"layer.{layer}", f"model.layers.{layer}"
        normed, x = self.norm(x, added, f"{prefix}.input_layernorm.weight", f"{name}.attention_norm")
        attended, _ = self.norm(
            self.attention(layer, normed), "", f"{prefix}.post_attention_layernorm.weight", f"{name}.attended_norm"
        )
        normed, x = self.norm(x, attended, f"{prefix}.pre_feedforward_layernorm.weight", f"{name}.mlp_norm")
        result, _ = self.norm(
            self.mlp(layer, normed), "", f"{prefix}.post_feedforward_layernorm.weight", f"{name}.result_norm"
        )
        return x, result

    def logits(self, x: str) -> str:
        """cap · tanh(x / cap)"""
        cap = self._cap("final_logit_softcapping")
        if not cap:
            return x
        small = self.graph.node("Div", [x, self.graph.scalar(cap)], "logits.divided")
        return self.graph.node(
            "Mul", [self.graph.node("Tanh", [small], "logits.tanh"), self.graph.scalar(cap)], "logits.capped"
        )

    def norm_weight(self, name: str, size: int) -> str:
        """GGUF files hold 1 + w, checkpoints w."""
        return self.blocks.vector([self.tensor(name, size)], 0.0 if self.source.folded_norms else 1.0)

    @property
    def scale(self) -> float:
        return float(self._positive("query_pre_attn_scalar", self.config.head_dim) ** -0.5)

    @property
    def softcap(self) -> float:
        return self._cap("attn_logit_softcapping")

    def _cap(self, key: str) -> float:
        """0 is none."""
        return 0.0 if self.config.values.get(key) is None else self._positive(key)

    def _positive(self, key: str, default: float | None = None) -> float:
        value = self.config.number(key, default)
        if value <= 0:
            raise ModelFilesError(f"config.json: {key} is not positive: {value:g}", hint="check the file")
        return value


class Gemma3(Gemma2):
    """Five of six layers have a window, and a rotary base of their own that no scaling changes; heads of queries and keys
    are normed; no caps. Of a checkpoint that also sees, the part that is a language model."""

    model_type = "gemma3_text"

    def language_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        language = [name for name in tensors if not name.startswith(_VISION)]
        if len(language) < len(tensors):
            self.notes.append("only the language model is imported: it reads text and sees no images")
        kept = {_plain(name): tensors[name] for name in language}
        if len(kept) < len(language):
            raise ModelFilesError("there are two language models in this file", hint="use another source of this model")
        return kept

    def normed_qkv(self, layer: int, qkv: tuple[str, ...]) -> tuple[str, ...]:
        return self.norm_heads(layer, qkv)

    def rotation(self, layer: int) -> Rotation:
        if self.config.sliding_layers[layer] and self.config.local_rope is not None:
            return self.rotary_tables("rotary.local", self.config.local_rope)
        return super().rotation(layer)

    @property
    def softcap(self) -> float:
        """transformers reads the key, and ignores it."""
        return 0.0


def _plain(name: str) -> str:
    """`language_model.model.layers.0` and `model.language_model.layers.0` → `model.layers.0`."""
    for prefix in _LANGUAGE:
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            return rest if rest.startswith("lm_head.") else f"model.{rest}"
    return name
