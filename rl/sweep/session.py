"""A sweep from its checked settings to its conclusions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rl.launch.recipe import Prepared
from rl.run.directory_lock import sweep_locked
from rl.sweep.directory import open_directory
from rl.sweep.findings import write_findings
from rl.sweep.points import Sweep
from rl.sweep.results import Result
from rl.sweep.run import run_sweep


@dataclass(frozen=True, slots=True)
class SweepResult:
    """A sweep that has ended, and its files."""

    path: Path
    """Its directory."""
    results: list[Result]
    """The outcome of each run, in the sweep's order."""
    conclusions: list[str]
    """In words, a line each."""
    files: list[Path]
    """`sweep.json` and the pictures."""

    @property
    def best(self) -> Result | None:
        """The run that ended best; None if none was evaluated."""
        evaluated = [result for result in self.results if result.score is not None]
        return max(evaluated, key=lambda result: result.score or 0.0, default=None)

    @property
    def best_adapter(self) -> Path | None:
        """PEFT directory of that run's best policy."""
        return None if self.best is None else self.path / self.best.directory / "adapters" / "best"


def run_whole_sweep(
    sweep: Sweep, prepared: Sequence[Prepared], path: Path, console: Console, *, resume: bool
) -> SweepResult:
    """Lock the directory, train what is not trained yet, and write down what it showed.

    Raises:
        ValueError: the directory is in use or another sweep's, or anything else that the user can put right.
    """
    with sweep_locked(path):
        for change in open_directory(sweep, prepared, path, resume=resume):
            console.print(change, markup=False, highlight=False, soft_wrap=True)
        results = run_sweep(sweep, prepared, path, console)
        conclusions, files = write_findings(results, sweep.name, path)
    return SweepResult(path, results, conclusions, files)
