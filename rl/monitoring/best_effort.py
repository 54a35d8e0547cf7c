"""Work that is only for show, a picture or a line of progress: its failure ends no run, and hides no other error."""

import logging
from collections.abc import Generator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def best_effort(failure: str) -> Generator[None]:
    """Go on after the block whatever goes wrong in it, and log that: `failure`, and why."""
    try:
        yield
    except Exception as error:  # of files, of the network, of the library that draws: none is worth a run
        log.warning("%s: %s", failure, str(error) or type(error).__name__)
