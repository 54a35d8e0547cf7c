"""Settings that do not go together, and what to set instead."""

from collections.abc import Iterator

from lora.config import LoraConfig, ModelConfig
from lora.messages import shortened
from rl.config.curriculum import CurriculumConfig
from rl.config.data import PromptConfig, Verifiers
from rl.config.episodes import EpisodesConfig
from rl.config.learner import LearnerConfig
from rollout.config import SERVED_RANKS, RolloutConfig, SamplingConfig

MOST_SHOWN = 100
"""Letters of a name in a message."""


def misfits_of_weights(learner: LearnerConfig, lora: LoraConfig, rollout: RolloutConfig) -> Iterator[str]:
    """Yield a line for each setting of the trained numbers that does not fit where the others are."""
    if lora.kind == "tiny" and learner.shard:
        yield (
            'learner.shard cuts the weights that lora.kind = "tiny" takes the singular vectors of: set learner.shard = '
            "false"
        )
    if learner.weights != "full":
        if rollout.engine == "vllm" and lora.rank > SERVED_RANKS[-1]:
            yield (
                f"vLLM serves adapters of rank {SERVED_RANKS[-1]} at most, and lora.rank is {lora.rank}: lower it, or "
                'set rollout.engine = "torch"'
            )
        return
    if lora.kind == "tiny":
        yield 'learner.weights = "full" trains every weight, and lora.kind = "tiny" a few numbers: leave one out'
    if rollout.engine == "vllm":
        yield (
            'learner.weights = "full" is sampled by the torch engine, because vLLM serves adapters; '
            'set rollout.engine = "torch"'
        )
    if lora.init is not None:
        yield (
            'lora.init names an adapter, and learner.weights = "full" trains none; merge it into a model with '
            "`rankone export --merge` and name that as model.name"
        )


def misfits_of_verifiers(
    episodes: EpisodesConfig, data: object, prompt: PromptConfig, *, among: str | None, has_sets: bool
) -> Iterator[str]:
    """Yield a line for each setting that episodes of verifiers do not go with: their tasks and messages are its own.

    `data` is a source of problems, and `among` its name if it is one of several; `has_sets` says that its episodes are
    those of `evaluate.sets`, too.
    """
    taskset = episodes.taskset
    if has_sets and taskset is not None:
        yield (
            "evaluate.sets are questions, which an environment of verifiers does not play: leave them out"
            f"{'' if among is None else ', or set its episodes under its source of [[data]] alone'}"
        )
    own = data.taskset if isinstance(data, Verifiers) else None
    if own != taskset:
        yield _own_tasks(shortened(taskset or own or "", MOST_SHOWN), among, plays=taskset is not None)
    if taskset is None:
        return
    if among is None and (prompt.system is not None or prompt.shots or prompt.suffix):
        yield (
            "prompt.system, prompt.shots and prompt.suffix are for questions, and an environment of verifiers brings "
            "its messages: leave them out"
        )
    if not prompt.chat_template:
        yield "an environment of verifiers plays a chat: set prompt.chat_template = true"


def _own_tasks(name: str, among: str | None, *, plays: bool) -> str:
    """Return what to set where an environment is not that of the tasks; `plays` if there is one of verifiers."""
    if among is None:
        return (
            "an environment of verifiers plays the tasks of its own taskset: set episodes.environment = "
            f'"verifiers:{name}", data.source = "verifiers" and data.taskset = "{name}"'
        )
    remedy = (
        f'give the source of that taskset [data.episodes] with environment = "verifiers:{name}", and each other source '
        "that [episodes] is not for an empty [data.episodes]"
        if plays
        else f'set its [data.episodes] to environment = "verifiers:{name}"'
    )
    return f"source {among!r} of [[data]]: an environment of verifiers plays the tasks of its own taskset: {remedy}"


def misfits_of_quantization(
    model: ModelConfig, learner: LearnerConfig, rollout: RolloutConfig, *, served: bool
) -> Iterator[str]:
    """Yield a line for each setting that a quantised base does not go with; `served` models are a server's."""
    if model.quantization is None:
        return
    if served:
        yield (
            "model.quantization is the server's to choose: set it in the file of `rankone serve`, and leave it out here"
        )
    if learner.weights == "full":
        yield 'learner.weights = "full" trains the weights that model.quantization freezes: leave one of them out'
    if learner.shard:
        yield (
            "learner.shard cuts weights, and model.quantization leaves codes: set learner.shard = false, with which "
            "each learner holds all of the quantised base, or leave model.quantization out"
        )
    if model.quantization == "nf4" and rollout.engine == "vllm":
        yield (
            'vLLM has no loader for model.quantization = "nf4": set it to "int8" or "fp8", or set '
            'rollout.engine = "torch"'
        )


