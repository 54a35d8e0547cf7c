"""A kind of run, with what it has to say of itself; everything else about running it is in `rl.launch.session`."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console
from torch import Tensor

from rewards.types import Problem
from rl.cluster.components import RunParts
from rl.config import RunConfig
from rl.data import Split
from rl.data.prompts import Encoder
from rl.learner.policies.state import first_state
from rl.run.best_metric import BestMetric
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.kind import Kind
from rl.run.sinks import Sink
from rl.types import Learner


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run before any model is loaded."""

    config: RunConfig
    problems: Split
    encode: Encoder
    """Makes the prompts that the policy answers."""
    initial_adapter: Mapping[str, Tensor] | None
    """The adapter that the run begins from, if it is not a fresh one."""

    @property
    def longest_row(self) -> int:
        """Inputs of the longest row that a step may train on."""
        raise NotImplementedError

    def initial_state(self, run: str) -> bytes | None:
        """Return the learner's state at step 0, if it is not that of a fresh adapter."""
        return None if self.initial_adapter is None else first_state(run, self.initial_adapter)


class HasLearner(Protocol):
    """The parts that a run is made of, a learner at least."""

    @property
    def learner(self) -> Learner: ...


@dataclass(frozen=True, slots=True)
class RewardTrial:
    """On what a reward of the user's own is tried before a run."""

    problems: Sequence[Problem]
    teaches: bool
    """True if the policy learns from it, so that a constant one is a mistake."""


P = TypeVar("P", bound=Prepared)
C = TypeVar("C", bound=HasLearner)


class Recipe(Protocol[P, C]):
    """A kind of run: what is special about it."""

    kind: Kind
    best: BestMetric
    """By which its best policy is chosen."""
    progress: tuple[str, str]
    """The metric of each step that shows how it goes, and what to call it."""

    def run_name(self, config: RunConfig) -> str:
        """Return what begins the names of its directories."""
        ...

    def resolve(self, config: RunConfig, base: Path) -> RunConfig:
        """Return the configuration with everything said that a default or a relative path leaves open.

        Raises:
            ValueError: it is another kind's, or names what is not there.
        """
        ...

    def prepare(self, config: RunConfig, base: Path) -> P:
        """Load data and tokenizer, and check them; relative paths start at `base`.

        Raises:
            ValueError: anything in the configuration or the data that would stop the run later.
        """
        ...

    def reward_trial(self, prepared: P) -> RewardTrial | None:
        """Return how to try its reward; None if it grades nothing."""
        ...

    def learner_config(self, config: RunConfig) -> RunConfig:
        """Return the configuration that its learner has."""
        ...

    def needs_engine(self, config: RunConfig) -> bool:
        """Return True if its policy answers problems."""
        ...

    def open(self, prepared: P, run: str, shared: RunParts) -> AbstractAsyncContextManager[C]:
        """Open a run's part of what one run or several are made of; `run` names its policy."""
        ...

    async def loop(self, prepared: P, parts: C, journal: FileJournal) -> None:
        """Run all steps, from wherever the journal says they begin."""
        ...

    def advice(self, config: RunConfig, model_parameters: int) -> list[str]:
        """Return what to warn of before the first step."""
        ...

    def display(self, console: Console, config: RunConfig, directory: RunDirectory) -> Sink:
        """Start to show the run to the person in front of it."""
        ...

    def figure(self, metrics: Sequence[Mapping[str, Any]], title: str) -> Any:
        """Return the run's curve as a figure of matplotlib's."""
        ...

    def summary(self, config: RunConfig, directory: RunDirectory) -> str:
        """Return what the run has come to, in words."""
        ...
