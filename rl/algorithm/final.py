"""The test at a run's end, by problems that nothing was chosen by."""

from collections.abc import Callable, Sequence

from lora.types import Adapter
from rewards.types import Grader, Problem
from rl.algorithm.evaluation.held_out import evaluate_test
from rl.algorithm.journal import Journal
from rl.algorithm.metrics import Stopwatch
from rl.algorithm.sampling.groups import Sampler
from rl.config import RunConfig
from rollout.types import Engine


async def take_test(
    config: RunConfig,
    problems: Sequence[Problem],
    last: Adapter,
    journal: Journal,
    watch: Stopwatch,
    engine: Engine,
    grader: Grader,
    encode: Callable[[Problem], list[int]],
    sampler: Sampler | None = None,
) -> dict[str, float]:
    """Let the best policy, or the last where none was kept, answer the problems of the test; the `test/...` metrics.

    There are none without problems.
    """
    if not problems:
        return {}
    policy = journal.best() or last
    with watch.phase("test"):
        evaluation = await evaluate_test(config, problems, policy, engine, grader, encode, sampler)
    journal.on_test(config.num_steps, evaluation)
    return {name.replace("eval/", "test/", 1): value for name, value in evaluation.metrics().items()}
