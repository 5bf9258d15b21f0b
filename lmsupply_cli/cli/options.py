"""Command-line options that derive from the table of settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any

import typer

from lmsupply_cli.cli.help import BATCH, ENGINE, INPUT, MODEL, OUTPUT, SAMPLING, TOOLS
from lmsupply_cli.config.table import GENERATION_KEYS, SETTINGS, Setting
from lmsupply_cli.errors import UsageError

_TYPES = {"bool": bool, "list": list[str], "bias": list[str]}  # others are text, which `check_value` checks
_MORE_NAMES = {"temperature": ["--temp"], "context": ["--ctx"]}
_GROUPS = {
    **dict.fromkeys(("provider", "precision", "cache_dir", "offline", "context", "chat_format"), MODEL),
    **dict.fromkeys(("on_overflow", "history"), INPUT),
    **dict.fromkeys(("theme", "think", "reasoning_effort", "logprobs", "top_logprobs", "max_tokens"), OUTPUT),
    **dict.fromkeys(("threads", "memory_limit", "past_present_share_buffer", "speculative", "draft_tokens"), ENGINE),
}
_DEFAULTS: Mapping[str, Mapping[str, str]] = {  # setting → command → its default there
    "on_overflow": {"run": "error, or drop-oldest with --continue", "classify": "error", "chat": "drop-oldest"},
    "max_tokens": {"run": "up to the context, or 512 with --batch", "chat": "up to the context"},
}
_NAMED = {"chat_format": "FORMAT", "on_overflow": "POLICY"}  # their choices are too long for a metavar
_METAVARS = {**_NAMED, "speculative": "off|ngram|draft:MODEL", "cache_dir": "DIR", "memory_limit": "SIZE"}
PROMPT_MARK = "\0--"  # stands in the words where the command line had `--`: what follows is the prompt

ANSWERING = (  # the settings that run and chat share, beside the generation options
    "context", "memory_limit", "threads", "provider", "precision", "cache_dir", "offline", "on_overflow", "theme",
    "chat_format", "think", "reasoning_effort", "speculative", "draft_tokens",
)  # fmt: skip

Debug = Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)]
AcceptLicense = Annotated[
    bool, typer.Option("--accept-license", help="Accept the model's license without asking.", rich_help_panel=MODEL)
]
Pull = Annotated[bool, typer.Option("--pull", help="Pull the named model if not installed.", rich_help_panel=MODEL)]
ImportPrecision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="exact|int4|int8|fp16|fp32",
        help="How weights are stored (default: quantized ones exactly, others as int4, or int8 from GGUF).",
        rich_help_panel=MODEL,
    ),
]
BlockSize = Annotated[
    str | None,
    typer.Option(
        "--block-size",
        metavar="32|64|128",
        help="Weights that share a scale when quantizing; larger blocks make smaller, less exact models (default: 32).",
        rich_help_panel=MODEL,
    ),
]
KeepSource = Annotated[
    bool,
    typer.Option("--keep-source", help="Keep the downloaded source files after the import.", rich_help_panel=MODEL),
]
TrustModelFiles = Annotated[
    bool,
    typer.Option(
        "--trust-model-files",
        help="Allow the model folder to load native libraries and files outside it (unsafe).",
        rich_help_panel=MODEL,
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", metavar="MODEL", help="The model to use.", rich_help_panel=MODEL)
]
Batch = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="FILE",
        help="Process every prompt of this file: JSON lines, JSON, CSV or text. - reads stdin.",
        rich_help_panel=BATCH,
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="Output file for --batch (default: stdout). Prompts already processed there are skipped.",
        rich_help_panel=BATCH,
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed", help="Retry the prompts that failed in an earlier run of this batch.", rich_help_panel=BATCH
    ),
]
Words = Annotated[list[str] | None, typer.Argument(metavar="[MODEL] [PROMPT]...", show_default=False)]
System = Annotated[
    str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system prompt.", rich_help_panel=INPUT)
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        "--file", "-f", metavar="FILE", help="Append a text file to the prompt; repeatable.", rich_help_panel=INPUT
    ),
]
Raw = Annotated[
    bool, typer.Option("--raw", help="Send the prompt as is, without a chat template.", rich_help_panel=INPUT)
]
NoStdin = Annotated[bool, typer.Option("--no-stdin", help="Don't read stdin.", rich_help_panel=INPUT)]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print how the model would be loaded, and stop.", rich_help_panel=OUTPUT)
]
NoServer = Annotated[
    bool,
    typer.Option(
        "--no-server",
        help="Load the model here, even if a running server has it in memory.",
        rich_help_panel=MODEL,
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="Don't render Markdown.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Suppress notes.", rich_help_panel=OUTPUT)]
PromptText = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        metavar="TEXT",
        help="The prompt. Use this, or --, if its first word is also the name of a model.",
        rich_help_panel=INPUT,
    ),
]
TemplateName = Annotated[
    str | None,
    typer.Option(
        "--template",
        "-t",
        metavar="NAME",
        help="Use a saved template; lmsupply templates lists them.",
        rich_help_panel=INPUT,
    ),
]
Mcp = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp",
        metavar="CONFIG",
        help="Let the model call the tools of MCP servers: a JSON file with mcpServers, or the JSON itself; repeatable.",
        rich_help_panel=TOOLS,
    ),
]
Tool = Annotated[
    list[str] | None,
    typer.Option(
        "--tool",
        metavar="MODULE:FUNCTION",
        help="Let the model call this typed Python function; repeatable.",
        rich_help_panel=TOOLS,
    ),
]
AllowTool = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-tool", metavar="NAME", help="Run this tool without asking; repeatable.", rich_help_panel=TOOLS
    ),
]
Preset = Annotated[
    str | None,
    typer.Option("--preset", help="Start from creative, precise or greedy.", rich_help_panel=SAMPLING, metavar="NAME"),
]


def whole_number(flag: str, text: str, low: int, high: int) -> int:
    """Raises UsageError unless it is a whole number from `low` to `high`."""
    with suppress(ValueError):
        if low <= int(text) <= high:
            return int(text)
    raise UsageError(f"{flag} must be a whole number from {low} to {high}, not {text!r}")


def check_one_of(given: Mapping[str, Any]) -> None:
    """Raises UsageError if several of the options were given."""
    names = [name for name, value in given.items() if value not in (None, False)]
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} can't be combined", hint="use one of them")


def check_text_only(given: Mapping[str, Any], **formats: bool) -> None:
    """Raises UsageError for an option of text output that is given with JSON: `json`, `stream_json`."""
    form = next((name.replace("_", "-") for name, wanted in formats.items() if wanted), "")
    named = [name for name, value in given.items() if value not in (None, False)]
    if form and named:
        raise UsageError(f"{named[0]} has no effect with --{form}", hint="leave it out")


def check_raw(given: Mapping[str, Any], system: str | None) -> None:
    """Raises UsageError for an option that a prompt without a chat template ignores."""
    if system is not None:
        raise UsageError("--system cannot be combined with --raw", hint="write it into the prompt, or leave out --raw")
    for name in ("chat_format", "reasoning_effort"):
        if name in given:
            raise UsageError(f"`{name}` has no effect with --raw", hint="leave one of them out")
    if given.get("think") == "off":
        raise UsageError("`think=off` has no effect with --raw", hint="leave one of them out")


def check_batch_only(given: Mapping[str, Any]) -> None:
    """Raises UsageError for an option that a batch has no use for."""
    for name, value in given.items():
        if value not in (None, False, []):
            raise UsageError(f"--batch reads its prompts from the file and writes JSON: leave out {name}")


def takes_settings(*keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each setting; it receives those given as `flags`, None for the rest."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for name, p in signature.parameters.items() if name != "flags"]
        added = [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=_annotation(SETTINGS[key], command.__name__),
            )
            for key in keys
        ]

        def wrapper(**values: Any) -> None:
            flags = {key: values.pop(key) for key in keys}
            command(
                **values,
                flags={key: _typed(SETTINGS[key], value) for key, value in flags.items() if value not in (None, [])},
            )

        wrapper.__doc__, wrapper.__name__ = command.__doc__, command.__name__
        wrapper.__module__ = command.__module__
        parameters = [*own, *added]
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapper

    return decorate


def _annotation(setting: Setting, command: str) -> Any:
    negative = "--no-sample" if setting.key == "do_sample" else "--no-" + setting.flag.removeprefix("--")
    flag = f"{setting.flag}/{negative}" if setting.kind == "bool" else setting.flag
    text = setting.help[:1].upper() + setting.help[1:] + "."
    if setting.key in _NAMED:
        text += f" One of {', '.join(setting.choices)}."
    if default := _DEFAULTS.get(setting.key, {}).get(command, setting.default_text):
        text += f" Default: {default}."
    elif setting.key in GENERATION_KEYS and setting.default not in (None, (), True, False):
        text += f" Default: the model's own, else {setting.default}."
    option = typer.Option(
        flag,
        *_MORE_NAMES.get(setting.key, []),
        help=text,
        metavar=_metavar(setting),
        show_default=False,
        rich_help_panel=_GROUPS.get(setting.key, SAMPLING),
    )
    return Annotated[_TYPES.get(setting.kind, str) | None, option]


def _metavar(setting: Setting) -> str | None:
    """The choices, or what kind of value it takes; None for a switch."""
    if setting.kind == "bool":
        return None
    if setting.key in _METAVARS:
        return _METAVARS[setting.key]
    if setting.choices:
        return "|".join(setting.choices)
    return {"int": "N", "float": "X", "list": "TEXT", "bias": "ID=N"}.get(setting.kind, "TEXT")


def _typed(setting: Setting, value: Any) -> Any:
    """Numbers as numbers, lists as tuples; text that is no number stays, for `check_value` to refuse."""
    if isinstance(value, list):
        return tuple(value)
    number = {"int": int, "float": float}.get(setting.kind)
    try:
        return number(value) if number else value
    except ValueError:
        return value
