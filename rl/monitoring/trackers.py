"""Experiment trackers that hear of a run: TensorBoard, Weights & Biases and MLflow, through their own libraries."""

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rl.algorithm.evaluation.held_out import Evaluation
from rl.config import RunConfig
from rl.monitoring.dashboard.types import RunInfo
from rl.run.sinks import Ended, Sink
from rl.types import Group

STATUS: Mapping[Ended, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class TensorBoard(Sink):
    """Every metric as a scalar of TensorBoard's, by step; what was written of `first_step` and later ones is purged."""

    def __init__(self, directory: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(directory), purge_step=first_step or None, max_queue=1)

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        """Its numbers come with the step's."""

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, ended: Ended) -> None:
        self._writer.close()


class WeightsAndBiases(Sink):
    """A W&B run in project `config.wandb`; a run that is resumed goes on in the one it had."""

    def __init__(self, config: RunConfig, info: RunInfo) -> None:
        import wandb

        name = info.submission_id or info.name
        self._run: Any = wandb.init(
            project=config.wandb, name=name, id=name, resume="allow", config=config.model_dump(mode="json")
        )

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        """Do nothing: the figures come with the step's."""

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self, ended: Ended) -> None:
        self._run.finish(exit_code=0 if ended == "finished" else 1)


class MLflow(Sink):
    """An MLflow run in experiment `config.mlflow`; a run that is resumed goes on in the one it had."""

    def __init__(self, config: RunConfig, info: RunInfo) -> None:
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient()
        existing = self._client.get_experiment_by_name(config.mlflow)
        experiment = existing.experiment_id if existing else self._client.create_experiment(config.mlflow)
        place = info.run_path.replace("'", "")
        runs = self._client.search_runs([experiment], f"tags.place = '{place}'", max_results=1)
        run = runs[0] if runs else self._client.create_run(experiment, tags={"place": place}, run_name=info.name)
        self._id = run.info.run_id
        self._client.update_run(self._id, status="RUNNING")
        for name, value in info.settings.items():
            self._client.log_param(self._id, name, value)

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        """Do nothing: the figures come with the step's."""

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        for name, value in metrics.items():
            if math.isfinite(value):
                self._client.log_metric(self._id, name, value, step=step)

    def close(self, ended: Ended) -> None:
        self._client.set_terminated(self._id, STATUS[ended])


TRACKERS: dict[str, Callable[[RunConfig, RunInfo], Sink]] = {"wandb": WeightsAndBiases, "mlflow": MLflow}
"""Trackers by the name of their setting, which is also the library's."""


def check_trackers(config: RunConfig) -> None:
    """Raises ValueError if a tracker is asked for whose library is not installed."""
    for name in TRACKERS:
        if getattr(config, name) is not None and find_spec(name) is None:
            raise ValueError(f"{name} = {getattr(config, name)!r} needs a library that is not here: pip install {name}")
