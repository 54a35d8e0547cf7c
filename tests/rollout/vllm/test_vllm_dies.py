"""Real vLLM workers that are killed, that cannot start, and whose run is killed around them."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import ray
from helpers.torch_learner import TorchLearner
from helpers.warm_processes import descendants

from bench.families.shapes import FAMILIES, write_model
from lora.base.load import load_skeleton
from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rl.algorithm.liveness import PolicyChecker, Reference
from rl.config import LearnerConfig
from rollout.config import RolloutConfig, SamplingConfig
from rollout.pool.engine_pool import EnginePool
from rollout.ray.engine import AdapterStore, RayEngine
from rollout.ray.placement import ActorPlacement
from rollout.types import Completion, Engine, EngineDied

LORA = LoraConfig(rank=1)
PROMPTS = [[5 + i % 20, 9, 3 + i % 7] for i in range(24)]
SAMPLING = SamplingConfig(group_size=4, max_tokens=48)


@pytest.mark.usefixtures("ray_cluster")
async def test_a_worker_that_is_killed_or_breaks_costs_no_prompt_and_a_new_one_comes_with_the_policy(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is killed while it generates. Another's vLLM breaks, as one does that runs out of a GPU's memory in the middle
    of its work: it counts as dead too."""
    monkeypatch.setattr("rollout.pool.engine_pool.BACK_OFF", (0.0,))
    learner = TorchLearner("gate", tiny_model, LORA, LearnerConfig(), temperature=1.0, seed=0)
    adapter = make_adapter(tiny_model, LORA, version=4)
    reference = await Reference.measure(learner, adapter, None, PROMPTS[:4])
    checker = PolicyChecker(reference=reference)
    store, started, let_in = AdapterStore(), list[RayEngine](), list[Engine]()

    async def start(_: int) -> RayEngine:
        config = RolloutConfig()
        started.append(await RayEngine.start(tiny_model, LORA, config, store, seed=0, place=ActorPlacement(1)))
        return started[-1]

    async def admit(engine: Engine) -> None:
        await checker.check_restarted(engine)
        let_in.append(engine)

    pool = EnginePool(await asyncio.gather(start(0), start(1)), start, admit, max_restarts=3)
    try:
        seeds = list(range(100, 100 + len(PROMPTS)))
        victim = await started[0].pid()
        sampling = asyncio.create_task(pool.sample(PROMPTS, adapter, SAMPLING, seeds=seeds))
        await asyncio.sleep(0.05)
        assert not sampling.done()
        os.kill(victim, signal.SIGKILL)
        groups = await sampling
        assert [len(group) for group in groups] == [4] * len(PROMPTS)
        for _ in range(1200):
            if len(pool.replicas()) == 2:
                break
            await asyncio.sleep(0.1)
        assert (let_in, len(started)) == ([started[2]], 3), "the new worker showed the policy before it served"
        expected = await started[1].score([_sequence(0, groups)], adapter)
        again = await started[2].score([_sequence(0, groups)], adapter)
        assert again[0] == pytest.approx(expected[0], abs=2e-3)
        assert len(await pool.sample(PROMPTS, adapter, SAMPLING, seeds=seeds)) == len(PROMPTS)

        broken = await started[1].pid()
        too_large = make_adapter(
            tiny_model, LoraConfig(rank=8)
        )  # vLLM notices while it generates, and is of no use then
        with pytest.raises(EngineDied, match=r"vLLM failed: .*rank.*rollout\.gpu_memory_fraction"):
            await started[1].sample(PROMPTS, too_large, SAMPLING, seeds=seeds)
        assert await _gone(broken)
    finally:
        await pool.close()


def _sequence(index: int, groups: list[list[Completion]]) -> list[int]:
    return [*PROMPTS[index], *groups[index][0].token_ids]


async def _gone(pid: int) -> bool:
    for _ in range(100):
        if not psutil.pid_exists(pid):
            return True
        await asyncio.sleep(0.1)
    return False


def run(out: Path, *more: str, **environment: str) -> "subprocess.Popen[str]":
    settings = {
        "runtime": "ray", "rollout.engine": "vllm", "num_steps": 12, "problems_per_step": 8, "sampling.group_size": 4,
        "evaluate.every": 4, "evaluate.num_problems": 8, "reward.workers": 1,
    }  # fmt: skip
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    example = Path(__file__).parents[3] / "examples" / "tiny.toml"
    command = [str(Path(sys.executable).with_name("rankone")), "train", str(example), "--out", str(out), *sets, *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
    )


