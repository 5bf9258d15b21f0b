"""The decoder that all families are variants of: each overrides the steps in which it differs."""

from __future__ import annotations

from collections.abc import Mapping

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.foreign import plain
from lmsupply_cli.importer.forms import Wish
from lmsupply_cli.importer.graph import Graph
from lmsupply_cli.importer.layers import Attention, Blocks, Rotation
from lmsupply_cli.importer.model_config import ModelConfig, Rope
from lmsupply_cli.importer.rope import make_rotary
from lmsupply_cli.importer.source import Source
from lmsupply_cli.importer.weights import Tensor, rows_of

_MOST_CONTEXT = 262_144  # no machine has a cache for more, and the rotary tables of each token take up to 2 kB
_IDLE = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached", "attn.masked_bias")


class Decoder:
    """Pre-norm blocks of attention and a gated MLP, as llama has them. `build` adds all nodes to `graph`; `x` is the
    residual stream [b, s, hidden]."""

    model_type = "llama"  # of the engine

    def __init__(self, source: Source, config: ModelConfig, wish: Wish) -> None:
        self.source = source
        self.config = config
        self.graph = Graph(config.model_type, wish.float_type)
        self.notes: list[str] = []
        self.context_length = min(config.context_length, _MOST_CONTEXT)
        if self.context_length < config.context_length:
            self.notes.append(f"the context is {self.context_length:,} of the model's {config.context_length:,} tokens")
        self.tensors = self.language_tensors(source.tensors)
        self.blocks = Blocks(self.graph, self.tensors, wish, config.layers)
        self._tables: dict[str, Rotation] = {}

    # ------------------------------------------------------------------ the whole

    def build(self) -> None:
        """Plan the whole graph. Raises ModelFilesError if a tensor is missing, has another shape, or is left over."""
        self.graph.input("input_ids", "int64", ["batch", "sequence"])
        self.graph.input("attention_mask", "int64", ["batch", "length"])
        self.blocks.lengths("attention_mask")
        vocabulary, hidden = self.config.vocab_size, self.config.hidden_size
        embeddings = self.tensor("model.embed_tokens.weight", vocabulary, hidden)
        looked_up, matrix = self.blocks.embedding("input_ids", embeddings, "embedding")
        x, added = self.embedded(looked_up), ""
        for layer in range(self.config.layers):
            x, added = self.layer(layer, x, added)
        normed, _ = self.norm(x, added, "model.norm.weight", "norm")
        if self.is_tied:
            logits = self.blocks.tied_head(normed, matrix, "head")
        else:
            logits = self.blocks.head(normed, self.tensor("lm_head.weight", vocabulary, hidden), "head")
        self.graph.node("Identity", [self.logits(logits)], "logits")
        self.graph.output("logits", self.graph.dtype, ["batch", "sequence", vocabulary])
        self._check_all_used()

    def layer(self, layer: int, x: str, added: str) -> tuple[str, str]:
        """One block. The residual stream is x + `added` ("" is nothing): the sum is left to the next norm."""
        name, prefix = f"layer.{layer}", f"model.layers.{layer}"
        normed, x = self.norm(x, added, f"{prefix}.input_layernorm.weight", f"{name}.attention_norm")
        attended = self.attention(layer, normed)
        normed, x = self.norm(x, attended, f"{prefix}.post_attention_layernorm.weight", f"{name}.mlp_norm")
        return x, self.mlp(layer, normed)

    # ------------------------------------------------------------------ steps

    def language_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Those of the language model, under the names that the steps use."""
        return tensors

    def embedded(self, x: str) -> str:
        """What happens to embeddings before the first block."""
        return x

    def logits(self, x: str) -> str:
        """What happens to the logits."""
        return x

    def attention(self, layer: int, x: str) -> str:
        """x is normed."""
        name, config = f"layer.{layer}.attention", self.config
        shape = Attention(config.heads, config.kv_heads, config.head_dim, self.scale, self.window(layer), self.softcap)
        qkv = self.normed_qkv(layer, self.qkv(layer, x))
        attended = self.blocks.attention(qkv, layer, shape, self.rotation(layer), name)
        weight = self.tensor(f"{self.attention_prefix(layer)}.o_proj.weight", config.hidden_size, self.query_size)
        return self.linear(attended, [weight], f"{name}.output")

    def qkv(self, layer: int, x: str) -> tuple[str, ...]:
        """Queries, keys and values, or one value that holds all three, as GroupQueryAttention takes both."""
        prefix, name = self.attention_prefix(layer), f"layer.{layer}.attention"
        parts = {"q_proj": self.query_size, "k_proj": self.kv_size, "v_proj": self.kv_size}
        weights = [
            self.tensor(f"{prefix}.{part}.weight", size, self.config.hidden_size) for part, size in parts.items()
        ]
        if self.blocks.alike(weights):
            return (self.linear(x, weights, f"{name}.qkv"),)
        return tuple(
            self.linear(x, [weight], f"{name}.{part}") for weight, part in zip(weights, ("q", "k", "v"), strict=True)
        )

    def normed_qkv(self, layer: int, qkv: tuple[str, ...]) -> tuple[str, ...]:
        """What happens to them before they are rotated."""
        return qkv

    def norm_heads(self, layer: int, qkv: tuple[str, ...]) -> tuple[str, ...]:
        """Each head of queries and keys is normed, by one weight per number of a head that all heads share."""
        query, key, value = self.apart(layer, qkv)
        config, prefix, name = self.config, self.attention_prefix(layer), f"layer.{layer}.attention"
        normed = [
            self.blocks.head_norm(
                x, self.norm_weight(f"{prefix}.{part}_norm.weight", config.head_dim), f"{name}.{part}_norm", heads,
                config.head_dim, config.norm_epsilon,
            )
            for x, part, heads in ((query, "q", config.heads), (key, "k", config.kv_heads))
        ]  # fmt: skip
        return (*normed, value)

    def apart(self, layer: int, qkv: tuple[str, ...]) -> tuple[str, ...]:
        """Queries, keys and values as three."""
        if len(qkv) == 3:
            return qkv
        names = [f"layer.{layer}.attention.{part}" for part in ("q", "k", "v")]
        return tuple(self.blocks.split(qkv[0], [self.query_size, self.kv_size, self.kv_size], names))

    def mlp(self, layer: int, x: str) -> str:
        """x is normed."""
        prefix, name, config = f"model.layers.{layer}.mlp", f"layer.{layer}.mlp", self.config
        sizes = (config.intermediate_size, config.hidden_size)
        weights = [self.tensor(f"{prefix}.{part}.weight", *sizes) for part in ("gate_proj", "up_proj")]
        if self.blocks.alike(weights):
            both = self.linear(x, weights, f"{name}.gate_up")
            gate, up = self.blocks.split(both, [sizes[0], sizes[0]], [f"{name}.gate", f"{name}.up"])
        else:
            gate, up = (
                self.linear(x, [weight], f"{name}.{part}") for weight, part in zip(weights, ("gate", "up"), strict=True)
            )
        return self.down(layer, self.gated(layer, gate, up))

    def gated(self, layer: int, gate: str, up: str) -> str:
        name = f"layer.{layer}.mlp"
        return self.graph.node(
            "Mul", [self.blocks.activation(gate, self.config.activation, f"{name}.activation"), up], f"{name}.gated"
        )

    def down(self, layer: int, x: str) -> str:
        weight = self.tensor(
            f"model.layers.{layer}.mlp.down_proj.weight", self.config.hidden_size, self.config.intermediate_size
        )
        return self.linear(x, [weight], f"layer.{layer}.mlp.down")

    # ------------------------------------------------------------------ parts

    def tensor(self, name: str, *shape: int) -> Tensor:
        """Raises ModelFilesError if it is missing or has another shape."""
        return self.blocks.take(name, *shape)

    def linear(self, x: str, weights: list[Tensor], name: str) -> str:
        """With the biases that the source has: all of the weights, or none."""
        names = [weight.name.removesuffix("weight") + "bias" for weight in weights]
        if not any(map(self.blocks.has, names)):
            return self.blocks.linear(x, weights, name)
        biases = [self.tensor(bias, rows_of(weight)) for bias, weight in zip(names, weights, strict=True)]
        return self.blocks.linear(x, weights, name, biases)

    def norm(self, x: str, added: str, weight: str, name: str) -> tuple[str, str]:
        """The norm of x + `added`, and the sum."""
        gamma = self.norm_weight(weight, self.config.hidden_size)
        if not added:
            return self.blocks.norm(x, gamma, name, self.config.norm_epsilon), x
        return self.blocks.skip_norm(x, added, gamma, name, self.config.norm_epsilon)

    def norm_weight(self, name: str, size: int) -> str:
        return self.blocks.vector([self.tensor(name, size)])

    def rotation(self, layer: int) -> Rotation:
        """The tables of a layer; those of the same name are the same tables."""
        return self.rotary_tables("rotary", self.config.rope)

    def rotary_tables(self, name: str, rope: Rope) -> Rotation:
        """They are as long as the context."""
        if name not in self._tables:
            rotary, length = make_rotary(rope, self.config), self.context_length
            if rotary.long is not None:
                raise ModelFilesError(
                    f"LongRoPE in a model of type {plain(self.config.model_type)} is not supported",
                    hint="use another model",
                )
            self._tables[name] = self.blocks.rotary_tables(name, rotary.tables, length, rope.dim)
        return self._tables[name]

    def ignored(self, name: str) -> bool:
        """Whether a tensor is no weight of the language model, so that it may be left over."""
        return name.endswith(_IDLE)

    def window(self, layer: int) -> int:
        """How many tokens a layer sees; 0 is all. The cache of the layer then holds no more."""
        window = self.config.sliding_window
        return window if self.config.sliding_layers[layer] and window < self.context_length else 0

    def attention_prefix(self, layer: int) -> str:
        return f"model.layers.{layer}.self_attn"

    @property
    def scale(self) -> float:
        return float(self.config.head_dim**-0.5)

    @property
    def softcap(self) -> float:
        """Of attention; 0 is none."""
        return 0.0

    @property
    def query_size(self) -> int:
        return self.config.heads * self.config.head_dim

    @property
    def kv_size(self) -> int:
        return self.config.kv_heads * self.config.head_dim

    @property
    def is_tied(self) -> bool:
        """A file may say nothing of it and have no head."""
        return self.config.tied or not self.blocks.has("lm_head.weight")

    def _check_all_used(self) -> None:
        """A weight that no step reads would change the answers: this is another architecture than the config says."""
        idle = {"lm_head.weight"} if self.is_tied else set()
        used = self.blocks.used | idle
        left = [name for name in self.tensors if name not in used and not self.ignored(name)]
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise ModelFilesError(
                f"the tensor {plain(left[0])}{more} is not part of the {plain(self.config.model_type)} architecture",
                hint="this variant of the architecture is not supported; use another model",
            )
