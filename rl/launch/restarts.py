"""A run that goes on though its learner dies."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from rl.launch.recipe import HasLearner, Prepared, Recipe
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.sinks import Sinks
from rl.types import Learner, LearnerDied
from rollout.pool.engine_pool import BACK_OFF

log = logging.getLogger(__name__)


async def loop_with_restarts(
    recipe: Recipe[Any, Any],
    prepared: Prepared,
    parts: HasLearner,
    directory: RunDirectory,
    sinks: Sinks,
    *,
    resume: bool,
) -> None:
    """Run the recipe's loop to its end, with a learner that may die."""
    begin = prepared.initial_state(directory.path.name)

    async def attempt(resume: bool) -> None:
        journal = FileJournal(directory, sinks, resume=resume, begin=begin, best=recipe.best)
        await recipe.loop(prepared, parts, journal)

    await with_restarts(parts.learner, directory, attempt, prepared.config.learner.max_restarts, resume=resume)


async def with_restarts(
    learner: Learner,
    directory: RunDirectory,
    attempt: Callable[[bool], Awaitable[None]],
    max_restarts: int,
    *,
    resume: bool,
) -> None:
    """Start a learner that dies again, and go on from the newest checkpoint, as a resumed run does.

    Raises:
        LearnerDied: it died more than `max_restarts` times in a row without a step done in between.
    """
    failures, reached, alive = 0, -1, True
    while True:
        try:
            if not alive:
                await learner.restart()
            alive = True
            await attempt(resume)
            return
        except LearnerDied as died:
            done = len(directory.metrics())
            failures, reached = (failures + 1, reached) if done <= reached else (1, done)
            if failures > max_restarts:
                raise
            log.warning("%s; starting it again", died)
            await asyncio.sleep(BACK_OFF[min(failures, len(BACK_OFF)) - 1])
            alive, resume = False, True
