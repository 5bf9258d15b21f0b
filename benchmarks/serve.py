"""Throughput and time to first token of `lmsupply serve` for 1, 2, 4 and 8 clients, beside llama.cpp's server.

    python benchmarks/serve.py MODEL [--clients 1,2,4,8] [--requests 4] [--tokens 64] [--rounds 3]
                               [--llama-server PATH --gguf FILE]

MODEL is installed, or `guide`. Each client sends its requests one after the other as streamed chats at temperature 0, with
prompts that share no beginning. Each round runs every server at every number of clients, so that a busy machine slows all of
them; medians of the rounds are printed. tokens/s counts the answers' tokens over the whole time. llama.cpp's server gets as
many slots as there are clients, and the same number of threads.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

SUBJECTS = ("rivers", "bridges", "letters", "clocks", "gardens", "trains", "maps", "kitchens", "islands", "violins")


class Load(NamedTuple):
    """`first_s`: median seconds to the first piece of text; `tokens_s`: of all clients together."""

    first_s: float
    tokens_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--clients", default="1,2,4,8")
    parser.add_argument("--requests", type=int, default=4, help="of each client")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--llama-server", type=Path, help="the program of llama.cpp")
    parser.add_argument("--gguf", type=Path, help="the same model for it")
    options = parser.parse_args()
    counts = [int(count) for count in options.clients.split(",")]
    servers = {"lmsupply": lambda: lmsupply_server(options.model, options.threads)}
    if options.llama_server:
        servers["llama.cpp"] = lambda: llama_server(options.llama_server, options.gguf, options.threads, max(counts))
    found: dict[tuple[str, int], list[Load]] = {}
    for _ in range(options.rounds):
        for name, start in servers.items():
            with start() as (port, model):
                run_clients(port, model, 1, 1, 8)  # loads the model
                for count in counts:
                    load = run_clients(port, model, count, options.requests, options.tokens)
                    found.setdefault((name, count), []).append(load)
    print(f"{options.model}, {options.requests} × {options.tokens} tokens for each client, {options.rounds} rounds")
    print(f"  {'':<10}{'clients':>8}{'first token':>13}{'tokens/s':>10}")
    for (name, count), loads in sorted(found.items(), key=lambda row: (row[0][1], row[0][0])):
        first, speed = (statistics.median(getattr(load, kind) for load in loads) for kind in Load._fields)
        print(f"  {name:<10}{count:>8}{first * 1000:>10.0f} ms{speed:>10.1f}")


def run_clients(port: int, model: str, clients: int, requests: int, tokens: int) -> Load:
    """`requests` of each client, one after the other."""
    firsts: list[float] = []
    written: list[int] = []
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(requests):
                first, count = ask(port, model, number * 1000 + turn, tokens)
                firsts.append(first)
                written.append(count)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if faults:
        raise faults[0]
    return Load(statistics.median(firsts), sum(written) / took)


def ask(port: int, model: str, number: int, tokens: int) -> tuple[float, int]:
    """(seconds to the first text, tokens of the answer)."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"{number}: write a long story about {subject}, with many details."}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    if reply.status != 200:
        raise RuntimeError(f"{reply.status}: {reply.read(500)!r}")
    first, count = 0.0, 0
    for chunk in chunks(reply):
        if chunk["choices"] and chunk["choices"][0]["delta"].get("content") and not first:
            first = time.perf_counter() - began
        if chunk.get("usage"):
            count = chunk["usage"]["completion_tokens"]
    connection.close()
    return first or time.perf_counter() - began, count


def chunks(reply: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in reply:
        if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
            yield json.loads(line[6:])


@contextmanager
def lmsupply_server(model: str, threads: int) -> Iterator[tuple[int, str]]:
    port = free_port()
    command = [sys.executable, "-m", "lmsupply_cli", "serve", model, "--port", str(port), "--threads", str(threads)]
    with running(command, port):
        yield port, model


@contextmanager
def llama_server(program: Path, gguf: Path, threads: int, slots: int) -> Iterator[tuple[int, str]]:
    port = free_port()
    command = [str(program), "-m", str(gguf), "--port", str(port), "-t", str(threads), "-np", str(slots),
               "-c", str(1024 * slots), "--no-webui"]  # fmt: skip
    with running(command, port):
        yield port, "model"


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """A server that answers."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until_ready(process, port)
            yield
        finally:
            process.terminate()
            process.wait(30)


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the server is not ready after two minutes")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
