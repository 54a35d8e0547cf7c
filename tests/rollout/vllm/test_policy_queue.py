"""Two steps of a run that are sampled at once on a CPU: the older policy's completions come first."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import ray

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rollout.config import RolloutConfig, SamplingConfig
from rollout.environment import worker_environment
from rollout.ray.engine import AdapterStore, EngineActor, RayEngine
from rollout.vllm.policy_queue import OldestPolicyQueue


@dataclass(frozen=True)
class Call:
    adapter: Adapter

    @classmethod
    def of(cls, run: str, version: int) -> "Call":
        return cls(Adapter(run, version, b""))


def test_a_newer_policy_waits_for_an_older_one_of_its_run_and_for_no_other() -> None:
    waiting = OldestPolicyQueue[Call]()
    old, also_old, new, other = Call.of("a", 4), Call.of("a", 4), Call.of("a", 5), Call.of("b", 9)
    for call in (old, new, also_old, other):
        waiting.push(call)
    assert waiting.pop_ready([]) == [old, also_old, other]
    assert waiting.pop_ready([also_old, other]) == []
    assert waiting.pop_ready([other]) == [new]
    assert waiting.pop_ready([]) == []


def test_an_older_policy_that_comes_late_need_not_wait() -> None:
    waiting = OldestPolicyQueue[Call]()
    waiting.push(late := Call.of("a", 4))
    assert waiting.pop_ready([Call.of("a", 5)]) == [late]


def test_what_waits_can_be_dropped() -> None:
    waiting = OldestPolicyQueue[Call]()
    waiting.push(new := Call.of("a", 5))
    assert waiting.pop_ready([Call.of("a", 4)]) == []
    assert waiting.clear() == [new]
    assert waiting.pop_ready([]) == []


class Recording(EngineActor):
    """A worker that notes whose requests its vLLM ended, in order."""

    async def start(self, *arguments: Any) -> None:
        await super().start(*arguments)
        self.ended = list[str]()
        thread: Any = self._engine._thread
        deliver = thread._deliver

        def noted(output: Any) -> None:
            if output.finished:
                call, _ = thread._open[output.request_id]
                self.ended.append(f"{call.adapter.run} {call.adapter.version}{'' if call.samples else ' scores'}")
            deliver(output)

        thread._deliver = noted

    async def noted(self) -> list[str]:
        return self.ended


@pytest.mark.usefixtures("ray_cluster")
async def test_vllm_samples_an_older_policys_step_first_and_scores_and_other_runs_beside_it(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    lora, config = LoraConfig(rank=1), RolloutConfig(adapters_in_flight=3)
    old, bad, new = (make_adapter(tiny_model, lora, version=version) for version in (1, 2, 3))
    other = make_adapter(tiny_model, lora, version=7, run="other")
    environment = worker_environment(config, threads=1, on_gpu=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the worker cannot import a test
    actor: Any = ray.remote(Recording)
    handle = actor.options(runtime_env={"env_vars": environment}, max_concurrency=64, num_cpus=0).remote()
    engine = RayEngine(handle, AdapterStore(), stall_timeout=60)
    prompts, seeds = [[5 + i % 20, 9, 3 + i % 7] for i in range(16)], list(range(16))
    long, short = (SamplingConfig(group_size=4, max_tokens=length) for length in (48, 2))

    async def refused() -> None:
        with pytest.raises(Exception, match="maximum context length"):
            await engine.sample([[5] * 10_000], bad, long, seeds=[0])

    try:
        await handle.start.remote(tiny_model, lora, config, 0, "cpu", 1)
        first = asyncio.create_task(engine.sample(prompts, old, long, seeds=seeds))
        await asyncio.sleep(0.1)
        beside = [engine.sample(prompts, policy, short, seeds=seeds) for policy in (new, other)]
        await asyncio.gather(first, refused(), *beside, engine.score(prompts[:1], new))
        ended: list[str] = await handle.noted.remote()
    finally:
        await engine.close()
    assert sorted(ended) == ["other 7"] * 16 + ["test 1"] * 16 + ["test 3"] * 16 + ["test 3 scores"]
    assert ended[-16:] == ["test 3"] * 16, ended
    for beside in ("test 3 scores", "other 7"):
        assert ended.index(beside) < ended.index("test 1"), ended
