"""`lmsupply` alone: the five things to do next."""

from __future__ import annotations

_STEPS = (
    ('lmsupply run "How do I download a model?"', "ask the built-in guide"),
    ("lmsupply hw", "check your hardware"),
    ("lmsupply models", "list models and their licenses"),
    ("lmsupply pull phi-4-mini", "download one"),
    ("lmsupply chat phi-4-mini", "chat with it"),
)


def welcome(columns: int) -> str:
    """Commands and what they do side by side, or one below the other in a narrow window."""
    width = max(len(command) for command, _ in _STEPS)
    beside = columns > 2 + width + 3 + max(len(meaning) for _, meaning in _STEPS)
    steps = [
        f"  {command:<{width}}   {meaning}" if beside else f"  {command}\n      {meaning}"
        for command, meaning in _STEPS
    ]
    return "\n".join(
        [
            "lmsupply runs language models on your own machine.",
            "",
            *steps,
            "",
            "lmsupply --help lists the commands.",
            "",
        ]
    )
