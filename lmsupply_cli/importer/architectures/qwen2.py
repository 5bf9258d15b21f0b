"""Qwen 2 and 2.5: biases of queries, keys and values."""

from __future__ import annotations

from lmsupply_cli.importer.architectures.base import Decoder


class Qwen2(Decoder):
    """The biases are found beside the weights."""

    model_type = "qwen2"