@pytest.fixture
def on_the_cluster(ray_cluster: None) -> dict[str, str]:
    """Return variables that make a command join this module's cluster, so that no new one has to start."""
    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}


def steps(out: Path) -> list[int]:
    file = out / "metrics.jsonl"
    whole = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line)["step"] for line in whole if line.endswith("\n")]


SHARED_MEMORY = Path("/dev/shm")
NAMED = re.compile(r"(?:rankone-\d+-|__KMP_REGISTERED_LIB_)(\d+)")
"""Names of files that say which process made them."""


def new_files(before: set[Path], pids: set[int]) -> set[Path]:
    """Return what has come into shared memory, without the files of processes that are none of these: other tests have
    some there, too, and their browser has hidden ones."""
    named = {file: NAMED.match(file.name) for file in set(SHARED_MEMORY.iterdir()) - before if file.name[0] != "."}
    return {file for file, name in named.items() if name is None or int(name[1]) in pids}


def is_actor(process: psutil.Process) -> bool:
    try:
        return any(part.startswith("ray::") and "Actor" in part for part in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def test_a_run_on_vllm_that_is_killed_has_every_step_once_when_it_is_resumed(
    tmp_path: Path, on_the_cluster: dict[str, str], soon_gone: Callable[..., object]
) -> None:
    """On another cluster than it began on. Nothing of either stays behind, in memory or as a process."""
    before = set(SHARED_MEMORY.iterdir())
    first = run(tmp_path / "run")
    deadline = time.monotonic() + 200
    while len(steps(tmp_path / "run")) < 3 and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.02)
    family = descendants(first.pid)
    pids = {process.pid for process in family}
    assert new_files(before, pids), "there is something that could stay behind"
    at_work = list(filter(is_actor, family))
    assert len(at_work) == 2, "a learner and a worker"
    first.kill()
    first.wait()
    _, left = psutil.wait_procs(at_work, timeout=30)
    assert not left
    assert steps(tmp_path / "run")[:3] == [0, 1, 2]
    second = run(tmp_path / "run", "--resume", **on_the_cluster)
    deadline = time.monotonic() + 300
    while second.poll() is None and time.monotonic() < deadline:
        pids |= {process.pid for process in descendants(os.getpid())}  # the worker is the cluster's
        time.sleep(0.1)
    said, _ = second.communicate(timeout=1)
    assert second.returncode == 0, said
    assert steps(tmp_path / "run") == list(range(13))
    assert new_files(before, pids) == set()
    soon_gone(family, 90)


def test_a_cache_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, on_the_cluster: dict[str, str]) -> None:
    ended = run(tmp_path / "run", "--set", "rollout.kv_cache_gib=5000", **on_the_cluster)
    said, _ = ended.communicate(timeout=200)
    lines = [line for line in said.splitlines() if line.startswith("rankone: ")]
    assert (ended.returncode, len(lines)) == (2, 1), said
    assert "vLLM could not start" in lines[0]
    assert "rollout.kv_cache_gib" in lines[0]


def test_a_cache_is_as_large_as_it_is_set_or_as_sequences_can_fill() -> None:
    from rollout.vllm.start import LARGEST_CACHE, SMALLEST_CACHE, cache_bytes

    tiny = ModelConfig(name="tiny-random", dtype="float32", max_length=480)
    skeleton = load_skeleton(tiny)
    assert cache_bytes(skeleton, tiny, RolloutConfig(kv_cache_gib=0.5)) == 2**29
    assert cache_bytes(skeleton, tiny, RolloutConfig(max_concurrent=1)) == SMALLEST_CACHE
    # Two batches of 256 sequences of 480 tokens and a block of 32, with 256 numbers of 4 bytes each.
    assert cache_bytes(skeleton, tiny, RolloutConfig()) == 2 * 256 * 512 * 256 * 4
    assert cache_bytes(skeleton, tiny, RolloutConfig(max_concurrent=4096)) == LARGEST_CACHE


@pytest.mark.parametrize(("family", "cached"), [("Llama 2 and 3", True), ("Granite 4 (hybrid)", False)])
def test_prompts_are_cached_on_a_cpu_where_no_layer_carries_a_state(family: str, cached: bool, tmp_path: Path) -> None:
    from rollout.vllm.start import cpu_args

    write_model(next(each for each in FAMILIES if each.name == family), tmp_path)
    model = ModelConfig(name=str(tmp_path), dtype="float32", max_length=64)
    assert cpu_args(model, RolloutConfig())["enable_prefix_caching"] is cached
