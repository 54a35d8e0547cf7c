"""Calls in the order of their policies: those of a run's older policy are done first."""

from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from lora.types import Adapter


class _Sampling(Protocol):
    @property
    def adapter(self) -> Adapter: ...


Call = TypeVar("Call", bound=_Sampling)


class OldestPolicyQueue(Generic[Call]):
    """Holds back calls of a newer policy while those of an older one of the same run are under way.

    Where rollouts run ahead of the learner, two steps of a run can be sampled at once.
    On a CPU a sequence costs its computing however many there are, so that both would end late and together, and the
    engine would have nothing to do while the learner works on the older one, whose update the next rollouts need. One
    after the other, the newer is sampled during that update. (On a GPU a fuller batch costs little.) Calls of other
    runs, and of one policy, go together.
    """

    def __init__(self) -> None:
        self._waiting: deque[Call] = deque()

    def push(self, call: Call) -> None:
        self._waiting.append(call)

    def pop_ready(self, under_way: Iterable[Call]) -> list[Call]:
        """Return the calls whose turn it is while those are under way, in the order they came."""
        if not self._waiting:
            return []
        oldest: dict[str, int] = {}
        for call in under_way:
            oldest[call.adapter.run] = min(call.adapter.version, oldest.get(call.adapter.run, call.adapter.version))
        taken: list[Call] = []
        for _ in range(len(self._waiting)):
            call = self._waiting.popleft()
            if call.adapter.version <= oldest.setdefault(call.adapter.run, call.adapter.version):
                taken.append(call)
            else:
                self._waiting.append(call)
        return taken

    def clear(self) -> list[Call]:
        """Remove and return every call that still waits."""
        dropped, self._waiting = list(self._waiting), deque()
        return dropped
