"""Coding agents that work with a local server: what each needs to be told, and how long its first prompt is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lmsupply_cli.errors import UsageError, did_you_mean

NO_KEY = "lmsupply"  # clients refuse to start with an empty key; a server without keys reads none


@dataclass(frozen=True, slots=True)
class Server:
    """Where a client sends its requests. `url` without a path; `context_tokens`: of one conversation."""

    url: str
    model: str
    context_tokens: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """Variables that are set, and words that follow the name of the program. Nothing is written to disk."""

    variables: Mapping[str, str]
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """`prompt_tokens`: of its first request without files, as its users measured (`measured`: where); `api`: what of the
    server it calls."""

    name: str
    program: str
    api: str
    prompt_tokens: int
    measured: str
    install: str
    setup: Callable[[Server], Setup]


def _claude(server: Server) -> Setup:
    return Setup(
        {
            "ANTHROPIC_BASE_URL": server.url,
            "ANTHROPIC_AUTH_TOKEN": server.key or NO_KEY,
            "ANTHROPIC_API_KEY": "",  # an exported one would win
            "ANTHROPIC_MODEL": server.model,
            "ANTHROPIC_DEFAULT_OPUS_MODEL": server.model,
            "ANTHROPIC_DEFAULT_SONNET_MODEL": server.model,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": server.model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
    )


def _codex(server: Server) -> Setup:
    values = {
        "model": server.model,
        "model_provider": "lmsupply",
        "model_context_window": server.context_tokens,
        "model_providers.lmsupply.name": "lmsupply",
        "model_providers.lmsupply.base_url": f"{server.url}/v1",
        "model_providers.lmsupply.wire_api": "responses",
        "model_providers.lmsupply.env_key": "LMSUPPLY_API_KEY",
    }
    words = [word for name, value in values.items() for word in ("-c", f"{name}={json.dumps(value)}")]
    return Setup({"LMSUPPLY_API_KEY": server.key or NO_KEY}, tuple(words))


def _aider(server: Server) -> Setup:
    variables = {"OPENAI_API_BASE": f"{server.url}/v1", "OPENAI_API_KEY": server.key or NO_KEY}
    return Setup(variables, ("--model", f"openai/{server.model}", "--no-show-model-warnings"))


def _opencode(server: Server) -> Setup:
    config = {
        "model": f"lmsupply/{server.model}",
        "provider": {
            "lmsupply": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "lmsupply",
                "options": {"baseURL": f"{server.url}/v1", "apiKey": server.key or NO_KEY},
                "models": {
                    server.model: {
                        "name": server.model,
                        "limit": {"context": server.context_tokens, "output": server.context_tokens // 4},
                    }
                },
            }
        },
    }
    return Setup({"OPENCODE_CONFIG_CONTENT": json.dumps(config)})


CLIENTS: Mapping[str, Client] = {
    client.name: client
    for client in (
        Client(
            "claude", "claude", "/v1/messages", 24_100, "github.com/janhq/jan/issues/8108",
            "npm install -g @anthropic-ai/claude-code", _claude,
        ),
        Client(
            "codex", "codex", "/v1/responses", 8_600, "github.com/webai-at-home/webai-at-home/issues/213",
            "npm install -g @openai/codex", _codex,
        ),
        Client(
            "aider", "aider", "/v1/chat/completions", 5_600, "github.com/Aider-AI/aider/pull/3127",
            "python -m pip install aider-install && aider-install", _aider,
        ),
        Client(
            "opencode", "opencode", "/v1/chat/completions", 10_000, "github.com/anomalyco/opencode/issues/43630",
            "npm install -g opencode-ai", _opencode,
        ),
    )
}  # fmt: skip


def find_client(name: str) -> Client:
    """Raises UsageError."""
    if name not in CLIENTS:
        raise UsageError(f"unknown client {name!r}", hint=did_you_mean(name, CLIENTS, f"clients: {', '.join(CLIENTS)}"))
    return CLIENTS[name]


@dataclass(frozen=True, slots=True)
class PrefillCost:
    """Seconds of a prefill as a polynomial of its tokens: each token is read once, and attends to those before it."""

    per_token_s: float
    per_pair_s: float

    @classmethod
    def of(cls, measured: Mapping[int, float]) -> PrefillCost:
        """From seconds by number of tokens: one measurement, or the two that differ most."""
        few, many = min(measured), max(measured)
        if few == many:
            return cls(measured[few] / few, 0.0)
        slope = (measured[many] / many - measured[few] / few) / (many - few)
        slope = max(slope, 0.0)  # noise: a longer prompt is never faster per token
        return cls(max(measured[many] / many - slope * many, 0.0), slope)

    def seconds(self, tokens: int) -> float:
        """How long a prompt of so many tokens takes."""
        return self.per_token_s * tokens + self.per_pair_s * tokens * tokens
