"""Reinforcement learning, whole.

Draw problems, let the policy answer each of them several times, grade the answers, and make the better half of every
group more likely and the worse half less so. The policy is a value: an adapter of a few MB that is passed to every
sampling call, so there is no state to keep in step, and every completion knows which version wrote it. Rollouts may run
some steps ahead of the learner, and a step may learn from whichever groups are finished first; truncated importance
sampling then corrects for the policy having moved on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from lora.types import Adapter
from rewards.types import Grader, Problem
from rl.algorithm.advantage.distillation import teacher_log_ratios, teacher_metrics, with_teacher
from rl.algorithm.advantage.overlong import overlong_metrics
from rl.algorithm.advantage.step import kl_metrics, kl_penalties, step_advantages
from rl.algorithm.batch.minibatches import take_updates
from rl.algorithm.batch.packing import Advantage, build_batch
from rl.algorithm.evaluation.held_out import evaluate, evaluate_sets
from rl.algorithm.final import take_test
from rl.algorithm.guard.collapse import CollapseDetector
from rl.algorithm.guard.verdict import apply_guard
from rl.algorithm.journal import Journal
from rl.algorithm.liveness import NUM_SEQUENCES, PolicyChecker, Reference
from rl.algorithm.lr_schedule import lr_scale
from rl.algorithm.metrics import Stopwatch, group_metrics, source_metrics, throughput
from rl.algorithm.objective.regularizers import regularizes
from rl.algorithm.sampling.draws import Draws
from rl.algorithm.sampling.groups import Sampler, stream_groups
from rl.algorithm.sampling.in_flight import Capacity, GroupsInFlight
from rl.algorithm.sampling.prefetch import Rollout, RolloutPrefetcher, steps_ahead
from rl.algorithm.sampling.refill import group_comparisons, learned_groups, refill_metrics, sample_rounds
from rl.config import RunConfig
from rl.data import Split, sample_held_out
from rl.types import Group, Learner, TrainBatch
from rollout.types import Engine


@dataclass(frozen=True, slots=True)
class Components:
    """The parts that a run is made of. Each may live in this process or in an actor elsewhere: the loop cannot tell."""

    learner: Learner
    engine: Engine
    grader: Grader
    encode: Callable[[Problem], list[int]]
    policy_checker: PolicyChecker = field(default_factory=PolicyChecker)
    """Sees that the engine samples from the policy it was given."""
    disjoint_devices: bool = False
    """True if learner and engine have devices of their own, so that both can be busy at once."""
    sampler: Sampler | None = None
    """Plays episodes of several turns, where the run has them."""

    @property
    def answering(self) -> tuple[Engine, Grader, Callable[[Problem], list[int]], Sampler | None]:
        """Return the parts by which a policy's answers to problems are measured."""
        return self.engine, self.grader, self.encode, self.sampler


async def train(config: RunConfig, problems: Split, parts: Components, journal: Journal) -> Adapter:
    """Run `config.num_steps` steps, from wherever `journal` says they begin; returns the last policy.

    Raises:
        StalePolicyError: an engine samples from another policy than the one it was given.
        Collapse: the metrics say so, and `config.guard` says to stop.
    """
    first = await journal.restore(parts.learner)
    guard = CollapseDetector(config.guard)
    guard.replay(journal.history())
    adapter, previous, groups = await parts.learner.publish(), None, list[Group]()
    watch = Stopwatch()
    draws = Draws(config, problems.train, first, journal.unlearned(), journal.drawn())
    async with _rollouts(config, draws, parts, first, journal) as coming:
        for step in range(first, config.num_steps + 1):
            metrics = dict[str, float]()
            if step == first or step % config.liveness.every == 0:
                with watch.phase("liveness"):
                    metrics |= await _check(config, problems, parts, adapter, previous, groups)
            if step % config.evaluate.every == 0 or step == config.num_steps:
                with watch.phase("evaluate"):
                    evaluation = await evaluate(config, problems.held_out, adapter, *parts.answering)
                    sets = await evaluate_sets(config, problems.sets, adapter, *parts.answering)
                    metrics |= replace(evaluation, sets=sets).metrics()
                await journal.on_eval(step, adapter, evaluation, parts.learner)
            if step == config.num_steps:
                metrics |= await take_test(config, problems.test, adapter, journal, watch, *parts.answering)
                journal.on_step(step, metrics | watch.metrics(), [])
                break
            with watch.phase("wait"):
                rollout = draws.replayed(await coming.get(step, adapter))
            groups = rollout.groups
            parts.grader.check([group.rewards for group in groups], [group.problem for group in groups])
            scale = lr_scale(config.learner, step, config.num_steps) * guard.lr_scale
            metrics |= await learn(config, rollout, adapter, parts.learner, scale, watch, step)
            metrics |= draws.observe(rollout)
            metrics["rollout/workers"] = float(len(parts.engine.replicas()))
            verdict = await apply_guard(guard, step, metrics, parts.learner, journal)
            if verdict.rolled_back:
                await coming.cancel_all()
            if verdict.collapse is None:
                with watch.phase("publish"):
                    previous, adapter = adapter, await parts.learner.publish()
            journal.on_step(step, metrics | verdict.metrics | watch.metrics(), groups)
            if verdict.collapse is not None:
                raise verdict.collapse
            watch = Stopwatch()
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.num_steps:
                with watch.phase("checkpoint"):  # it shows in the next step's times, this step's being written already
                    drawn = draws.state(step + 1, coming.unlearned)
                    await journal.checkpoint(step + 1, adapter, parts.learner, coming.unlearned, drawn)
    return adapter


