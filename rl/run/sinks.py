"""Where the numbers of a run go besides its own files. A sink that fails never stops a run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from rl.algorithm.evaluate import Evaluation
from rl.errors import one_line
from rl.types import Group

log = logging.getLogger(__name__)


Ended = Literal["finished", "stopped", "failed"]


class StoppedEarly(Exception):
    """Raised after a step by whoever hears of it and wants no more of the run: it has not failed."""


class Sink(Protocol):
    """Hears of evaluations and steps as they happen."""

    def on_eval(self, step: int, evaluation: Evaluation) -> None: ...

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None: ...

    def close(self, ended: Ended) -> None: ...


class Sinks:
    """Several sinks as one. The first failure of each is logged, and then that sink is left alone."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        self._each("on_eval", step, evaluation)

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        self._each("on_step", step, metrics, groups)

    def close(self, ended: Ended) -> None:
        self._each("close", ended)

    def _each(self, method: str, *arguments: Any) -> None:
        for sink in list(self._sinks):
            try:
                getattr(sink, method)(*arguments)
            except Exception as error:  # whatever a sink does, the run goes on
                _warn("%s failed and is left out from now on", type(sink).__name__, error)
                self._sinks.remove(sink)


def start_sinks(sinks: Mapping[str, Callable[[], Sink]]) -> list[Sink]:
    """Those that could be started; the failures of the others are logged."""
    found: list[Sink] = []
    for name, start in sinks.items():
        try:
            found.append(start())
        except Exception as error:  # as above
            _warn("%s could not be started and is left out", name, error)
    return found


def _warn(what: str, sink: str, error: Exception) -> None:
    """In one line, where the machine or its user is at fault."""
    if line := one_line(error):
        log.warning(f"{what}: %s", sink, line)
    else:
        log.warning(what, sink, exc_info=error)


class TensorBoard(Sink):
    """Every metric as a scalar of TensorBoard's, by step."""

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
