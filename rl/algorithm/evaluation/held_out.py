"""Accuracy on held-out problems, of any policy version."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from statistics import fmean

from lora.types import Adapter
from rewards.types import Grader, Outcome, Problem
from rl.algorithm.evaluation.estimate import Estimate
from rl.algorithm.sampling.groups import Question, Sampler, sample_groups
from rl.algorithm.sampling.seeds import evaluation_seeds
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
    pass_at: Mapping[int, Estimate] = field(default_factory=dict[int, Estimate])
    """By k, the chance that one of k completions is right, for the k of `evaluate.pass_at`."""
    sets: Mapping[str, "Evaluation"] = field(default_factory=dict[str, "Evaluation"])
    """Results on `evaluate.sets`, by their names."""

    @property
    def average(self) -> Estimate:
        """The accuracy with its interval: avg@k, which is pass@1."""
        return Estimate.of(_pass_at(self.groups, 1))

    def estimates(self) -> dict[str, Estimate]:
        """Return what papers report by their names for it: avg@k, k being the samples per problem, and each pass@k.

        Those of each of several sources, and of each set, have its name before them.
        """
        named = {
            f"{part} {name}": value
            for part, each in {**self.by_source(), **self.sets}.items()
            for name, value in each._estimates().items()
        }
        return self._estimates() | named

    def _estimates(self) -> dict[str, Estimate]:
        samples = max(len(group.rewards) for group in self.groups)
        return {f"avg@{samples}": self.average, **{f"pass@{k}": estimate for k, estimate in self.pass_at.items()}}

    def by_source(self) -> dict[str, "Evaluation"]:
        """Return the same for the problems of each source alone; none where a run has one source."""
        sources = dict.fromkeys(group.problem.source for group in self.groups)
        return {
            source: summarise([group for group in self.groups if group.problem.source == source], [*self.pass_at])
            for source in sources
            if source
        }

    @property
    def all_groups(self) -> list[Group]:
        """The groups of the held-out problems, and after them those of the sets."""
        return [*self.groups, *(group for each in self.sets.values() for group in each.groups)]

    def metrics(self) -> dict[str, float]:
        """Return `eval/...`, and `eval/<name>/...` for each of several sources and of the sets."""
        parts = {**self.by_source(), **self.sets}
        return self._figures() | named_metrics({name: each._figures() for name, each in parts.items()})

    def _figures(self) -> dict[str, float]:
        average = self.average
        return {
            "eval/accuracy": self.accuracy,
            "eval/accuracy_low": average.low,
            "eval/accuracy_high": average.high,
            "eval/pass_at_k": self.pass_at_k,
            **{f"eval/pass_at/{k}": estimate.value for k, estimate in self.pass_at.items()},
            "eval/reward": self.reward,
        }


def named_metrics(by_name: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return `eval/<name>/...` for `eval/...` of each."""
    return {
        f"eval/{name}/{key.removeprefix('eval/')}": value
        for name, metrics in by_name.items()
        for key, value in metrics.items()
    }


async def evaluate(
    config: RunConfig,
    problems: Sequence[Problem],
    adapter: Adapter,
    engine: Engine,
    grader: Grader,
    encode: Callable[[Problem], list[int]],
    sampler: Sampler | None = None,
) -> Evaluation:
    """Sample and grade `config.evaluate.num_problems` of the problems, with the engine or as `sampler` does.

    They are the same ones, sampled from the same seeds, every time, so that versions compare.
    """
    problems = sample_held_out(problems, config.evaluate.num_problems, config.seed)
    seeds = evaluation_seeds(config, len(problems))
    return await _answered(config, problems, seeds, adapter, engine, grader, encode, sampler)


async def evaluate_test(
    config: RunConfig,
    problems: Sequence[Problem],
    adapter: Adapter,
    engine: Engine,
    grader: Grader,
    encode: Callable[[Problem], list[int]],
    sampler: Sampler | None = None,
) -> Evaluation:
    """Sample and grade all of the problems of a test, from seeds that no evaluation has."""
    seeds = evaluation_seeds(config, len(problems), first=config.evaluate.num_problems)
    return await _answered(config, problems, seeds, adapter, engine, grader, encode, sampler)


async def evaluate_sets(
    config: RunConfig,
    sets: Sequence[tuple[str, Sequence[Problem]]],
    adapter: Adapter,
    engine: Engine,
    grader: Grader,
    encode: Callable[[Problem], list[int]],
    sampler: Sampler | None = None,
) -> dict[str, Evaluation]:
    """Sample and grade `num_problems` of each of `evaluate.sets`, each from seeds of its own."""
    evaluations: dict[str, Evaluation] = {}
    most = config.evaluate.num_problems
    for index, (name, problems) in enumerate(sets):
        chosen = sample_held_out(problems, most, config.seed)
        seeds = evaluation_seeds(config, len(chosen), first=most * (1 + index) + config.evaluate.num_test)
        evaluations[name] = await _answered(config, chosen, seeds, adapter, engine, grader, encode, sampler)
    return evaluations


async def _answered(
    config: RunConfig,
    problems: Sequence[Problem],
    seeds: Sequence[int],
    adapter: Adapter,
    engine: Engine,
    grader: Grader,
    encode: Callable[[Problem], list[int]],
    sampler: Sampler | None,
) -> Evaluation:
    evaluation = config.evaluate
    prompts = [encode(problem) for problem in problems]
    sampling = replaced(
        config.sampling,
        group_size=evaluation.samples_per_problem,
        max_tokens=evaluation.max_tokens or config.sampling.max_tokens,
        **evaluation.model_dump(include={"temperature", "top_p", "top_k", "min_p"}),
    )
    questions = [Question(*asked) for asked in zip(range(len(problems)), problems, prompts, seeds, strict=True)]
    groups, _ = await sample_groups(questions, adapter, sampling, engine, grader, sampler)
    grader.check([group.rewards for group in groups], [group.problem for group in groups])
    return summarise(groups, evaluation.pass_at)


def summarise(groups: list[Group], pass_at: Sequence[int] = ()) -> Evaluation:
    """Return the figures of graded groups, those of pass@k for each k that is asked for."""
    assert groups
    right_P = [_num_right(group) for group in groups]
    sizes_P = [len(group.rewards) for group in groups]
    return Evaluation(
        accuracy=sum(right_P) / sum(sizes_P),
        pass_at_k=fmean(pass_at_k(n, c, n) for n, c in zip(sizes_P, right_P, strict=True)),
        reward=fmean(reward.value for group in groups for reward in group.rewards),
        groups=groups,
        pass_at={k: Estimate.of(_pass_at(groups, k)) for k in pass_at},
    )


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return the unbiased chance that one of k of the samples is right (Chen et al. 2021, eq. 1)."""
    return 1 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def _pass_at(groups: Sequence[Group], k: int) -> list[float]:
    """Return each problem's pass@k."""
    return [pass_at_k(len(group.rewards), _num_right(group), k) for group in groups]


def _num_right(group: Group) -> int:
    return sum(reward.outcome is Outcome.CORRECT for reward in group.rewards)
