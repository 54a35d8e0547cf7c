"""A run's part of its cluster: a placement group, with a bundle for the learner and one for each rollout worker."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rewards.config import RewardTerm
from rl.cluster.division import divide_gpus
from rl.cluster.placement import PlacementError, Request, Resources, in_words, may_use_gpu, refuse, request
from rl.cluster.watchdog import Endpoint, cancel_when_gone
from rl.config import RunConfig
from rollout.ray import private as ray_private
from rollout.ray.placement import ActorPlacement

log = logging.getLogger(__name__)


GONE_S, BACK_S = 4.0, 45.0
"""How long what does not come back may be silent, and a head that may be set up to. Ray's patience is a minute."""
RETURN_S = 5.0
"""How long GPUs may take to come back from a run that has ended."""
REMIND_S = 60.0
"""How often a run that waits for a cluster says so."""
MOVE_S = 3.0
"""How long Ray may take to move what has lost its node, where there is room."""
LOOK_S = 1.0
"""How often what lost its node looks for another."""
OWN_OPTIONS = {"CPU": "num_cpus", "memory": "memory"}
"""Resources that Ray takes under a name of their own."""
_STATIC = "node_"
"""How that report names the type of a node that the autoscaler did not make: `node_<its id>`."""


class _Shrunk(PlacementError):
    """The cluster can no longer hold what was asked of it."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A run's part of the cluster. A node that is lost takes its bundles along; Ray finds other places for them."""

    request: Request
    _group: Any
    config: RunConfig = field(default_factory=RunConfig)
    """The run's, with as many learners and workers as this cluster's GPUs are divided among."""

    def learner(self, rank: int = 0) -> ActorPlacement:
        """A learner's place: all cores of its node, because it and the workers take turns."""
        assert self.request.learner is not None
        return self._place(rank, self.request.learner, self.request.shares.learner)

    def worker(self, index: int) -> ActorPlacement:
        """A worker's place: its share of its node's cores."""
        return self._place(index + self._learners, self.request.worker, self.request.shares.worker)

    def reward_model(self, index: int) -> ActorPlacement:
        """Return the place of the reward model of that number in the request."""
        bundle = self.request.reward_models[index]
        return self._place(index + self._learners + self.request.workers, bundle, bundle.get("GPU", 0.0))

    async def wait_for_learners(self) -> None:
        """Wait until all learners' places are on nodes that are there; say so while one is not."""
        for rank in range(self._learners):
            await self._placed(rank, "the learner")

    async def wait_for_worker(self, index: int) -> None:
        """Wait until a worker's place is on a node that is there; say so while it is not."""
        await self._placed(index + self._learners, f"rollout worker {index}")

    async def wait_for_reward_model(self, index: int) -> None:
        """Wait until a reward model's place is on a node that is there; say so while it is not."""
        await self._placed(index + self._learners + self.request.workers, "the reward model")

    async def _placed(self, bundle: int, who: str) -> None:
        """A node takes its bundles along, and Ray moves them to another that has as much to spare, if there is one."""
        said = time.monotonic() - REMIND_S + MOVE_S
        while not await asyncio.to_thread(self._has_node, bundle):
            if time.monotonic() >= said + REMIND_S:
                log.warning("%s waits for another place: %s", who, _missing(self.request.bundles()[bundle]))
                said = time.monotonic()
            await asyncio.sleep(LOOK_S)

    def _has_node(self, bundle: int) -> bool:
        homes = cast(Any, placement_group_table(self._group))["bundles_to_node_id"]
        return homes.get(bundle) in {node["NodeID"] for node in _alive()}

    @property
    def _learners(self) -> int:
        return 0 if self.request.learner is None else self.request.learners

    def _place(self, bundle: int, resources: Resources, gpus: float) -> ActorPlacement:
        strategy = PlacementGroupSchedulingStrategy(self._group, bundle, placement_group_capture_child_tasks=False)
        more = {name: amount for name, amount in resources.items() if name not in ("GPU", *OWN_OPTIONS)}
        own = {option: resources[name] for name, option in OWN_OPTIONS.items() if name in resources}
        return ActorPlacement(self._threads(bundle), gpus, {"scheduling_strategy": strategy, "resources": more, **own})

    def _threads(self, bundle: int) -> int:
        """Cores of the bundle's node, shared with the others of its kind there."""
        cores = {node["NodeID"]: int(node["Resources"].get("CPU", 1)) for node in _alive()}
        homes: dict[int, str] = cast(Any, placement_group_table(self._group))["bundles_to_node_id"]
        home = homes.get(bundle)
        learns = bundle < self._learners
        beside = sum(1 for other, node in homes.items() if (other < self._learners) == learns and node == home)
        return max(1, cores.get(home or "", min(cores.values(), default=1)) // max(1, beside))


def _missing(bundle: Resources) -> str:
    """Say what a bundle needs that no node has to spare, and what its user can do."""
    return (
        f"its node is gone, and no other has {in_words(bundle)} to spare; add a node (rankone up --join), or end the "
        "run and go on with --resume, which divides what is left anew"
    )


@asynccontextmanager
async def reserve(
    config: RunConfig, *, learner: bool, workers: bool = True, reward_models: Sequence[RewardTerm] = ()
) -> AsyncGenerator[Reservation]:
    """Hold what the run needs until the block ends; waits, and says so, while others use it or nodes are on their way.

    A run may do without learners, or without rollout workers.

    Raises:
        PlacementError: the cluster can never hold the run.
        ClusterLost: the cluster is gone.
    """
    async with cancel_when_gone(await asyncio.to_thread(_anchors)):
        while True:
            parts: Any = {"learner": learner, "workers": workers, "reward_models": reward_models}
            settled = await asyncio.to_thread(_divided, config, **parts)
            ask = partial(_wanted, settled, **parts)
            wish = await asyncio.to_thread(ask)
            group: Any = placement_group(wish.bundles(), strategy=wish.strategy)
            try:
                await _granted(group, ask, wish)
                yield Reservation(wish, group, settled)
                return
            except _Shrunk:
                if settled == config:
                    raise
                log.warning("the cluster has lost a node: its GPUs are divided anew")
            finally:
                remove_placement_group(group)


def _anchors() -> list[Endpoint]:
    """Return the endpoints that this process cannot do without: the cluster's head and its own node's raylet."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    here = next(node for node in _alive() if node["NodeID"] == context.get_node_id())
    return [
        Endpoint("Ray's head", host, int(port), GONE_S if ray_private.started_cluster() else BACK_S),
        Endpoint("this node's raylet", here["NodeManagerAddress"], here["NodeManagerPort"], GONE_S),
    ]


async def _granted(group: Any, ask: Callable[[], Request], wish: Request) -> None:
    ready = asyncio.ensure_future(asyncio.wrap_future(group.ready().future()))
    done, _ = await asyncio.wait([ready], timeout=2)
    while not done:
        try:
            await asyncio.to_thread(ask)
        except PlacementError as error:
            raise _Shrunk(str(error)) from error
        nodes = [node["Resources"] for node in _alive()]
        reason = "they are in use" if wish.fits(nodes) else "nodes that have them are to come"
        log.warning("waiting for %s: %s (ray status says more)", wish, reason)
        done, _ = await asyncio.wait([ready], timeout=REMIND_S)
    ready.result()


def _divided(config: RunConfig, *, learner: bool, workers: bool, reward_models: Sequence[RewardTerm]) -> RunConfig:
    """Settle how many learners and workers there are, and say so where the cluster decided."""
    if _may_grow(config):
        return config  # what is there now says little
    nodes = [node["Resources"] for node in _alive()]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if gpus <= 1:
        return config
    free, models = _free_gpus(gpus), sum(map(may_use_gpu, reward_models))
    left = free - models if free - models > 1 else free  # with fewer, reward models go without
    settled = divide_gpus(config, nodes, left, learner=learner, workers=workers)
    if settled != config:
        learners, engines = settled.learner.learner_count, settled.rollout.worker_count
        log.info(
            "the cluster's GPUs are divided among %s (learner.num_learners and rollout.num_workers say otherwise)",
            " and ".join([f"{learners} learner(s)"] * learner + [f"{engines} rollout worker(s)"] * workers),
        )
    return settled


def _free_gpus(gpus: int) -> int:
    """Return how many of them nobody holds. Those of a run that has just ended come back in a moment."""
    free = 0
    for _ in range(10):
        free = int(cast(Any, ray).available_resources().get("GPU", 0))
        if free >= gpus:
            return free
        time.sleep(RETURN_S / 10)
    return free


def _may_grow(config: RunConfig) -> bool:
    wait = config.placement.wait_for_nodes
    return autoscales() if wait == "auto" else wait == "yes"


def _wanted(config: RunConfig, *, learner: bool, workers: bool, reward_models: Sequence[RewardTerm]) -> Request:
    nodes = [node["Resources"] for node in _alive()]
    may_grow = _may_grow(config)
    wish = request(config, nodes, learner=learner, workers=workers, may_grow=may_grow, reward_models=reward_models)
    if not may_grow and not wish.fits(nodes):
        raise refuse(wish, nodes)
    return wish


def _alive() -> Sequence[dict[str, Any]]:
    return [node for node in cast(Any, ray).nodes() if node["Alive"]]


def autoscales() -> bool:
    """Return True if nodes may come by themselves.

    Ray's monitor reports on every cluster, and calls the type of a node that nobody can make more of by that node's id.
    """
    kept = ray_private.autoscaler_report()
    if kept is not None:
        types = json.loads(kept).get("autoscaler_report", {}).get("node_type_mapping") or {}
        return any(not str(kind).startswith(_STATIC) for kind in types.values())
    return _autoscaler_v2()


def _autoscaler_v2() -> bool:
    """The newer autoscaler writes no report; the cluster's status has its version, which is 0 where none runs."""
    status = ray_private.cluster_status(ray.get_runtime_context().gcs_address)
    named = [node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes)]
    return status.stats.autoscaler_version not in (None, "", "0") and any(not n.startswith(_STATIC) for n in named)
