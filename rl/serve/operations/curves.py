"""Curves of a server's models: a row of metrics for each step, in a file as a run has one, and on Ray's page."""

import logging
import socket
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lora.config import ATTENTION, MLP, layers_label
from lora.messages import single_line
from rl.monitoring.dashboard.feed import RunFeed
from rl.monitoring.dashboard.reporter import PageReporter
from rl.monitoring.dashboard.run_info import submission_id
from rl.monitoring.dashboard.types import RunInfo
from rl.run.jsonl import append_objects
from rl.serve.operations.models import Model

log = logging.getLogger(__name__)

MEANS = ("kl_sampler_learner", "entropy", "clip_fraction")
"""Metrics that are means over a pass's tokens."""


@dataclass(slots=True)
class _Curve:
    """One model's."""

    file: Path
    feed: RunFeed
    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict[str, float](float))
    """Sums over the passes since the last step; means count by their tokens."""

    def add(self, metrics: Mapping[str, float]) -> None:
        tokens = metrics["tokens:sum"]
        self.sums["tokens"] += tokens
        self.sums["loss"] += metrics["loss:sum"]
        for name in MEANS:
            self.sums[name] += metrics[f"{name}:mean"] * tokens

    def row(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return a step's row. The sums begin anew."""
        tokens = self.sums.pop("tokens", 0.0)
        means = {f"update/{name}": value / max(1.0, tokens) for name, value in self.sums.items()}
        self.sums.clear()
        loss = means.get("update/loss", 0.0)
        return {"step": step, "time": time.time(), "train/loss": loss, "update/tokens": tokens, **means, **metrics}


class Curves:
    """Curves of all models. Their files stay when a model has ended."""

    def __init__(self, directory: Path, page: PageReporter | None) -> None:
        """`directory` has a directory for each model; `page` is None where there is no Ray."""
        self._directory = directory
        self._page = page
        self._curves: dict[str, _Curve] = {}

    def on_pass(self, model: Model, metrics: Mapping[str, float]) -> None:
        """Take in a backward pass, in the protocol's names."""
        self._curve(model).add(metrics)

    def on_step(self, model: Model, metrics: Mapping[str, float]) -> None:
        """Write down a step."""
        curve = self._curve(model)
        try:
            curve.file.parent.mkdir(parents=True, exist_ok=True)
            append_objects(curve.file, [curve.row(model.policy.steps, metrics)])
        except OSError as error:  # a full disk costs no step
            log.warning("a step's metrics could not be written: %s", single_line(error, 300))
        if self._page is not None:
            self._page.notify(curve.feed)

    def on_end(self, model: Model) -> None:
        """Say that a model is no longer trained."""
        if (curve := self._curves.pop(model.id, None)) is not None:
            self._end(curve)

    def close(self) -> None:
        """Say so of all models; the server ends."""
        for curve in self._curves.values():
            self._end(curve)
        if self._page is not None:
            self._page.close()

    def _end(self, curve: _Curve) -> None:
        curve.feed.state = "stopped"
        if self._page is not None:
            self._page.notify(curve.feed)

    def _curve(self, model: Model) -> _Curve:
        """Return a model's curve, which begins with its first pass or step."""
        if (curve := self._curves.get(model.id)) is None:
            directory = self._directory / model.id.replace(":", "-")
            file = directory / "metrics.jsonl"
            curve = self._curves[model.id] = _Curve(file, RunFeed(_info(model, directory), file))
            if self._page is not None:
                self._page.add(curve.feed)
        return curve


def _info(model: Model, directory: Path) -> RunInfo:
    """Return what the page shows of a model besides its curve."""
    run = model.run
    targets = (*(ATTENTION if run.train_attn else ()), *(MLP if run.train_mlp else ()))
    layers = [layers_label(targets)] * bool(targets) + ["unembedding"] * run.train_unembed
    return RunInfo(
        name=f"{model.user}-{model.id}",
        run_path=f"{socket.gethostname()}:{directory.resolve()}",
        num_steps=0,
        settings={"user": model.user, "rank": run.rank, "layers": " and ".join(layers), "model": run.base_model},
        submission_id=submission_id(),
        kind="serve",
    )
