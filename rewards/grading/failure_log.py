"""A log of what reward functions did wrong, in which each kind of failure stands once."""

import logging

from rewards.grading.messages import Graded

NONE_SEEN = "none seen"
_log = logging.getLogger("rewards")


class FailureLog:
    """Logs each kind of failure once. Safe to use from any thread."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self.last = NONE_SEEN
        """The last traceback of a new kind."""

    def report(self, graded: Graded) -> None:
        """Log the failure of an item if it is the first of its kind."""
        if graded.failure is None or graded.failure[0] in self._kinds:
            return
        kind, self.last = graded.failure
        self._kinds.add(kind)
        _log.warning("reward function failed (%s); further failures of this kind are only counted\n%s", kind, self.last)
