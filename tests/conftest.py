"""Set-up and fixtures of all tests. The variables are read when torch, tokenizers and the hub's client load."""

import os

# Without cached bytecode each process that a test starts would compile torch, ray and transformers anew, for about ten
# seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin steal the cores from each other
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what a test needs is on this machine or made on the fly

import secrets

# The first cluster that a process starts with `ray.init` has a token, and from then on so has all that the process
# starts: here all have it from the beginning, whatever the order of the tests, and none is written to the user's home.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from lora.config import LoraConfig, ModelConfig
from lora.files import Description, pack
from lora.load import load_adapted
from lora.types import Adapter

settings.register_profile("shared", deadline=None)  # a busy machine is not a slow test
settings.load_profile("shared")

AdapterMaker = Callable[..., Adapter]

TESTS = Path(__file__).parent
EXIT_STATUS = pytest.StashKey[int]()
CLUSTERS = {"ray_cluster", "head", "gpu_cluster"}
"""Fixtures that start Ray."""
MARKS = {
    "ray": (
        "rl/jobs/test_kubernetes", "rl/cluster/test_connect", "rl/cluster/test_reservation", "rl/cluster/test_two_nodes",
        "rl/cluster/test_gpu_placement", "rl/cluster/test_watchdog", "rl/cluster/test_interrupts",
        "rl/serve/test_deaths", "rl/cluster/test_ray_directory", "rl/cluster/test_ray_private", "rl/launch/test_reliability",
    ),
    "vllm": (
        "rollout/test_vllm_dies", "rollout/test_vllm_serves_the_policy", "rollout/test_vllm_mixes_adapters",
        "rollout/test_vllm_experts", "rollout/test_tensor_parallel", "rollout/test_policy_queue",
        "rollout/test_cancelled_calls", "rollout/test_adapter_cache", "rollout/test_cpu_lora", "rollout/test_cpu_ops",
        "rollout/test_sampling_features",
    ),
    "browser": ("rl/monitoring/test_browser", "rl/monitoring/test_prometheus"),
    "slow": (
        "rl/remote/test_remote",
        "rl/serve/test_numbers", "rl/serve/test_state", "rl/serve/test_order", "rl/serve/test_refusals",
        "rl/serve/test_sampling", "rl/serve/test_openai", "rl/serve/test_restart", "rl/serve/test_registry",
        "rl/cli/test_damage", "rl/cli/test_bad_input", "rl/cli/test_command", "rewards/test_cli", "rl/launch/test_sft",
        "rl/launch/test_session", "rl/monitoring/test_trackers", "rl/test_train", "rl/test_collapse", "rl/test_api",
        "rl/test_shadowing", "rl/test_notebook", "rl/learner/test_finite_policies", "rl/learner/test_hybrids",
        "rl/learner/test_learner_memory", "rl/sweep/test_sweep", "rewards/test_pool", "rewards/test_hostile",
        "rewards/test_attack_suites", "rl/run/test_directory_lock", "benchmarks/test_speed", "lora/test_architecture",
    ),
}  # fmt: skip
"""Files of tests by what they need."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they need. Those of the common cluster come last, so that it is not there while others measure
    and count, and are one group for pytest-xdist, because a session has one such cluster."""
    for item in items:
        path = str(item.path.relative_to(TESTS).with_suffix(""))
        fixtures = set(getattr(item, "fixturenames", ())) - set(getattr(getattr(item, "callspec", None), "params", ()))
        for mark, paths in MARKS.items():
            if path in paths or (mark == "ray" and fixtures & CLUSTERS):
                item.add_marker(mark)
        item.add_marker(pytest.mark.xdist_group("head" if "head" in fixtures else path))
    items.sort(key=lambda item: item.get_closest_marker("xdist_group").args[0] == "head")  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def tiny_model() -> ModelConfig:
    """A random model that is small, real in every part, and in float32, so that engines can be compared tightly."""
    return ModelConfig(name="tiny-random", dtype="float32", max_length=64)


@pytest.fixture(scope="session")
def make_adapter() -> AdapterMaker:
    """Makes an adapter that moves its model: A as a fresh one has it, B random of standard deviation `size`."""

    def make(
        model: ModelConfig, lora: LoraConfig, *, size: float = 0.02, seed: int = 1, version: int = 1, run: str = "test"
    ) -> Adapter:
        adapted = load_adapted(model, lora, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            name: torch.randn(tensor.shape, generator=generator) * size if name.endswith("lora_B") else tensor.detach()
            for name, tensor in adapted.layers.tensors().items()
        }
        dtype = getattr(torch, model.dtype)
        description = Description(model.name, lora.rank, lora.alpha, adapted.description.targets)
        return Adapter(run, version, pack({name: tensor.to(dtype) for name, tensor in tensors.items()}, description))

    return make


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A cluster of this module's own, gone with everything in it when the module's tests are done."""
    import ray

    directory = tempfile.mkdtemp(prefix="ray-")  # short, because sockets below it may have only 107 characters
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=256 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
        namespace="rankone",
        _temp_dir=directory,
    )
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note how the tests ended, for `pytest_unconfigure`."""
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the process at once where Ray was in it: threads of its C++ part may still log while Python is taken down, and
    a crash after the last test would pass for a failed one."""
    if "ray" in sys.modules and EXIT_STATUS in config.stash and not hasattr(config, "workerinput"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[EXIT_STATUS])
