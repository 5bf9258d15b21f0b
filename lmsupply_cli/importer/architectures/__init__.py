"""The families of models that can be imported: one row here, one file each.

To add one: write a class on `base.Decoder` that overrides the steps in which it differs, and add its row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.foreign import plain
from lmsupply_cli.importer.model_config import model_type, parse_model_config
from lmsupply_cli.importer.source import Source, TokenizerFacts

if TYPE_CHECKING:
    from lmsupply_cli.importer.architectures.base import Decoder
    from lmsupply_cli.importer.forms import Form, WeightPlan, Wish


class Family(NamedTuple):
    """A class in a module of this package. `title`: how people call the family."""

    title: str
    module: str
    decoder: str


FAMILIES: Mapping[str, Family] = {  # by the model_type of transformers
    "llama": Family("Llama", "llama", "Llama"),
    "mistral": Family("Mistral", "llama", "Mistral"),
    "qwen2": Family("Qwen 2", "qwen2", "Qwen2"),
    "qwen3": Family("Qwen 3", "qwen3", "Qwen3"),
    "qwen3_moe": Family("Qwen 3 MoE", "mixtures", "Qwen3Moe"),
    "mixtral": Family("Mixtral", "mixtures", "Mixtral"),
    "phi3": Family("Phi 3 and 4", "phi3", "Phi3"),
    "gemma2": Family("Gemma 2", "gemma", "Gemma2"),
    "gemma3_text": Family("Gemma 3", "gemma", "Gemma3"),
}


def supported(config: Mapping[str, Any]) -> str:
    """Why a model with this config.json cannot be imported; "" if it can, as far as its config tells."""
    try:
        _family(config)
        parse_model_config(config)
    except ModelFilesError as error:
        return error.message
    return ""


def titles() -> str:
    """The families, as people call them."""
    return ", ".join(dict.fromkeys(family.title for family in FAMILIES.values()))


def estimate(source: Source, wish: Wish) -> WeightPlan:
    """What `build` would write; reads no weights. Raises ModelFilesError."""
    from lmsupply_cli.importer.forms import WeightPlan

    decoder = _planned(source, wish)
    size = decoder.graph.data_bytes + decoder.graph.model_bytes
    return WeightPlan(tuple(decoder.blocks.forms), size, tuple(decoder.notes))


def build(
    source: Source, folder: Path, wish: Wish, tokenizer: TokenizerFacts, progress: Callable[[int], None]
) -> tuple[Form, ...]:
    """Write model.onnx, model.onnx.data, genai_config.json and, if the source states values, generation_config.json.

    `progress` is called with the bytes of the source that were read. Raises ModelFilesError, FileError.
    """
    from lmsupply_cli.importer.genai_folder import write_configs

    decoder = _planned(source, wish)
    decoder.graph.write(folder, progress)
    write_configs(folder, decoder, tokenizer, source.generation)
    return tuple(decoder.blocks.forms)


def _planned(source: Source, wish: Wish) -> Decoder:
    family, config = _family(source.config), parse_model_config(source.config)
    module = import_module(f"{__name__}.{family.module}")
    decoder: Decoder = getattr(module, family.decoder)(source, config, wish)
    decoder.build()
    return decoder


def _family(config: Mapping[str, Any]) -> Family:
    name = model_type(config)
    if name not in FAMILIES:
        what = f"the architecture {plain(name, 60)} is not supported" if name else "config.json has no model_type"
        raise ModelFilesError(what, hint=f"models of these families can be imported: {titles()}")
    return FAMILIES[name]
