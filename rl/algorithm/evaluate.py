"""Accuracy on held-out problems, of any policy version."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import fmean

from lora.types import Adapter
from rewards.types import Grader, Outcome, Problem
from rl.algorithm.groups import Question, sample_groups
from rl.algorithm.seeds import evaluation_seeds
from rl.config import RunConfig, replaced
from rl.data import sample_held_out
from rl.types import Group
from rollout.types import Engine


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One policy's results on the held-out problems."""

    accuracy: float
    """Fraction of completions with outcome `correct`."""
    pass_at_k: float
    """Chance that one of k completions is right, k being the samples per problem."""
    reward: float
    groups: list[Group]

    def metrics(self) -> dict[str, float]:
        return {"eval/accuracy": self.accuracy, "eval/pass_at_k": self.pass_at_k, "eval/reward": self.reward}


async def evaluate(
    config: RunConfig,
    problems: Sequence[Problem],
    adapter: Adapter,
    engine: Engine,
    grader: Grader,
    encode: Callable[[Problem], list[int]],
) -> Evaluation:
    """Sample and grade `config.evaluate.num_problems` of the problems.

    They are the same ones, sampled from the same seeds, every time, so that versions compare.
    """
    evaluation = config.evaluate
    problems = sample_held_out(problems, evaluation.num_problems, config.seed)
    prompts = [encode(problem) for problem in problems]
    sampling = replaced(
        config.sampling,
        group_size=evaluation.samples_per_problem,
        **evaluation.model_dump(include={"temperature", "top_p", "top_k", "min_p"}),
    )
    seeds = evaluation_seeds(config, len(prompts))
    questions = [Question(*asked) for asked in zip(range(len(problems)), problems, prompts, seeds, strict=True)]
    groups, _ = await sample_groups(questions, adapter, sampling, engine, grader)
    grader.check([group.rewards for group in groups])
    return summarise(groups)


def summarise(groups: list[Group]) -> Evaluation:
    """Return the figures of graded groups."""
    assert groups
    right_P = [sum(reward.outcome is Outcome.CORRECT for reward in group.rewards) for group in groups]
    sizes_P = [len(group.rewards) for group in groups]
    return Evaluation(
        accuracy=sum(right_P) / sum(sizes_P),
        pass_at_k=fmean(pass_at_k(n, c, n) for n, c in zip(sizes_P, right_P, strict=True)),
        reward=fmean(reward.value for group in groups for reward in group.rewards),
        groups=groups,
    )


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return the unbiased chance that one of k of the samples is right (Chen et al. 2021, eq. 1)."""
    return 1 - comb(num_samples - num_correct, k) / comb(num_samples, k)
