"""Set-up and fixtures of all tests. The variables are read when torch, tokenizers and the hub's client load."""

import os

# Without cached bytecode each process that a test starts would compile torch, ray and transformers anew, for about ten
# seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin steal the cores from each other
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what a test needs is on this machine or made on the fly

os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # idle processes that no actor of ours ever uses
os.environ.setdefault("RAY_worker_niceness", "0")  # as in our runs, beside which other actors would else stand still

import secrets

# The first cluster that a process starts with `ray.init` has a token, and from then on so has all that the process
# starts: here all have it from the beginning, whatever the order of the tests, and none is written to the user's home.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from helpers.shared_cluster import SharedCluster
from helpers.warm_processes import VARIABLE, WarmProcesses
from hypothesis import settings

from lora.config import LoraConfig, ModelConfig
from lora.load import load_adapted
from lora.peft.description import Description
from lora.peft.files import pack
from lora.types import Adapter

# A tiny model's operations are too small to be shared: waiting for each other takes a quarter of all time. Actors and
# commands have as many threads as at a user's.
torch.set_num_threads(1)
settings.register_profile("shared", deadline=None)  # a busy machine is not a slow test
settings.load_profile("shared")

AdapterMaker = Callable[..., Adapter]

TESTS = Path(__file__).parent
EXIT_STATUS = pytest.StashKey[int]()
WARM = pytest.StashKey[WarmProcesses]()
CLUSTERS = {"ray_cluster", "head", "gpu_cluster"}
"""Fixtures that start Ray."""
MARKS = {
    "ray": (
        "rl/cluster/test_watchdog", "rl/jobs/test_kubernetes", "rl/cluster/test_reservation",
        "rl/cluster/test_gpu_placement", "rl/launch/test_reliability", "rl/cluster/test_interrupts",
        "rl/cluster/test_two_nodes", "rl/cluster/test_ray_directory", "rl/cluster/test_ray_private",
        "rl/cluster/test_connect", "rl/serve/test_deaths",
    ),
    "vllm": (
        "rollout/vllm/test_vllm_dies", "rollout/vllm/test_vllm_serves_the_policy",
        "rollout/vllm/test_vllm_mixes_adapters", "rollout/vllm/test_vllm_experts", "rollout/vllm/test_tensor_parallel",
        "rollout/vllm/test_policy_queue", "rollout/ray/test_cancelled_calls", "rollout/vllm/test_adapter_cache",
        "rollout/vllm/test_cpu_lora", "rollout/vllm/test_cpu_ops", "rollout/test_sampling_features",
        "rl/episodes/tools/test_tool_calls", "rl/episodes/test_verifiers_vllm",
    ),
    "browser": ("rl/monitoring/test_browser", "rl/monitoring/test_prometheus"),
    "slow": (
        "rl/cli/test_damage", "rl/cli/test_command", "rl/cli/test_bad_input", "rewards/grading/test_cli",
        "rl/test_train", "rl/launch/test_session", "rl/sweep/test_sweep", "rl/test_api",
        "rewards/mathematics/test_hostile", "rewards/grading/test_pool", "rl/monitoring/test_trackers",
        "rl/launch/test_sft", "rl/test_collapse", "rl/test_shadowing", "rl/learner/test_finite_policies",
        "rl/learner/passes/test_hybrids", "rl/learner/memory/test_learner_memory", "rl/remote/test_remote",
        "rl/learner/passes/test_forward", "rl/learner/passes/test_microbatch_threads", "lora/base/test_architecture",
        "rewards/mathematics/test_attack_suites", "rl/run/test_directory_lock", "benchmarks/test_speed",
        "rl/learner/bases/test_policies_together",
        "rl/learner/bases/test_unmixed_policies", "rl/learner/test_learner", "rl/learner/model/test_compiled_blocks",
        "rl/learner/model/test_joined_rows", "rl/algorithm/sampling/test_prefetch", "test_bench_gpu",
        "rl/episodes/test_verifiers_train", "rl/learner/test_families", "lora/trainable/test_tiny",
        "rl/algorithm/advantage/test_large_teacher", "rl/learner/test_quantised_base", "rl/episodes/test_episodes",
        "rl/episodes/test_source_episodes", "rewards/code/test_code_tests", "rl/test_steps_in_flight",
        "rl/data/test_mixture", "rl/algorithm/sampling/test_problem_draws",
    ),
}  # fmt: skip
"""Files of tests by what they need."""
LONGEST = (
    "rl/launch/test_reliability", "rl/jobs/test_kubernetes", "rollout/vllm/test_vllm_dies",
    "rl/learner/model/test_compiled_blocks", "rl/cluster/test_gpu_placement", "rl/launch/test_session",
    "rl/cluster/test_reservation", "rl/remote/test_remote", "test_bench_gpu", "rl/cli/test_command",
    "rollout/ray/test_cancelled_calls", "rl/cluster/test_components", "rl/cluster/test_watchdog",
    "rollout/vllm/test_vllm_serves_the_policy", "rl/cli/test_damage", "rl/sweep/test_sweep",
    "rollout/test_sampling_features", "rl/test_api", "rl/test_train", "rollout/vllm/test_tensor_parallel",
    "rl/learner/test_data_parallel", "rl/episodes/test_verifiers_train", "rl/learner/test_families",
)  # fmt: skip
"""Files that take longest, which begin first; the rest of the marked ones follow, and then all others."""
MARKED = (path for paths in MARKS.values() for path in paths)
ORDER = {path: place for place, path in enumerate(dict.fromkeys((*LONGEST, *MARKED)))}
ON_THE_HEAD = {
    "rl/jobs/test_cluster_jobs", "rl/jobs/test_served_job", "rl/cluster/test_cluster_token",
    "rl/cluster/test_ray_private", "rl/monitoring/test_prometheus", "rl/monitoring/test_browser",
}  # fmt: skip
"""Files whose tests share one head. They are tested one after another, by one process."""
COLD = {"rl/cluster/test_watchdog", "rl/cluster/test_interrupts", "rl/cluster/test_ray_private"}
"""Files that look at the processes that Ray starts, their parents and their ends: there these are Ray's own."""
SERVER = "rl/serve/"
"""Files whose tests share one server; the same."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--cold`."""
    parser.addoption("--cold", action="store_true", help="start Ray's processes and commands as users do, in full")


