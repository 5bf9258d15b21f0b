"""Which of a tokenizer's added tokens steer the model, so that no user text may become one.

Added tokens are more than that: white space, HTML tags and other frequent text have tokens of their own in some
vocabularies (Gemma, GPT-NeoX), and are ordinary text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_FORM = re.compile(r"<\|.*\|>|<｜.*｜>", re.DOTALL)
_KNOWN = frozenset(
    {
        "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>",
        "<answer>", "</answer>", "<s>", "</s>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>",
        "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]",
    }
)  # fmt: skip


def control_strings(
    added_tokens: Iterable[Mapping[str, Any]], template: str = "", special: Iterable[str] = ()
) -> frozenset[str]:
    """The contents of those that are special, that the chat template writes, or that are known to steer; `special`: the
    texts of bos_token, eos_token and others. White space is never among them."""
    named = frozenset(special)
    return frozenset(
        content
        for row in added_tokens
        if (content := row["content"]).replace("▁", " ").strip()
        and (
            row.get("special")
            or content in named
            or content in _KNOWN
            or _FORM.fullmatch(content)
            or (content in template and len(content) > 1 and not content.isalnum())
        )
    )
