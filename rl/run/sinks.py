"""Sinks: they receive the numbers of a run besides its own files. A sink that fails never stops a run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from rl.algorithm.evaluation.held_out import Evaluation
from rl.errors import one_line
from rl.types import Group

log = logging.getLogger(__name__)

Ended = Literal["finished", "stopped", "failed"]


class StoppedEarly(Exception):
    """Raised by a sink that wants no more of the run: it ends after the step, and has not failed."""


class Sink(Protocol):
    """Hears of evaluations and steps as they happen."""

    def on_eval(self, step: int, evaluation: Evaluation) -> None: ...

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None: ...

    def close(self, ended: Ended) -> None: ...


class Sinks(Sink):
    """Several sinks as one. The first failure of each is logged, and then that sink is left alone."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        self._tell_all(lambda sink: sink.on_eval(step, evaluation))

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        """Raises StoppedEarly, once all have heard of the step, if one of them wants no more of the run."""
        self._tell_all(lambda sink: sink.on_step(step, metrics, groups))

    def close(self, ended: Ended) -> None:
        self._tell_all(lambda sink: sink.close(ended))

    def _tell_all(self, tell: Callable[[Sink], None]) -> None:
        stop: StoppedEarly | None = None
        for sink in list(self._sinks):
            try:
                tell(sink)
            except StoppedEarly as wish:
                stop = wish
            except Exception as error:  # whatever a sink does, the run goes on
                _warn("%s failed and is left out from now on", type(sink).__name__, error)
                self._sinks.remove(sink)
        if stop is not None:
            raise stop


def start_sinks(sinks: Mapping[str, Callable[[], Sink]]) -> list[Sink]:
    """Return those that could be started; the failures of the others are logged."""
    started: list[Sink] = []
    for name, start in sinks.items():
        try:
            started.append(start())
        except Exception as error:  # as above
            _warn("%s could not be started and is left out", name, error)
    return started


def _warn(what: str, sink: str, error: Exception) -> None:
    """Log a failure, in one line where the machine or its user is at fault."""
    if line := one_line(error):
        log.warning(f"{what}: %s", sink, line)
    else:
        log.warning(what, sink, exc_info=error)
