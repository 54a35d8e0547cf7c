"""Several sinks as one: each hears of everything, and one that wants no more of the run is heard last."""

from collections.abc import Mapping, Sequence

import pytest

from rl.run.sinks import Ended, Sink, Sinks, StoppedEarly
from rl.types import Group


class Listening(Sink):
    """Keeps what it heard, and raises an error at each step if it has one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.heard: list[object] = []
        self._error = error

    def on_eval(self, step: int, evaluation: object) -> None:
        self.heard.append(("eval", step))

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        self.heard.append(step)
        if self._error is not None:
            raise self._error

    def close(self, ended: Ended) -> None:
        self.heard.append(ended)


def test_a_sink_ends_the_run_once_all_others_have_heard_of_the_step() -> None:
    first, stopping, last = Listening(), Listening(StoppedEarly()), Listening()
    sinks = Sinks([first, Sinks([stopping]), last])
    with pytest.raises(StoppedEarly):
        sinks.on_step(3, {}, [])
    sinks.close("stopped")
    for sink in (first, stopping, last):
        assert sink.heard == [3, "stopped"]


def test_a_sink_that_fails_is_left_out_and_ends_nothing() -> None:
    failing, other = Listening(OSError("the disk is full")), Listening()
    sinks = Sinks([failing, other])
    for step in range(2):
        sinks.on_step(step, {}, [])
    sinks.close("finished")
    assert (failing.heard, other.heard) == ([0], [0, 1, "finished"])
