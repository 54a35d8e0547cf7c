"""The bundles that a run's actors need, and the question if a cluster can ever hold them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from rewards.config import RewardTerm
from rl.config import RunConfig
from rollout.config import RolloutConfig
from rollout.ray.placement import CPUS

SHARED_MEMORY_FRACTION = 0.6
"""What the rollout workers on a GPU may take together when the learner is on it too."""

Resources = Mapping[str, float]


class PlacementError(ValueError):
    """The cluster can never hold the run."""


@dataclass(frozen=True, slots=True)
class GpuShares:
    """GPUs of each learner, of each rollout worker and of each reward model that may have one (0 means the CPU), and a
    worker's share of a GPU's memory."""

    learner: float
    worker: float
    memory_fraction: float
    reward_model: float = 0.0

    @property
    def exclusive(self) -> bool:
        """True if learner and workers each have whole GPUs, so that none waits for another."""
        return self.learner >= 1 and self.worker >= 1

    @property
    def crowded(self) -> bool:
        """True if others are on a rollout worker's GPU."""
        return 0 < self.worker < 1


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a cluster: a bundle of resources for each learner, if there are any, and one for each worker and for
    each reward model.

    Example: ``Request({"GPU": 1.0}, {"GPU": 2.0}, workers=4, strategy="PACK")``
    """

    learner: Resources | None
    worker: Resources
    workers: int
    strategy: str
    shares: GpuShares = field(default_factory=lambda: GpuShares(0, 0, 1))
    learners: int = 1
    reward_models: tuple[Resources, ...] = ()

    def bundles(self) -> list[dict[str, float]]:
        """The learners' first, if there are any; the reward models' last."""
        learners = [] if self.learner is None else [dict(self.learner) for _ in range(self.learners)]
        return learners + [dict(self.worker) for _ in range(self.workers)] + list(map(dict, self.reward_models))

    @property
    def gpus(self) -> float:
        """GPUs of all bundles together."""
        return sum(bundle.get("GPU", 0) for bundle in self.bundles())

    def fits(self, nodes: Sequence[Resources]) -> bool:
        """Return True if nodes with these resources, all of them free, could hold it."""
        learners, free = 0 if self.learner is None else self.learners, list(nodes)
        for bundle in self.reward_models:
            lost = [_places_lost(bundle, self.worker, node) for node in free]
            if not lost or min(lost) == _NO_ROOM:
                return False
            node = lost.index(min(lost))
            free[node] = _less(free[node], bundle)
        places = next(islice(worker_places(self.learner, self.worker, free), learners, None), None)
        return places is not None and places >= self.workers

    def __str__(self) -> str:
        asked: list[str] = []
        if self.learner is not None:
            whom = "the learner" if self.learners == 1 else f"{self.learners} learners each"
            asked.append(f"{in_words(self.learner)} for {whom}")
        if self.workers:
            whom = "1 rollout worker" if self.workers == 1 else f"{self.workers} rollout workers each"
            asked.append(f"{in_words(self.worker)} for {whom}")
        asked += [f"{in_words(bundle)} for a reward model" for bundle in self.reward_models]
        return " and ".join(asked)


def worker_places(learner: Resources | None, worker: Resources, nodes: Sequence[Resources]) -> Iterator[int]:
    """Yield how many workers nodes hold beside no learner, beside one, beside two, ..., as long as there is room for
    another. A learner goes where it takes the fewest workers' places."""
    places, free = _count(worker, nodes), list(nodes)
    yield places
    if learner is None:
        return
    lost = [_places_lost(learner, worker, node) for node in free]
    while lost and (fewest := min(lost)) < _NO_ROOM:
        node = lost.index(fewest)
        free[node] = _less(free[node], learner)
        lost[node] = _places_lost(learner, worker, free[node])
        places -= fewest
        yield int(places)


_NO_ROOM = float("inf")


def _places_lost(learner: Resources, worker: Resources, node: Resources) -> float:
    """Return how many workers' places a learner takes on a node."""
    if not _count(learner, [node]):
        return _NO_ROOM
    return _count(worker, [node]) - _count(worker, [_less(node, learner)])