def pytest_configure(config: pytest.Config) -> None:
    """Have Ray's processes and commands made as copies of warm ones, by all processes of these tests."""
    if not hasattr(config, "workerinput") and not config.getoption("--cold"):
        config.stash[WARM] = WarmProcesses()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by what they need, and put them in order.

    In one process the tests of the common clusters come last, so that these are not there while others measure and
    count. Among several processes what takes longest comes first, so that none is left alone with it.
    """
    for item in items:
        path, fixtures = _path(item), _fixtures(item)
        more = ["ray"] * bool(fixtures & CLUSTERS or path in ON_THE_HEAD) + ["slow"] * path.startswith(SERVER)
        for mark, paths in MARKS.items():
            if path in paths or mark in more:
                item.add_marker(mark)
        if "head" in fixtures and path not in ON_THE_HEAD:
            raise pytest.UsageError(f"{path} asks for the head: add it to ON_THE_HEAD in tests/conftest.py")
    alone = not hasattr(config, "workerinput")
    items.sort(key=lambda item: (0 if alone else _place(_path(item)), _clusters(item)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Give each file to one process, and those on the head to the same, and those on the server.

    The plugin's own marks of groups are lost on pytest 9.2, which keeps a test's name elsewhere."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0].removeprefix("tests/").removesuffix(".py")
            return "head" if path in ON_THE_HEAD else SERVER if path.startswith(SERVER) else path

    return ByFile(config, log)


def _path(item: pytest.Item | pytest.Module) -> str:
    return str(item.path.relative_to(TESTS).with_suffix(""))


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ())) - set(getattr(getattr(item, "callspec", None), "params", ()))


def _place(path: str) -> int:
    """Return the place of a file among all."""
    return -2 if path in ON_THE_HEAD else -1 if path.startswith(SERVER) else ORDER.get(path, len(ORDER))


def _clusters(item: pytest.Item) -> int:
    """Return a number that is larger for a cluster that more tests share."""
    fixtures = _fixtures(item)
    return 2 if "head" in fixtures else 1 if "ray_cluster" in fixtures else 0


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


SoonGone = Callable[[Sequence[psutil.Process], float], object]


@pytest.fixture(scope="session")
def soon_gone() -> Iterator[SoonGone]:
    """Takes processes that must end within so many seconds, and watches them while other tests run.

    For those of Ray that look for their head for a minute when it is gone."""
    watches: list[Future[tuple[list[psutil.Process], list[psutil.Process]]]] = []
    with ThreadPoolExecutor() as threads:
        yield lambda processes, seconds: watches.append(threads.submit(psutil.wait_procs, processes, seconds))
        for watch in watches:
            _, left = watch.result()
            assert not left, "what a run had started ends with it"


CLUSTER = SharedCluster()


@pytest.fixture(scope="module", autouse=True)
def _temperature(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep warm processes away from the files that are about processes."""
    if _path(request.node) not in COLD:
        yield
        return
    CLUSTER.end()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        yield
        CLUSTER.end()


@pytest.fixture(scope="module")
def ray_cluster() -> None:
    """A cluster that this process has joined. It goes on until a test comes that does not ask for it."""
    CLUSTER.start()


@pytest.hookimpl(trylast=True)  # when the fixtures are gone that live on it
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the shared cluster behind the last file that asks for it: what a file opened on it lives as long as the file."""
    same_file = nextitem is not None and nextitem.path == item.path
    if not same_file and "ray_cluster" not in getattr(nextitem, "fixturenames", ()):
        CLUSTER.end()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note how the tests ended, for `pytest_unconfigure`. Where they were stopped, the cluster may still be there."""
    CLUSTER.end()
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the warm processes, and this one at once where Ray was in it.

    Threads of Ray's C++ part may still log while Python is taken down, and a crash after the last test would pass for a
    failed one.
    """
    if WARM in config.stash:
        config.stash[WARM].close()
    if "ray" in sys.modules and EXIT_STATUS in config.stash and not hasattr(config, "workerinput"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[EXIT_STATUS])
