"""What a run asks of a cluster, and whether it can ever have it."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from rewards.config import RewardTerm
from rl.cluster.placement import PlacementError, Request, refuse, request, share_gpus
from rl.config import LearnerConfig, PlacementConfig, RunConfig
from rollout.config import RolloutConfig
from rollout.ray.placement import CPUS, ActorPlacement

ROOT = Path(__file__).parents[3]
CPU_NODE = {"CPU": 32.0, "memory": 1e11, "node:10.0.0.1": 1.0}
GPU_NODE = {"CPU": 32.0, "GPU": 4.0, "accelerator_type:H100": 1.0}


def config(workers: int = 1, tensor_parallel: int = 1, device: str = "auto", **placement: object) -> RunConfig:
    return RunConfig(
        rollout=RolloutConfig(num_workers=workers, tensor_parallel_size=tensor_parallel),
        learner=LearnerConfig.model_validate({"device": device}),
        placement=PlacementConfig.model_validate(placement),
    )


def test_without_gpus_everything_is_on_the_cpu() -> None:
    shares = share_gpus(0, RolloutConfig(num_workers=3), learners_on_gpu=int(True))
    assert (shares.learner, shares.worker) == (0, 0)


def test_enough_gpus_give_one_to_each() -> None:
    shares = share_gpus(5, RolloutConfig(num_workers=2, tensor_parallel_size=2), learners_on_gpu=int(True))
    assert (shares.learner, shares.worker) == (1, 2)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_single_gpu_is_shared_and_never_oversubscribed(workers: int) -> None:
    shares = share_gpus(1, RolloutConfig(num_workers=workers), learners_on_gpu=int(True))
    assert shares.learner > 0
    assert shares.learner + workers * shares.worker == pytest.approx(1)
    assert workers * shares.memory_fraction < 0.7
    asked = request(config(workers), [{"CPU": 8.0, "GPU": 1.0}], learner=True, may_grow=False)
    assert asked.fits([{"CPU": 8.0, "GPU": 1.0}])


@pytest.mark.parametrize(
    ("gpus", "shares"),
    [
        (0, (0.0, 0.0, 0.0)), (1, (1 / 3, 1 / 3, 1 / 3)), (2, (1.0, 1.0, 0.0)), (3, (1.0, 1.0, 1.0)),
    ],
)  # fmt: skip
def test_a_reward_model_has_a_gpu_where_one_is_to_spare_and_a_share_where_all_share(
    gpus: int, shares: tuple[float, ...]
) -> None:
    node = {"CPU": 8.0, "GPU": float(gpus)}
    terms = [RewardTerm(reward_model="m"), RewardTerm(reward_model="n", reward_model_device="cpu")]
    asked = request(config(1), [node], learner=True, may_grow=False, reward_models=terms)
    assert (asked.shares.learner, asked.shares.worker, asked.shares.reward_model) == pytest.approx(shares)
    assert [bundle.get("GPU", 0.0) for bundle in asked.bundles()[2:]] == pytest.approx([shares[2], 0.0])
    assert asked.fits([node])
    assert asked.gpus <= gpus + 1e-9
    if not shares[2]:
        wanted = [RewardTerm(reward_model="m", reward_model_device="cuda")]
        with pytest.raises(PlacementError, match=f"the cluster's {gpus} leave none for a reward model"):
            request(config(1), [node], learner=True, may_grow=False, reward_models=wanted)


def test_nodes_must_hold_the_reward_models_too() -> None:
    asked = Request({"GPU": 1.0}, {"GPU": 2.0}, 1, "PACK", reward_models=({"GPU": 1.0},))
    assert asked.fits([{"GPU": 2.0}, {"GPU": 2.0}])
    assert asked.fits([{"GPU": 4.0}])
    assert not asked.fits([{"GPU": 3.0}])
    assert not asked.fits([{"GPU": 1.0}, {"GPU": 1.0}, {"GPU": 1.0}, {"GPU": 1.0}])
    assert str(asked).endswith("1 GPU for a reward model")


def test_learners_do_not_share_a_gpu() -> None:
    """NCCL refuses two ranks on one device."""
    for workers in (0, 1):
        alone = RolloutConfig().model_copy(update={"num_workers": workers})
        with pytest.raises(PlacementError, match=r"lower .*learner\.num_learners"):
            share_gpus(1, alone, learners_on_gpu=2)


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"GPU": 1}, "rollout.tensor_parallel_size"),
        ({"object_store_memory": 1e9}, "--object-store-memory"),
        ({"big": 0}, "greater than or equal to 0.0001"),
        ({"big": float("inf")}, "finite"),
    ],
)
def test_resources_that_ray_would_stumble_over_are_refused(resources: dict[str, float], said: str) -> None:
    """A bundle of object store memory ends Ray 2.60's raylet when it is given back."""
    for whose in ("learner_resources", "worker_resources"):
        with pytest.raises(ValueError, match=said):
            config(**{whose: resources})


