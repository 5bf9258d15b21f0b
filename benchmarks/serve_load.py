"""Sixteen clients that do everything at once, for minutes: is an answer lost, a request stuck, memory lost?

    python benchmarks/serve_load.py MODEL [--minutes 15] [--clients 16] [--kill-every 60] [--seed 1]

Each client picks at random: a whole answer, a stream, a stream that it hangs up on, a whole answer that it gives up on, a bad
request, a schema, a tool call, tokens to count. Every `--kill-every` seconds one worker process is killed (0: never). At the
end: every request was answered or refused as it should be, none took longer than `--limit` seconds, and the memory of the
server and its workers is within 5 % of what it was after the first tenth. Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import sys
import threading
import time
from collections import Counter
from typing import Any

import psutil
from serve import free_port, running

SCHEMA = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["color", "count"],
}
TOOL = {"type": "function", "function": {"name": "set_lamp", "parameters": SCHEMA}}
KINDS = {"whole": 4, "stream": 6, "hang_up": 3, "give_up": 2, "bad": 3, "schema": 2, "tool": 2, "count": 1}


class Faults:
    """What went wrong, with its number; `killed` is when a worker was last killed."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.killed = 0.0
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        with self._lock:
            self.rows[text] += 1

    def done(self, kind: str, outcome: str, seconds: float) -> None:
        with self._lock:
            self.outcomes[f"{kind}: {outcome}"] += 1
            self.seconds.append(seconds)


