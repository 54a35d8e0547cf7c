"""The outcome of each run of a sweep: `result.json` in the run's directory, `sweep.json` for all."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from lora.config import layers_label
from lora.files.atomic_write import write_atomic
from lora.files.ordinary_file import read_file
from lora.files.packed import parse_object
from rl.run.best_metric import ACCURACY, BEST, LOG_LOSS, BestMetric
from rl.run.directory import RunDirectory
from rl.run.kind import Kind
from rl.sweep.points import Point

if TYPE_CHECKING:
    from rl.launch.recipe import Recipe

Ended = Literal["finished", "stopped_early", "collapsed", "failed"]
FILE = "result.json"
MOST_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Result:
    """One run's end."""

    directory: str
    """Its name below the sweep's."""
    weights: str
    """`lora` or `full`."""
    rank: int
    """0 for full fine-tuning, as is alpha."""
    alpha: float
    lr: float
    seed: int
    targets: list[str]
    layers: str
    """`all`, `mlp`, `attention`, or the names of the adapted layers; `every weight` for full fine-tuning."""
    problems_per_step: int
    group_size: int
    settings: dict[str, Any]
    """Values that the sweep set, by their keys."""
    steps: int
    """Steps that were done."""
    ended: Ended
    reason: str
    """Why it did not finish."""
    trained_parameters: int
    final_accuracy: float | None
    """Accuracy of the last evaluation; None if there was none."""
    best_accuracy: float | None
    curve: list[tuple[int, float]]
    """The metric that compares runs, by step: held-out accuracy, or with supervised fine-tuning log-loss."""
    kind: Kind = "train"
    final_log_loss: float | None = None
    """In nats a token, of supervised fine-tuning; None elsewhere, and if there was no evaluation."""
    best_log_loss: float | None = None
    lora_kind: str = "lora"
    """`lora.kind`."""

    @property
    def metric(self) -> BestMetric:
        """Return what the run is compared with others by."""
        return BEST[self.kind]

    @property
    def final_value(self) -> float | None:
        """Return that metric at the last evaluation; None if there was none."""
        return self.final_log_loss if self.kind == "sft" else self.final_accuracy

    @property
    def score(self) -> float | None:
        """Return the same, higher being better."""
        return None if self.final_value is None else self.metric.score(self.final_value)

    @property
    def is_final(self) -> bool:
        """Return True if it is done for good; a run that failed is tried again when the sweep is resumed."""
        return self.ended != "failed"


def result_of(
    point: Point, recipe: "Recipe[Any, Any]", directory: RunDirectory, trained: int, ended: Ended, reason: str = ""
) -> Result:
    """Return what the run's files say."""
    config, curve = point.config, directory.curve(recipe.best.name)
    accuracies = [accuracy for _, accuracy in directory.curve()]
    losses = [loss for _, loss in directory.curve(LOG_LOSS.name)]
    full = config.learner.weights == "full"
    targets = list(config.lora.all_targets)
    return Result(
        directory=point.name,
        weights=config.learner.weights,
        rank=0 if full else config.lora.rank,
        alpha=0.0 if full else config.lora.alpha,
        lora_kind=config.lora.kind,
        lr=config.learner.lr,
        seed=config.seed,
        targets=[] if full else targets,
        layers="every weight" if full else layers_label(targets),
        problems_per_step=config.problems_per_step,
        group_size=config.sampling.group_size,
        settings=point.settings,
        steps=sum(recipe.progress[0] in row for row in directory.metrics()),
        ended=ended,
        reason=reason,
        trained_parameters=trained,
        final_accuracy=accuracies[-1] if accuracies else None,
        best_accuracy=ACCURACY.best(accuracies),
        curve=curve,
        kind=recipe.kind,
        final_log_loss=losses[-1] if losses else None,
        best_log_loss=LOG_LOSS.best(losses),
    )


def save_final(result: Result, path: Path) -> None:
    """Write `result.json` into the run's directory."""
    write_atomic(path / FILE, (json.dumps(asdict(result), indent=1) + "\n").encode())


def load_final(path: Path) -> Result | None:
    """Return what `save_final` wrote, if the run is done for good; a damaged file is none, and the run goes on."""
    try:
        result = _result(parse_object(read_file(path / FILE, MOST_BYTES), FILE))
    except (OSError, ValueError):
        return None
    return result if result.is_final else None


def write_all(results: Sequence[Result], path: Path) -> None:
    """Write `sweep.json`: a list with one object a run."""
    write_atomic(path, (json.dumps([asdict(result) for result in results], indent=1) + "\n").encode())


def read_all(text: bytes) -> list[Result]:
    """Return what `write_all` wrote. Raises ValueError if it is something else."""
    return [_result(fields) for fields in json.loads(text)]


def _result(fields: dict[str, Any]) -> Result:
    """Raises ValueError for fields of another kind."""
    try:
        return _KIND.validate_python(fields)
    except ValidationError as error:
        raise ValueError(f"it is no run's result: {error.errors()[0]['msg']}") from None


_KIND = TypeAdapter(Result)
