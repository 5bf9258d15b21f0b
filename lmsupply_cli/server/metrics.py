"""GET /health and GET /metrics."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmsupply_cli._version import __version__
from lmsupply_cli.events import Finished, GenerationEvent, ReasoningDelta, TextDelta, ToolCallDelta
from lmsupply_cli.serving.pool_stats import WorkerPoolStats
from lmsupply_cli.serving.requests import LoadedWorker, Models

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_COUNTED = {
    "loads": "Times that a model was loaded.",
    "failed_loads": "Times that a model could not be loaded.",
    "evictions": "Times that a model was unloaded to make room for another.",
    "unloads": "Times that a model was unloaded after its keep-alive time or on request.",
    "crashes": "Times that the process of a model ended by itself.",
}
_TOKENS = (TextDelta, ReasoningDelta, ToolCallDelta)


class Metrics:
    """Those of one application."""

    def __init__(self, models: Models) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lmsupply_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.answers = Counter(
            "lmsupply_answers", "Answers by finish reason.", ["finish_reason"], registry=self.registry
        )
        self.tokens = Counter(
            "lmsupply_tokens", "Tokens: prompt, cached, completion.", ["kind"], registry=self.registry
        )
        self.first_token_s = Histogram(
            "lmsupply_time_to_first_token_seconds",
            "From an accepted request to its first token.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.registry.register(_LoadedModels(models))

    @staticmethod
    def is_token(event: GenerationEvent) -> bool:
        """Whether the event is a part of the answer."""
        return isinstance(event, _TOKENS)

    def count_answer(self, end: Finished) -> None:
        """An answer that ended."""
        usage = end.usage
        self.answers.labels(end.finish_reason).inc()
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("cached").inc(usage.cached_tokens)
        self.tokens.labels("completion").inc(usage.completion_tokens)


class _LoadedModels:
    """What is in memory at the moment of a scrape."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        loaded = self._models.loaded()
        yield _gauge("lmsupply_models_loaded", "Models in memory.", float(len(loaded)))
        yield _by_model("lmsupply_model_memory_bytes", "Memory of a model's process.", loaded, "bytes")
        yield _by_model("lmsupply_model_requests_running", "Requests that a model answers.", loaded, "running")
        yield _by_model("lmsupply_model_requests_waiting", "Requests that wait for a model.", loaded, "waiting")
        stats = getattr(self._models, "stats", None)
        if isinstance(stats, WorkerPoolStats):
            yield from map(partial(_counted, stats), _COUNTED)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by_model(name: str, text: str, loaded: Iterable[LoadedWorker], attribute: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["model"])
    for worker in loaded:
        family.add_metric([worker.ref], float(getattr(worker, attribute)))
    return family


def _counted(stats: WorkerPoolStats, attribute: str) -> Metric:
    family = CounterMetricFamily(f"lmsupply_model_{attribute}", _COUNTED[attribute], labels=["model"])
    for model in stats.models:
        family.add_metric([model.ref], float(getattr(model, attribute)))
    return family


async def health(request: Request) -> Response:
    """200 as long as the server answers. It needs no key, and says nothing about models."""
    return JSONResponse({"status": "ok", "version": __version__})


async def metrics(request: Request) -> Response:
    """In the text format of Prometheus."""
    from lmsupply_cli.server.state import ServerState

    text = generate_latest(ServerState.of(request).metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


ROUTES = [Route("/health", health), Route("/metrics", metrics)]