def test_what_is_asked_names_nobody_who_is_not_there() -> None:
    learners = Request({"GPU": 1.0}, {"GPU": 1.0}, workers=0, strategy="PACK", learners=2)
    assert str(learners) == "1 GPU for 2 learners each"
    assert str(Request(None, {"GPU": 2.0}, workers=3, strategy="PACK")) == "2 GPU for 3 rollout workers each"


def test_every_actor_says_how_many_cpus_it_wants() -> None:
    """Ray takes one for each that does not say, and no bundle of a run holds a whole one."""
    assert ActorPlacement(8, gpus=1).actor_options() == {"num_gpus": 1, "num_cpus": 0}
    assert ActorPlacement(8, gpus=0.5, options={"num_cpus": 4}).actor_options() == {"num_gpus": 0.5, "num_cpus": 4}
    assert ActorPlacement(8).actor_options() == {"num_cpus": CPUS}
    made, said = Counter[str](), Counter[str]()
    for file in (file for package in ("rl", "rollout", "rewards", "lora") for file in (ROOT / package).rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
            made[file.name] += ast.unparse(call.func) == "ray.remote"
            given = {keyword.arg or ast.unparse(keyword.value) for keyword in call.keywords}
            said[file.name] += bool(given & {"num_cpus", "place.actor_options()"})
    assert made.total() >= 3
    assert +made == +said


def test_too_few_gpus_are_refused_with_what_there_is() -> None:
    with pytest.raises(PlacementError, match=r"needs 5 GPUs .* the cluster has 3"):
        share_gpus(3, RolloutConfig(num_workers=4), learners_on_gpu=int(True))


def test_a_gpu_that_is_asked_for_is_not_replaced_by_a_cpu() -> None:
    with pytest.raises(PlacementError, match="the cluster has no GPU"):
        request(config(device="cuda"), [CPU_NODE], learner=True, may_grow=False)
    to_come = request(config(workers=2, device="cuda"), [CPU_NODE], learner=True, may_grow=True)
    assert to_come.bundles() == [{"GPU": 1.0}, {"GPU": 1.0}, {"GPU": 1.0}]
    assert not to_come.fits([CPU_NODE])
    assert to_come.fits([CPU_NODE, GPU_NODE])


def test_a_cluster_that_grows_is_asked_for_a_gpu_each() -> None:
    grows = request(config(workers=6), [GPU_NODE], learner=True, may_grow=True)
    assert grows.bundles() == [{"GPU": 1.0}] * 7
    cpus = request(config(workers=6), [CPU_NODE], learner=True, may_grow=True)
    assert cpus.bundles() == [{"CPU": 0.1}] * 7


def test_gpus_are_packed_and_cpu_nodes_spread_over_unless_it_is_said() -> None:
    assert request(config(), [GPU_NODE], learner=True, may_grow=False).strategy == "PACK"
    assert request(config(), [CPU_NODE], learner=True, may_grow=False).strategy == "SPREAD"
    assert request(config(strategy="PACK"), [CPU_NODE], learner=True, may_grow=False).strategy == "PACK"


def test_tensor_parallel_workers_need_their_gpus_on_one_node() -> None:
    wide = request(config(workers=3, tensor_parallel=2), [GPU_NODE, GPU_NODE], learner=True, may_grow=False)
    assert wide.fits([GPU_NODE, GPU_NODE]), "2 + 2 and 2 + the learner's 1"
    odd = [{"CPU": 8.0, "GPU": 3.0}] * 3
    assert request(config(workers=3, tensor_parallel=2), odd, learner=True, may_grow=False).fits(odd)
    ones = [{"CPU": 8.0, "GPU": 1.0}] * 7
    assert not request(config(workers=3, tensor_parallel=2), ones, learner=True, may_grow=False).fits(ones)


def test_the_learner_is_tried_on_every_node() -> None:
    asked = Request({"GPU": 1.0, "big": 1.0}, {"GPU": 2.0}, workers=2, strategy="PACK")
    assert asked.fits([{"GPU": 4.0}, {"GPU": 1.0, "big": 1.0}])
    assert not asked.fits([{"GPU": 4.0, "big": 1.0}])


def test_a_refusal_says_what_was_asked_and_what_there_is() -> None:
    more = config(workers=2, worker_resources={"accelerator_type:H200": 0.001})
    asked = request(more, [GPU_NODE, CPU_NODE], learner=True, may_grow=False)
    assert not asked.fits([GPU_NODE, CPU_NODE])
    said = str(refuse(asked, [GPU_NODE, CPU_NODE]))
    assert "1 GPU + 0.001 accelerator_type:H200 for 2 rollout workers each" in said
    assert "32 CPU + 4 GPU + 1 accelerator_type:H100; 32 CPU." in said
    assert "\n" not in said
