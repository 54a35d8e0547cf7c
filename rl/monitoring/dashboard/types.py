"""The values that the page has of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["running", "finished", "stopped", "failed", "silent"]
"""`silent`: a run that neither ended nor sent anything for a minute, so that its driver is gone or cut off."""

Row = dict[str, Any]
"""A step's metrics, or a graded completion, as in the run directory's files."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The facts that stay the same all through a run."""

    name: str
    run_path: str
    """The node and directory it writes to: a run that is resumed there is the same run."""
    num_steps: int
    settings: Mapping[str, Any]
    """Settings that tell runs apart in a legend: rank, learning rate, seed, model, reward, ..."""
    submission_id: str = ""
    """Id of the Ray job, if it is one."""
    kind: str = ""
    """The command that it was begun with; empty of a run from before that was told."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """The events of a run since its last update.

    Rows are numbered from 0 as they came, so that an update that is sent twice does no harm. `first_row` is the number
    of the first one here; rows from there on that were stored before are replaced, as after a resume.
    """

    first_row: int
    rows: Sequence[Row] = ()
    samples: Sequence[Row] = ()
    """The most recent completions, in full: they replace those before."""
    state: State = "running"
    adapter: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the best PEFT adapter, if it is new."""
