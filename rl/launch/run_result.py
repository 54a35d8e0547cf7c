"""A run's outcome, to look at from Python."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl.config import RunConfig
from rl.launch.recipes import RECIPES
from rl.monitoring.figure_file import Plot
from rl.run.best_metric import BEST
from rl.run.directory import RunDirectory
from rl.run.kind import Kind


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that has ended, and its files."""

    kind: Kind
    path: Path
    """Its directory."""
    config: RunConfig
    """Resolved, as it was run."""
    summary: str
    """Its outcome, in words."""

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One object a step, in order."""
        return RunDirectory(self.path).metrics()

    @property
    def curve(self) -> list[tuple[int, float]]:
        """Held-out accuracy by step; of a supervised run, held-out log-loss in nats a token."""
        return RunDirectory(self.path).curve(BEST[self.kind].name)

    @property
    def best_adapter(self) -> Path:
        """PEFT directory of the best policy."""
        return RunDirectory(self.path).adapters / "best"

    @property
    def last_adapter(self) -> Path:
        """PEFT directory of the last policy."""
        return RunDirectory(self.path).adapters / "last"

    def plot(self) -> Plot:
        """Draw the curve. A notebook shows it; `.save(file)` writes it as a PNG."""
        return Plot(RECIPES[self.kind].figure(self.metrics, self.config.name))