class Client:
    """One of many."""

    def __init__(self, port: int, model: str, faults: Faults, *, limit_s: float, seed: int) -> None:
        self._port, self._model, self._faults, self._limit_s = port, model, faults, limit_s
        self._random = random.Random(seed)

    def run(self, until: float) -> None:
        while time.monotonic() < until:
            kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
            began = time.monotonic()
            try:
                outcome = getattr(self, f"_{kind}")()
            except (OSError, http.client.HTTPException) as error:
                outcome = f"{type(error).__name__}: {error}"
                self._faults.add(f"{kind}: {outcome}")
            self._faults.done(kind, outcome, time.monotonic() - began)

    def _whole(self) -> str:
        return self._checked(
            "whole", self._body(), lambda found: isinstance(found["choices"][0]["message"]["content"], str)
        )

    def _schema(self) -> str:
        form = {"type": "json_schema", "json_schema": {"name": "lamp", "schema": SCHEMA}}
        fine = lambda found: json.loads(found["choices"][0]["message"]["content"])["color"] in ("red", "green")  # noqa: E731
        return self._checked("schema", self._body(response_format=form, max_tokens=60), fine)

    def _tool(self) -> str:
        body = self._body(tools=[TOOL], tool_choice="required", max_tokens=80)
        return self._checked("tool", body, lambda found: bool(found["choices"][0]["message"]["tool_calls"]))

    def _count(self) -> str:
        body = {"model": self._model, "messages": self._messages()}
        return self._checked("count", body, lambda found: found["input_tokens"] > 0, path="/v1/messages/count_tokens")

    def _bad(self) -> str:
        changes: dict[str, Any] = self._random.choice(
            [{"temperature": "hot"}, {"max_tokens": -1}, {"messages": []}, {"no_such_field": 1}, {"n": 0}]
        )
        status, _ = self._post(self._body(**changes))
        if status != 400:
            self._faults.add(f"a bad request ({changes}) is {status}")
        return str(status)

    def _stream(self) -> str:
        connection, reply = self._open(self._body(stream=True))
        try:
            if reply.status != 200:
                return self._refused("stream", reply.status, reply.read())
            lines = [line[6:].strip() for line in reply if line.startswith(b"data: ")]
        finally:
            connection.close()
        if lines and lines[-1] == b"[DONE]":
            if not any(json.loads(line)["choices"][0]["finish_reason"] for line in lines[:-1]):
                self._faults.add("a stream without a finish_reason")
            return "finished"
        if lines and b'"error"' in lines[-1] and self._lately():
            return "killed"
        self._faults.add(f"a stream that ends with {lines[-1:]!r}"[:160])
        return "broken"

    def _hang_up(self) -> str:
        connection, reply = self._open(self._body(stream=True, max_tokens=200))
        reply.read(self._random.randint(1, 600))
        connection.close()
        return "hung up"

    def _give_up(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._limit_s)
        body = json.dumps(self._body(max_tokens=200))
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        time.sleep(self._random.random() * 0.5)
        connection.close()
        return "given up"

    def _checked(self, kind: str, body: dict[str, Any], fine: Any, *, path: str = "/v1/chat/completions") -> str:
        status, data = self._post(body, path=path)
        if status != 200:
            return self._refused(kind, status, data)
        found = json.loads(data)
        if not fine(found):
            self._faults.add(f"{kind}: a wrong answer: {data[:100]!r}")
        return "answered"

    def _refused(self, kind: str, status: int, data: bytes) -> str:
        """A full queue, or a worker that was killed, may refuse."""
        if status == 429 or (status == 502 and self._lately()):
            return str(status)
        self._faults.add(f"{kind}: {status} {data[:160]!r}")
        return str(status)

    def _lately(self) -> bool:
        return time.monotonic() - self._faults.killed < self._limit_s

    def _post(self, body: dict[str, Any], *, path: str = "/v1/chat/completions") -> tuple[int, bytes]:
        connection, reply = self._open(body, path=path)
        try:
            return reply.status, reply.read()
        finally:
            connection.close()

    def _open(
        self, body: dict[str, Any], *, path: str = "/v1/chat/completions"
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._limit_s)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection, connection.getresponse()

    def _body(self, **changes: Any) -> dict[str, Any]:
        drawn = {"temperature": self._random.choice([0, 0.7]), "max_tokens": self._random.randint(1, 48)}
        return {"model": self._model, "messages": self._messages()} | drawn | changes

    def _messages(self) -> list[dict[str, str]]:
        words = self._random.choices(
            ["model", "chat", "pull", "memory", "license", "file"], k=self._random.randint(3, 60)
        )
        return [{"role": "user", "content": " ".join(words)}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--kill-every", type=float, default=60)
    parser.add_argument("--limit", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    port, faults = free_port(), Faults()
    command = [sys.executable, "-m", "lmsupply_cli", "serve", options.model, "--port", str(port)]
    with running(command, port):
        memory = measure(port, options, faults)
    settled, last = memory[len(memory) // 10 : len(memory) // 5] or memory, memory[-max(1, len(memory) // 10) :]
    (begin, end), (first, late) = (
        [statistics.median(row[which] for row in part) for part in (settled, last)] for which in (0, 1)
    )
    print(f"{options.model}: {sum(faults.outcomes.values())} requests, the slowest {max(faults.seconds):.1f} s")
    for text, count in sorted(faults.outcomes.items()):
        print(f"  {text:<30}{count:>8}")
    print(f"  memory {begin / 1e6:.0f} MB, at the end {end / 1e6:.0f} MB ({end / begin - 1:+.1%})")
    print(f"  of that the server itself {first / 1e6:.0f} MB, at the end {late / 1e6:.0f} MB ({late / first - 1:+.1%})")
    for text, count in faults.rows.most_common():
        print(f"  FAULT {count} × {text}")
    sys.exit(1 if faults.rows or end > 1.05 * begin or max(faults.seconds) > options.limit else 0)


def measure(port: int, options: argparse.Namespace, faults: Faults) -> list[tuple[int, int]]:
    """Bytes of the server with its workers, and of the server alone, once a second."""
    until = time.monotonic() + 60 * options.minutes
    clients = [
        Client(port, options.model, faults, limit_s=options.limit, seed=options.seed * 1000 + number)
        for number in range(options.clients)
    ]
    threads = [threading.Thread(target=client.run, args=(until,)) for client in clients]
    for thread in threads:
        thread.start()
    memory: list[tuple[int, int]] = []
    chance, next_kill = random.Random(options.seed), time.monotonic() + options.kill_every
    server = psutil.Process().children()[0]
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        family = [server, *server.children(recursive=True)]
        if options.kill_every and time.monotonic() > next_kill and time.monotonic() < until - options.kill_every:
            next_kill = time.monotonic() + options.kill_every * (0.5 + chance.random())
            faults.killed = time.monotonic()
            for worker in family[1:]:
                worker.kill()
            continue
        sizes = [resident(process) for process in family]
        memory.append((sum(sizes), sizes[0]))
    return memory


def resident(process: psutil.Process) -> int:
    try:
        found: int = process.memory_info().rss
        return found
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
