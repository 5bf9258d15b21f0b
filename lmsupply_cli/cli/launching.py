"""What `lmsupply launch` would do: the server, the client, and what its prompt costs on this machine."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.serving import KEY_VARIABLE
from lmsupply_cli.errors import ContextOverflow, LmsupplyError, UsageError, did_you_mean
from lmsupply_cli.loading.plan import find_model
from lmsupply_cli.memory.shape import read_shape
from lmsupply_cli.server.clients import Client, PrefillCost, Server, Setup, find_client
from lmsupply_cli.server.conformance.client import Client as Http
from lmsupply_cli.serving.running import RunningServer
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.units import format_bytes

_SHORT, _LONG = 256, 1024  # tokens of the prompts that are measured
_LONG_ENOUGH_S = 8.0  # a longer measurement would cost more than it tells
_WORDS = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
]


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """`prefill_s`: seconds until the agent's first answer begins, from a measurement; `cache_bytes`: of the KV cache that
    its prompt takes, None where it is unknown."""

    client: Client
    server: Server
    setup: Setup
    words: tuple[str, ...]
    prefill_s: float
    tokens_s: float
    cache_bytes: int | None

    @property
    def fits(self) -> bool:
        """Whether the agent's prompt leaves room in the context for an answer."""
        return self.client.prompt_tokens < self.server.context_tokens

    @property
    def command(self) -> tuple[str, ...]:
        """The program and its words."""
        return (self.client.program, *self.setup.arguments, *self.words)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; a key is not among them."""
        return {
            "client": self.client.name,
            "url": self.server.url,
            "model": self.server.model,
            "context_tokens": self.server.context_tokens,
            "variables": self._shown_variables(),
            "command": [self._shown(word) for word in self.command],
            "prompt_tokens": self.client.prompt_tokens,
            "prompt_measured": self.client.measured,
            "prefill_s": round(self.prefill_s, 1),
            "prefill_tokens_per_s": round(self.tokens_s, 1),
            "cache_bytes": self.cache_bytes,
            "fits": self.fits,
        }

    def lines(self) -> list[str]:
        """For people: what is set, what is run, what it costs."""
        values = [f"  {name}={quote(value)}" for name, value in self._shown_variables().items()]
        command = " ".join(quote(self._shown(word)) for word in self.command)
        return [f"{self.client.name} on {self.server.model} at {self.server.url}", *values, f"  {command}", self.cost()]

    def cost(self) -> str:
        """One line."""
        tokens = f"the prompt of {self.client.name} has about {self.client.prompt_tokens:,} tokens"
        if not self.fits:
            return (
                f"{tokens}, more than the context of {self.server.context_tokens:,}: {self.server.model} can't run it"
            )
        memory = f", {format_bytes(self.cache_bytes)} of KV cache" if self.cache_bytes is not None else ""
        return f"{tokens}: first answer in about {_span(self.prefill_s)} on this machine{memory}; later prompts process only what is new"

    def _shown_variables(self) -> dict[str, str]:
        return {name: self._shown(value) for name, value in self.setup.variables.items()}

    def _shown(self, text: str) -> str:
        """Without the key."""
        return text.replace(self.server.key, "***") if self.server.key else text


def plan_launch(context: Context, name: str, model: str, words: Sequence[str]) -> LaunchPlan:
    """Asks the running server, and measures the model. Raises LmsupplyError, UsageError."""
    client = find_client(name)
    running = RunningServer.find()
    if running is None:
        raise LmsupplyError("no server is running", hint=f"start one: lmsupply serve {model or 'MODEL'}")
    key = os.environ.get(KEY_VARIABLE, "")
    if running.needs_key and not key:
        raise UsageError(f"the server at {running.url} needs a key", hint=f"set {KEY_VARIABLE}")
    http = Http(running.url, model, key, timeout_s=600)
    ref = _model(http, model)
    http = Http(running.url, ref, key, timeout_s=600)
    status = context.terminal.status()
    status.show(f"measuring the prefill speed of {ref} …")
    try:
        _read(http, 16, random.Random(0))  # loads the model
        server = Server(running.url, ref, _context_tokens(http), key)
        cost = measure(http, server.context_tokens)
    finally:
        status.clear()
    tokens = client.prompt_tokens
    seconds = cost.seconds(tokens)
    memory = cache_bytes(ref, tokens)
    return LaunchPlan(client, server, client.setup(server), tuple(words), seconds, tokens / seconds, memory)


def _model(http: Http, model: str) -> str:
    """The ref of the model that is meant: `model`, else the only loaded one, else the only one. Raises LmsupplyError."""
    reply = http.get("/v1/models")
    if reply.status != 200:
        raise LmsupplyError(f"the server at {http.url} returned {reply.short()}", hint=f"check {KEY_VARIABLE}")
    rows: dict[str, dict[str, Any]] = {row["id"]: row for row in reply.json["data"]}
    if model:
        found = http.get(f"/v1/models/{model}")
        if found.status == 200:
            return str(found.json["id"])
        raise LmsupplyError(
            f"the server has no model {model}", hint=did_you_mean(model, rows, "lmsupply models --installed")
        )
    known = [ref for ref, row in rows.items() if row["loaded"]] or list(rows)
    if len(known) != 1:
        raise UsageError(f"{len(known)} models are available", hint=f"--model {' or '.join(known[:3])}")
    return known[0]


def _context_tokens(http: Http) -> int:
    """As the server has loaded the model."""
    rows = http.get("/api/ps").json["models"]
    return next(int(row["context_length"]) for row in rows if row["name"].removesuffix(":latest") == http.model)


def cache_bytes(ref: str, tokens: int) -> int | None:
    """Of the KV cache for so many tokens; None for a model whose shape is unknown."""
    try:
        shape = read_shape(open_model(find_model(ref)))
    except LmsupplyError:
        return None
    return shape.cache_bytes(tokens) if shape else None


def measure(http: Http, context_tokens: int) -> PrefillCost:
    """From one or two prompts that no cache has: how long the model reads them. Raises LmsupplyError."""
    found: dict[int, float] = {}
    draw = random.Random(time.monotonic_ns())
    for words in (_SHORT, _LONG):
        if words >= context_tokens // 2:
            break
        tokens, seconds = _read(http, words, draw)
        found[tokens] = seconds
        if seconds > _LONG_ENOUGH_S:
            break
    if not found:
        tokens, seconds = _read(http, max(8, context_tokens // 4), draw)
        found[tokens] = seconds
    return PrefillCost.of(found)


def _read(http: Http, words: int, draw: random.Random) -> tuple[int, float]:
    """(tokens of a prompt, seconds that the model took to read it)."""
    prompt = " ".join(draw.choices(_WORDS, k=words))
    body = {"model": http.model, "prompt": prompt, "raw": True, "stream": False, "options": {"num_predict": 1}}
    reply = http.post("/api/generate", body)
    if reply.status != 200:
        raise LmsupplyError(f"cannot measure the speed of the model: {reply.short()}")
    return reply.json["prompt_eval_count"], max(reply.json["prompt_eval_duration"] / 1e9, 1e-6)


def start(context: Context, plan: LaunchPlan) -> int:
    """Run the agent on this terminal; its exit code. Raises ContextOverflow, UsageError."""
    if not plan.fits:
        raise ContextOverflow(
            plan.cost(), hint="serve a model with a longer context, or start lmsupply serve with a larger `context`"
        )
    program = shutil.which(plan.client.program)
    if program is None:
        raise UsageError(f"{plan.client.program} is not installed", hint=plan.client.install)
    context.terminal.say(f"{plan.server.model}: {plan.cost()}")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the agent's
    try:
        return subprocess.run(
            [program, *plan.command[1:]], env=dict(os.environ) | dict(plan.setup.variables)
        ).returncode
    except OSError as error:
        raise LmsupplyError(f"{program} could not be started: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGINT, before)


def _span(seconds: float) -> str:
    """`40 s`, `3 min`, `1.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
