"""Tokens and metrics of users and models: counted, limited by the minute, and shown to Prometheus."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rl.serve.operations.models import Model


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest figures of a model."""

    loss: float = 0.0
    gap: float = 0.0
    """Logprob gap of sampler and learner, in nats a token."""


class Meter:
    """Counts of one server."""

    def __init__(self, tokens_per_minute: int | None) -> None:
        self._rate = tokens_per_minute
        self._allowance: dict[str, tuple[float, float]] = {}
        """By user: tokens that are left, and when that was."""
        self._uncounted: dict[tuple[str, str], int] = defaultdict(int)
        self._totals: dict[str, int] = defaultdict(int)
        self._seen: dict[str, Seen] = {}
        self.registry = CollectorRegistry()
        labels = ("user", "run")
        self._tokens = Counter("rankone_serve_tokens", "Tokens.", ("user", "kind"), registry=self.registry)
        self._loss = Gauge("rankone_serve_loss", "Loss of the newest pass, summed.", labels, registry=self.registry)
        self._gap = Gauge(
            "rankone_serve_kl_sampler_learner", "Logprob gap of sampler and learner, in nats a token.", labels,
            registry=self.registry,
        )  # fmt: skip
        self._norm = Gauge("rankone_serve_grad_norm", "Norm of the newest gradient.", labels, registry=self.registry)
        self._steps = Counter("rankone_serve_steps", "Optimizer steps.", labels, registry=self.registry)
        self.latency = Histogram(
            "rankone_serve_request_seconds", "Time that a request takes in the front.", ("path",),
            registry=self.registry, buckets=(0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60),
        )  # fmt: skip
        self.queued = Gauge("rankone_serve_queued", "Requests that wait or are under way.", registry=self.registry)

    async def take(self, user: str, kind: str, tokens: int) -> None:
        """Count tokens; wait until the user's limit allows them."""
        await asyncio.sleep(self.count(user, kind, tokens))

    def count(self, user: str, kind: str, tokens: int) -> float:
        """Count tokens; return the seconds until the user's limit allows them."""
        self._tokens.labels(user, kind).inc(tokens)
        self._uncounted[user, kind] += tokens
        self._totals[kind] += tokens
        if self._rate is None:
            return 0.0
        left, before = self._allowance.get(user, (float(self._rate), time.monotonic()))
        moment = time.monotonic()
        left = min(float(self._rate), left + (moment - before) * self._rate / 60) - tokens
        self._allowance[user] = (left, moment)
        return max(0.0, -left * 60 / self._rate)

    def paused(self, user: str) -> bool:
        """Return True if the user's requests wait for the limit."""
        if self._rate is None or user not in self._allowance:
            return False
        left, before = self._allowance[user]
        return left + (time.monotonic() - before) * self._rate / 60 < 0

    def observe_pass(self, model: Model, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of a pass."""
        seen = self._seen[model.id] = Seen(metrics["loss:sum"], metrics["kl_sampler_learner:mean"])
        self._loss.labels(model.user, model.id).set(seen.loss)
        self._gap.labels(model.user, model.id).set(seen.gap)

    def observe_step(self, model: Model, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of a step."""
        self._norm.labels(model.user, model.id).set(metrics["update/grad_norm"])
        self._steps.labels(model.user, model.id).inc()

    def seen(self, model_id: str) -> Seen:
        """Return the newest figures of a model."""
        return self._seen.get(model_id, Seen())

    def forget(self, model: Model) -> None:
        """Let go of the figures of a model that is gone."""
        self._seen.pop(model.id, None)
        for metric in (self._loss, self._gap, self._norm, self._steps):
            with contextlib.suppress(KeyError):
                metric.remove(model.user, model.id)

    def totals(self) -> Mapping[str, int]:
        """Return all tokens of this start of the server, by kind."""
        return self._totals

    def uncounted(self) -> dict[tuple[str, str], int]:
        """Return the tokens since this was asked last, by user and kind."""
        counts, self._uncounted = dict(self._uncounted), defaultdict(int)
        return counts

    def count_again(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Take back tokens that could not be written down."""
        for key, tokens in counts.items():
            self._uncounted[key] += tokens
