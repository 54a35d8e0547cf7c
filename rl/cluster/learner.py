"""The learner of a run or of several, opened where it belongs: in actors on the cluster, or in this process."""

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from lora.config import LoraConfig
from rl.algorithm.objective.custom import read_objective
from rl.cluster.device import local_device
from rl.cluster.ray_host import RayHost
from rl.cluster.reservation import Reservation
from rl.config import RunConfig
from rl.learner.joint_updates import JointUpdates
from rl.learner.memory.plan import Budget
from rl.learner.policies.policy import PolicySpec
from rl.learner.policy_host import LearnerHost, LearnerSpec, LocalHost
from rl.run.frozen_adapters import read_frozen, read_teacher
from rl.types import Learner

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_learner(
    config: RunConfig, run: str, reservation: Reservation | None, budget: Budget
) -> AsyncGenerator[Learner]:
    """Open a learner of one policy, in actors or here."""
    async with open_learner_host(config, config.lora, reservation, budget) as host:
        yield await JointUpdates(host).register(policy_spec(config, run))


@asynccontextmanager
async def open_learner_host(
    config: RunConfig, lora: LoraConfig, reservation: Reservation | None, budget: Budget, *, mix_policies: bool = True
) -> AsyncGenerator[LearnerHost]:
    """Open what trains policies on one base model, none yet; `lora` is the largest of their adapters.

    Without `mix_policies` each gets the update that it would get alone to the last bit.
    """
    on_gpu = reservation is not None and reservation.request.shares.learner
    device = local_device(config) if reservation is None else "cuda" if on_gpu else "cpu"
    teacher = read_teacher(config)
    spec = LearnerSpec(config.model, device, config.learner, lora, budget, mix_policies, teacher)
    host: LearnerHost = LocalHost(spec) if reservation is None else await _in_actors(spec, reservation)
    try:
        yield host
    finally:
        await host.close()


async def _in_actors(spec: LearnerSpec, reservation: Reservation) -> RayHost:
    return await RayHost.start(spec, reservation.learner, reservation.wait_for_learners)


def policy_spec(config: RunConfig, run: str) -> PolicySpec:
    """Return how a run's policy is trained.

    Raises:
        ValueError: its own objective's file, or an adapter that it is compared with, cannot be read.
    """
    function = config.learner.objective_function
    objective = None if function is None else read_objective(function)
    temperature = config.sampling.temperature
    return PolicySpec(run, config.lora, config.learner, temperature, config.seed, objective, read_frozen(config))


def say_what_costs(config: RunConfig, facts: Mapping[str, int]) -> None:
    """Log what takes longer than it would otherwise: gradient checkpointing if "auto" has come to it, which is a third
    of the update's time, and bfloat16 on a processor without it."""
    if facts.get("emulates_bfloat16"):
        log.warning(
            "the learner's processor has no products in bfloat16, which take several times as long on it as others: "
            'set model.dtype = "float32"'
        )
    if config.learner.gradient_checkpointing == "auto" and facts["gradient_checkpointing"]:
        log.info(
            "gradient checkpointing is on: the longest row would not fit the learner's memory otherwise "
            "(`rankone plan` counts it; learner.gradient_checkpointing = false turns it off)"
        )


def memory_share(reservation: Reservation | None) -> float:
    """The learner's share of its device's memory, the rollout workers' engines taking theirs."""
    if reservation is None:
        return 0.5  # the engine of this process has a model of its own
    request, shares = reservation.request, reservation.request.shares
    if not 0 < shares.learner < 1:
        return 1.0
    left = 1 - request.workers * shares.memory_fraction
    models = sum(bundle.get("GPU", 0.0) for bundle in request.reward_models)
    return left * shares.learner / (shares.learner + models)