def _rollouts(
    config: RunConfig, draws: Draws, parts: Components, first: int, journal: Journal
) -> RolloutPrefetcher | GroupsInFlight:
    """Return what gives each step its groups: those that were drawn for it, or the first to be finished."""
    if config.steps_in_flight is None:
        if journal.unlearned():  # their numbers lie behind, and would never come again
            raise ValueError(
                "the checkpoint has problems in flight: set steps_in_flight (1 begins none ahead of steps)"
            )
        ahead = steps_ahead(config, disjoint_devices=parts.disjoint_devices)
        return RolloutPrefetcher(partial(roll_out, config, draws, parts), ahead, config.num_steps)
    begin = partial(_roll_out_groups, config, draws, parts)
    return GroupsInFlight(begin, Capacity.of(config), first, config.num_steps, journal.unlearned())


async def roll_out(config: RunConfig, draws: Draws, parts: Components, step: int, adapter: Adapter) -> Rollout:
    """The graded groups of one step: a pure function of the policy, the step and the seed."""

    async def begin(numbers: Sequence[int]) -> Rollout:
        groups: dict[int, Group] = {}
        seconds = await _roll_out_groups(config, draws, parts, numbers, adapter, groups.__setitem__)
        return Rollout([groups[number] for number in numbers], seconds)

    return await sample_rounds(config, step, begin)


async def _roll_out_groups(
    config: RunConfig, draws: Draws, parts: Components, numbers: Sequence[int], adapter: Adapter,
    on_group: Callable[[int, Group], object],
) -> dict[str, float]:  # fmt: skip
    """Sample and grade the groups of these numbers; `on_group` gets each when it is finished. Seconds by phase."""
    questions = draws.questions(numbers, parts.encode)
    return await stream_groups(questions, adapter, config.sampling, parts.engine, parts.grader, on_group, parts.sampler)


async def learn(
    config: RunConfig,
    rollout: Rollout,
    adapter: Adapter,
    learner: Learner,
    scale: float,
    watch: Stopwatch,
    step: int = 0,
) -> dict[str, float]:
    """Update the policy `adapter`, once or in minibatches, at `scale` times the learning rate; the step's metrics."""
    drawn, groups = rollout.groups, learned_groups(rollout.replayed or rollout.groups, config)
    kl_P_G = await kl_penalties(groups, config, learner, watch)
    ratios_P_G = await teacher_log_ratios(groups, config, learner, watch)
    advantages_P_G = step_advantages(groups, config, kl_P_G)
    if ratios_P_G is not None:
        advantages_P_G = with_teacher(groups, advantages_P_G, ratios_P_G, config)
    advised = zip(groups, advantages_P_G, strict=True)
    with watch.phase("update"):
        batches = [_batch(config, *each) for each in advised]
        metrics = await take_updates(batches, config, learner, scale, step)
    watch.seconds |= rollout.seconds
    comparisons = [group_comparisons(group, config) for group in drawn]
    metrics |= group_metrics(drawn, comparisons, adapter.version) | source_metrics(drawn, comparisons)
    metrics |= overlong_metrics(drawn, config) | refill_metrics(drawn, config) | kl_metrics(kl_P_G)
    metrics |= teacher_metrics(groups, ratios_P_G)
    sampled_tokens = sum(completion.num_sampled for group in drawn for completion in group.completions)
    sampling = {} if rollout.sampling_s is None else {"sample": rollout.sampling_s}
    return metrics | throughput(sampled_tokens, metrics.get("update/tokens", 0.0), watch.seconds | sampling)


def _batch(config: RunConfig, group: Group, advantages: Sequence[Advantage]) -> TrainBatch:
    return build_batch(
        [group], [advantages], config.learner.tokens_per_row, most_tokens=config.most_sampled,
        truncated=config.learner.truncated, keep_all=regularizes(config.learner), routed=config.learner.router_replay,
    )  # fmt: skip


async def _check(
    config: RunConfig,
    problems: Split,
    parts: Components,
    adapter: Adapter,
    previous: Adapter | None,
    groups: Sequence[Group],
) -> dict[str, float]:
    """Check on what the policies wrote last, where they differ most; before that, on a few held-out prompts."""
    written = [[*group.prompt, *group.completions[0].token_ids] for group in groups]
    asked = sample_held_out(problems.held_out, NUM_SEQUENCES, config.seed)
    sequences = written or [parts.encode(problem) for problem in asked]
    cut = (sequence[: config.model.max_length - 1] for sequence in sequences)
    fitting = [sequence for sequence in cut if len(sequence) > 1]  # a first token has no logprob
    if not fitting:
        return {}
    reference = await Reference.measure(parts.learner, adapter, previous, fitting)
    return await parts.policy_checker.check(reference, parts.engine)
