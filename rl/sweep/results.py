"""What became of each run of a sweep: `result.json` in the run's directory, `sweep.json` for all."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from lora.atomic_write import write_atomic
from lora.config import layers_label
from lora.ordinary_file import read_file
from lora.packed import parse_object
from rl.run.directory import RunDirectory
from rl.sweep.points import Point

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
    """What the sweep set, by its keys."""
    steps: int
    """Steps that were done."""
    ended: Ended
    reason: str
    """Why it did not finish."""
    trained_parameters: int
    final_accuracy: float | None
    """Of the last evaluation; None if there was none."""
    best_accuracy: float | None
    curve: list[tuple[int, float]]
    """Held-out accuracy by step."""

    @property
    def final(self) -> bool:
        """Whether it is done for good; a run that failed is tried again when the sweep is resumed."""
        return self.ended != "failed"


def result_of(point: Point, directory: RunDirectory, trained: int, ended: Ended, reason: str = "") -> Result:
    """What the run's files say."""
    config, curve = point.config, directory.curve()
    full = config.learner.weights == "full"
    targets = list(config.lora.all_targets)
    return Result(
        directory=point.name,
        weights=config.learner.weights,
        rank=0 if full else config.lora.rank,
        alpha=0.0 if full else config.lora.alpha,
        lr=config.learner.lr,
        seed=config.seed,
        targets=[] if full else targets,
        layers="every weight" if full else layers_label(targets),
        problems_per_step=config.problems_per_step,
        group_size=config.sampling.group_size,
        settings=point.settings,
        steps=sum("reward/mean" in row for row in directory.metrics()),
        ended=ended,
        reason=reason,
        trained_parameters=trained,
        final_accuracy=curve[-1][1] if curve else None,
        best_accuracy=max((accuracy for _, accuracy in curve), default=None),
        curve=curve,
    )


def save_final(result: Result, path: Path) -> None:
    """Write `result.json` into the run's directory."""
    write_atomic(path / FILE, (json.dumps(asdict(result), indent=1) + "\n").encode())


def load_final(path: Path) -> Result | None:
    """What `keep` wrote, if the run is done for good; a damaged file counts as none, and the run goes on."""
    try:
        result = _result(parse_object(read_file(path / FILE, MOST_BYTES), FILE))
    except (OSError, ValueError):
        return None
    return result if result.final else None


def write_all(results: Sequence[Result], path: Path) -> None:
    """`sweep.json`: a list with one object a run."""
    write_atomic(path, (json.dumps([asdict(result) for result in results], indent=1) + "\n").encode())


def read_all(text: bytes) -> list[Result]:
    """What `write_all` wrote. Raises ValueError if it is something else."""
    return [_result(fields) for fields in json.loads(text)]


def _result(fields: dict[str, Any]) -> Result:
    """Raises ValueError for fields of another kind."""
    try:
        return _KIND.validate_python(fields)
    except ValidationError as error:
        raise ValueError(f"it is no run's result: {error.errors()[0]['msg']}") from None


_KIND = TypeAdapter(Result)