def misfits_of_router_replay(
    learner: LearnerConfig, rollout: RolloutConfig, curriculum: CurriculumConfig, *, plays: bool, served: bool
) -> Iterator[str]:
    """Yield a line for each setting under which a mixture's experts would not be those of the sampler.

    `plays` says that completions have several turns, `served` that a server has learner and engines.
    """
    if not (learner.router_replay or rollout.return_routed_experts):
        return
    name = "learner.router_replay" if learner.router_replay else "rollout.return_routed_experts"
    if served:
        yield f"{name} has no place in requests to a server: leave it out with --server"
    if plays:
        yield (
            f"{name} is for completions of one turn, as each turn reads those before it anew: set it to false, or "
            "leave [episodes] out"
        )
    if learner.router_replay and curriculum.replay_problems:
        yield (
            "curriculum.replay_problems keeps successes without the experts that learner.router_replay needs: set "
            "replay_problems to 0, or router_replay to false"
        )


def misfits_of_objective(
    learner: LearnerConfig, sampling: SamplingConfig, curriculum: CurriculumConfig
) -> Iterator[str]:
    """Yield a line for each."""
    yield from _misfits_of_advantages(learner, sampling, curriculum)
    if learner.objective == "reinforce" and curriculum.replay_problems:
        yield (
            'learner.objective = "reinforce" is right on policy alone, and curriculum.replay_problems brings back what '
            'older policies sampled: set the objective to "importance", or replay_problems to 0'
        )
    if learner.objective_function is not None and learner.objective not in ("importance", "cross_entropy"):
        yield (
            f"learner.objective_function takes the place of learner.objective, which is {learner.objective}: leave one "
            'of them out (a preset sets the second; set it back to "importance")'
        )
    if not learner.kl_coef:
        if learner.kl_reference is not None:
            yield "learner.kl_reference is what a penalty compares with, and there is none: set learner.kl_coef"
        return
    if learner.kl_reference is not None and learner.weights == "full":
        yield (
            'learner.kl_reference is an adapter on the base model, which learner.weights = "full" changes: leave one '
            "of the two out"
        )
    if learner.kl_in == "loss" and learner.kl_estimator == "k1":
        yield (
            'learner.kl_estimator = "k1" has no gradient on average in the loss: set it to "k3" or "k2", or set '
            'learner.kl_in = "reward"'
        )
    if learner.kl_in == "loss" and learner.weights == "full":
        yield (
            'learner.weights = "full" keeps no base model beside the one that it trains: set learner.kl_in = "reward", '
            "or learner.kl_coef = 0"
        )
    if learner.kl_in == "reward" and not samples_the_model(sampling):
        yield (
            'learner.kl_in = "reward" compares what was sampled with the base model at temperature 1: set '
            'sampling.temperature and top_p to 1, top_k and min_p to 0, or learner.kl_in = "loss"'
        )


def samples_the_model(sampling: SamplingConfig) -> bool:
    """Return True if tokens are sampled at the model's own odds, so that their logprobs are those of a score."""
    return sampling.temperature == 1 and sampling.top_p == 1 and not sampling.top_k and not sampling.min_p


def _misfits_of_advantages(
    learner: LearnerConfig, sampling: SamplingConfig, curriculum: CurriculumConfig
) -> Iterator[str]:
    if learner.advantage == "none" and curriculum.refill_rounds:
        yield (
            'learner.advantage = "none" learns from groups whose rewards are all the same, too, so '
            "curriculum.refill_rounds has nothing to replace: set it to 0"
        )
    if learner.advantage == "maxrl" and (learner.overlong_buffer or (learner.kl_coef and learner.kl_in == "reward")):
        yield (
            'learner.advantage = "maxrl" divides by the mean reward, which penalties may make 0 or less: set '
            'learner.overlong_buffer = 0, and learner.kl_in = "loss"'
        )
    if learner.advantage == "pass_at_k" and learner.advantage_k > sampling.group_size:
        yield (
            f"learner.advantage_k = {learner.advantage_k} is above sampling.group_size = {sampling.group_size}: lower "
            "it, or raise group_size"
        )
