"""genai_config.json and generation_config.json of an imported model, for version 0.18 of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmsupply_cli.files import write_json
from lmsupply_cli.genai_config import CONFIG, GENERATION_CONFIG, TABLES, Kind
from lmsupply_cli.importer.architectures.base import Decoder
from lmsupply_cli.importer.graph import MODEL
from lmsupply_cli.importer.source import TokenizerFacts

_SEARCH: Mapping[str, Any] = {
    "diversity_penalty": 0.0,
    "do_sample": False,
    "early_stopping": True,
    "length_penalty": 1.0,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "past_present_share_buffer": True,
    "repetition_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
}
_STATED = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty")  # by the source, and taken over


def write_configs(folder: Path, decoder: Decoder, tokenizer: TokenizerFacts, generation: Mapping[str, Any]) -> None:
    """Write both files; `generation` only where it has values that fit. Raises FileError."""
    stated = {key: value for key, value in generation.items() if _fits(key, value)}
    write_json(folder / CONFIG, genai_config(decoder, tokenizer, stated))
    if stated:
        write_json(folder / GENERATION_CONFIG, stated)


def genai_config(decoder: Decoder, tokenizer: TokenizerFacts, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The engine insists on all three tokens: an end token, of which there is at least one, stands in for a begin and a
    padding token that are missing. Nothing here is inserted into a prompt."""
    config = decoder.config
    ends = list(tokenizer.eos_ids)
    stand_in = ends[0]
    search = {**_SEARCH, **{key: stated[key] for key in _STATED if key in stated}, "max_length": decoder.context_length}
    return {
        "model": {
            "bos_token_id": stand_in if tokenizer.bos_id is None else tokenizer.bos_id,
            "context_length": decoder.context_length,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": MODEL,
                "head_size": config.head_dim,
                "hidden_size": config.hidden_size,
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
                "num_attention_heads": config.heads,
                "num_hidden_layers": config.layers,
                "num_key_value_heads": config.kv_heads,
                **_window(decoder),
            },
            "eos_token_id": ends[0] if len(ends) == 1 else ends,
            "pad_token_id": stand_in if tokenizer.pad_id is None else tokenizer.pad_id,
            "type": decoder.model_type,
            "vocab_size": config.vocab_size,
        },
        "search": search,
    }


def _window(decoder: Decoder) -> dict[str, Any]:
    """The layers whose cache holds no more than the window; the graph computes with such a cache."""
    layers = [layer for layer in range(decoder.config.layers) if decoder.window(layer)]
    if not layers:
        return {}
    window = {
        "window_size": decoder.config.sliding_window,
        "slide_key_value_cache": False,
        "slide_inputs": False,
        "layers": layers,
        "cache_slack": 0,  # the engine chooses how many tokens beyond the window stay, for rewinding
    }
    return {"sliding_window": window}


def _fits(key: str, value: Any) -> bool:
    kind = TABLES[GENERATION_CONFIG].get(key)
    return value is not None and isinstance(kind, Kind) and kind.fits(value)
