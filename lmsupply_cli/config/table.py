"""The table of settings: command-line help, environment names and the file all derive from it.

The generation options are settings too; `GenerationOptions` takes its defaults and limits here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from lmsupply_cli.errors import UsageError
from lmsupply_cli.paths import check_folder
from lmsupply_cli.providers import PRECISIONS, PROVIDER_NAMES
from lmsupply_cli.units import parse_memory

Kind = Literal["text", "int", "float", "bool", "list", "bias"]
Tier = Literal["permissive", "conditional", "research", "unknown"]
TIERS: tuple[Tier, ...] = get_args(Tier)


@dataclass(frozen=True, slots=True)
class Setting:
    """`low`/`high` bound numbers, both included; `choices` and `check`, which raises UsageError for an invalid text, hold
    for each item of a list; `commas` separate the items where they are typed; `json_only`: it affects only JSON
    output and events; `default_text`: the default in words, if it isn't a plain value."""

    key: str
    kind: Kind
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[str], object] | None = None
    commas: bool = False
    json_only: bool = False
    default_text: str = ""

    @property
    def env(self) -> str:
        return "LMSUPPLY_" + self.key.upper()

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")


CHAT_FORMATS = (
    "phi3", "phi4-mini", "phi4", "llama3", "chatml", "qwen", "mistral-v1", "mistral-v3", "mistral-tekken", "gemma",
    "deepseek-r1", "generic",
)  # fmt: skip


def _check_license(name: str) -> None:
    if name.lower() in TIERS and name.lower() != "unknown":
        raise UsageError(f"{name} is a license tier, not a license", hint=f"lmsupply config set allowed_tiers {name}")


GENERAL: tuple[Setting, ...] = (
    Setting("default_model", "text", None, "model that run and chat use when none is named"),
    Setting("provider", "text", "auto", "execution provider", choices=("auto", *PROVIDER_NAMES)),
    Setting(
        "precision", "text", "auto", "weight precision of the variant to download or use", choices=("auto", *PRECISIONS)
    ),
    Setting("context", "int", None, "context length in tokens, at most the model's own", low=1),
    Setting(
        "threads",
        "int",
        None,
        "CPU threads",
        low=1,
        high=1024,
        default_text="the number of available physical cores",
    ),
    Setting("memory_limit", "text", None, "maximum memory to use, such as 8GB or 6.5GiB", check=parse_memory),
    Setting("auto_pull", "text", "ask", "pull a named model that is missing", choices=("ask", "always", "never")),
    Setting(
        "allowed_licenses",
        "list",
        (),
        "only models under these licenses may be used",
        check=_check_license,
        commas=True,
    ),
    Setting("allowed_tiers", "list", (), "only models of these license tiers may be used", choices=TIERS, commas=True),
    Setting("cache_dir", "text", None, "root of the model store", check=check_folder),
    Setting("offline", "bool", False, "never use the network"),
    Setting(
        "speculative",
        "text",
        "off",
        "speculative decoding, with draft tokens from the text (ngram) or from a smaller model (draft:MODEL)",
    ),
    Setting("draft_tokens", "int", 4, "maximum number of draft tokens per round", low=1, high=64),
    Setting(
        "on_overflow",
        "text",
        None,
        "what to do if a prompt is too long",
        choices=("error", "truncate-start", "truncate-end", "drop-oldest"),
        default_text="drop-oldest (`chat`, `run --continue`), error (otherwise)",
    ),
    Setting("save_sessions", "bool", True, "save chats and the last run, to resume them"),
    Setting("history", "bool", True, "save your input lines between chats"),
    Setting(
        "chat_format",
        "text",
        None,
        "format of the prompt",
        choices=("template", *CHAT_FORMATS),
        default_text="the model's own template, else that of its family",
    ),
    Setting(
        "think",
        "text",
        "on",
        "show, hide, or disable reasoning",
        choices=("on", "hide", "off"),
    ),
    Setting(
        "reasoning_effort",
        "text",
        None,
        "reasoning effort, for models that support it",
        choices=("low", "medium", "high"),
    ),
    Setting("theme", "text", "auto", "colors of rendered answers", choices=("auto", "dark", "light", "none")),
)

GENERATION: tuple[Setting, ...] = (
    Setting(
        "max_tokens",
        "int",
        512,
        "maximum tokens to generate",
        low=1,
        high=2**31 - 1,
        default_text="context (`run`, `chat`), 512 (batches, Python)",
    ),
    Setting("temperature", "float", 0.7, "randomness; 0 is greedy", low=0, high=100),
    Setting("top_p", "float", 0.9, "nucleus sampling: cumulative probability to keep; 1 is off", low=0, high=1),
    Setting("top_k", "int", 50, "number of most likely tokens to keep; 0 is off", low=0, high=2**31 - 1),
    Setting("min_p", "float", 0.0, "minimum probability relative to the most likely token", low=0, high=1),
    Setting(
        "repetition_penalty",
        "float",
        None,
        "penalty for repeated tokens; 1 is off",
        low=0.01,
        high=100,
        default_text="1 for greedy and guided answers, else the model's own or 1.1",
    ),
    Setting(
        "presence_penalty",
        "float",
        0.0,
        "subtract this from the score of every token already in the answer",
        low=-2,
        high=2,
    ),
    Setting(
        "frequency_penalty",
        "float",
        0.0,
        "subtract this from the score of a token for each time it is already in the answer",
        low=-2,
        high=2,
    ),
    Setting(
        "logit_bias",
        "bias",
        (),
        "add N (-100 to 100) to the score of the token with this ID; repeatable",
        commas=True,
    ),
    Setting("min_length", "int", 0, "minimum number of tokens to generate", low=0, high=2**31 - 1),
    Setting("no_repeat_ngram_size", "int", 0, "never repeat a sequence of this length; 0 is off", low=0, high=1024),
    Setting("do_sample", "bool", True, "sample from the distribution instead of always picking the most likely token"),
    Setting(
        "num_beams",
        "int",
        1,
        "number of beams; more than 1 uses beam search, without sampling or streaming",
        low=1,
        high=64,
    ),
    Setting("seed", "int", None, "random seed, for reproducible output", low=0, high=2**63 - 1),
    Setting("stop", "list", (), "stop before this text appears; repeatable"),
    Setting("logprobs", "bool", False, "give the log probability of each token", json_only=True),
    Setting(
        "top_logprobs",
        "int",
        0,
        "also give this many of the most likely tokens at each position; turns logprobs on",
        low=0,
        high=20,
        json_only=True,
    ),
    Setting(
        "past_present_share_buffer",
        "bool",
        None,
        "share one past/present KV-cache buffer",
        default_text="the model's setting",
    ),
)

SETTINGS: Mapping[str, Setting] = MappingProxyType({s.key: s for s in GENERAL + GENERATION})
GENERATION_KEYS: tuple[str, ...] = tuple(s.key for s in GENERATION)
