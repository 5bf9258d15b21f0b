"""Llama 2 and 3, Mistral, SmolLM, and what is distilled into them."""

from __future__ import annotations

from lmsupply_cli.importer.architectures.base import Decoder


class Llama(Decoder):
    """As the base; llama3 scales its frequencies."""


class Mistral(Decoder):
    """Llama, of which version 0.1 has a sliding window."""

    model_type = "mistral"