def request(
    config: RunConfig,
    nodes: Sequence[Resources],
    *,
    learner: bool,
    workers: bool = True,
    may_grow: bool,
    reward_models: Sequence[RewardTerm] = (),
) -> Request:
    """Return the run's request to a cluster of these nodes. A reward model has no GPU where there is none to spare.

    Raises:
        PlacementError: it wants a GPU where there is none, or a GPU is too much shared.
    """
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    on_gpu = config.learner.learner_count if learner and config.learner.device != "cpu" else 0
    if config.learner.device == "cuda" and not gpus and not may_grow:
        raise PlacementError(
            'learner.device = "cuda", and the cluster has no GPU; start a node with one, or set "auto"'
        )
    uses_gpu = config.learner.device == "cuda" or gpus > 0
    num_workers = config.rollout.worker_count if workers else 0
    may_grow = may_grow and uses_gpu
    models_on_gpu = sum(may_use_gpu(term) for term in reward_models)
    shares = share_gpus(
        gpus, config.rollout, learners_on_gpu=on_gpu, num_workers=num_workers, may_grow=may_grow,
        reward_models=models_on_gpu,
    )  # fmt: skip
    if not shares.reward_model and any(term.reward_model_device.startswith("cuda") for term in reward_models):
        raise PlacementError(
            f"reward_model_device asks for a GPU, and the cluster's {gpus} leave none for a reward model beside the "
            'learners and the rollout workers; add one, lower rollout.num_workers, or set it to "cpu"'
        )
    strategy = config.placement.strategy
    if strategy == "auto":
        # A GPU's traffic is short on its own node; a CPU node is worth its cores, so the workers want several.
        strategy = "PACK" if shares.worker else "SPREAD"
    return Request(
        _bundle(shares.learner, config.placement.learner_resources) if learner else None,
        _bundle(shares.worker, config.placement.worker_resources),
        num_workers,
        strategy,
        shares,
        config.learner.learner_count,
        tuple(_bundle(shares.reward_model if may_use_gpu(term) else 0.0, {}) for term in reward_models),
    )


def may_use_gpu(term: RewardTerm) -> bool:
    """Return True for a reward model that is not kept on the CPU by its settings."""
    return term.reward_model_device != "cpu"


def share_gpus(
    gpus: int,
    config: RolloutConfig,
    *,
    learners_on_gpu: int,
    num_workers: int | None = None,
    may_grow: bool = False,
    reward_models: int = 0,
) -> GpuShares:
    """One GPU each if there are enough, or if there may be; on a single GPU all share it. `num_workers` is how many
    rollout workers there are to be, if not as many as the configuration says. Reward models are the first to go
    without.

    Raises:
        PlacementError: the cluster can never hold the run.
    """
    num_workers = config.worker_count if num_workers is None else num_workers
    workers = num_workers * config.tensor_parallel_size
    needed = workers + learners_on_gpu
    whole = GpuShares(float(learners_on_gpu > 0), float(config.tensor_parallel_size), config.gpu_memory_fraction)
    if gpus >= needed + reward_models or may_grow:
        return replace(whole, reward_model=float(reward_models > 0))
    if gpus == 0:
        return GpuShares(0, 0, config.gpu_memory_fraction)
    if gpus == 1 and config.tensor_parallel_size == 1 and learners_on_gpu <= 1:  # NCCL wants a GPU for each learner
        memory = min(config.gpu_memory_fraction, SHARED_MEMORY_FRACTION / max(1, num_workers))
        parts = needed + reward_models
        return GpuShares((learners_on_gpu > 0) / parts, 1 / parts, memory, (reward_models > 0) / parts)
    if gpus >= needed:
        return whole
    raise PlacementError(
        f"the run needs {needed} GPUs ({num_workers} rollout workers of {config.tensor_parallel_size} and "
        f"{learners_on_gpu} for learning), the cluster has {gpus}; lower rollout.num_workers, "
        "rollout.tensor_parallel_size or learner.num_learners, or add nodes"
    )


def refuse(request: Request, nodes: Sequence[Resources]) -> PlacementError:
    """The error of a request that no part of the cluster's life will satisfy: what was asked, and what there is."""
    have = "; ".join(in_words(_shown(node)) for node in nodes[:8]) + ("; ..." if len(nodes) > 8 else "")
    return PlacementError(
        f"the cluster can never hold this run: it asks for {request}, and the cluster's {len(nodes)} node(s) have "
        f"{have}. Add nodes (rankone up --join), or ask for less in [rollout] and [placement]"
    )


def _bundle(gpus: float, more: Resources) -> dict[str, float]:
    return ({"GPU": gpus} if gpus else {"CPU": CPUS}) | dict(more)


def _count(bundle: Resources, nodes: Sequence[Resources]) -> int:
    """Return how many such bundles the nodes hold."""
    return sum(
        min(int(node.get(name, 0) / amount + 1e-3) for name, amount in bundle.items() if amount) for node in nodes
    )


def _less(node: Resources, bundle: Resources) -> dict[str, float]:
    return {name: amount - bundle.get(name, 0) for name, amount in node.items()}


def in_words(resources: Resources) -> str:
    """Return resources as a user reads them, such as `1 GPU + 2 CPU`."""
    return " + ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "nothing"


def _shown(node: Resources) -> dict[str, float]:
    """Without what Ray itself counts."""
    hidden = ("memory", "object_store_memory")
    return {name: amount for name, amount in node.items() if name not in hidden and not name.startswith("node:")}
