"""Learners in actors, without a cluster: what is said when one of several fails, and how long they wait for another."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import torch

from lora.config import ModelConfig
from rl.cluster import ray_host
from rl.cluster.ray_host import RayHost
from rl.config import LearnerConfig
from rl.learner.collectives import init_process_group, open_store
from rl.learner.policy_host import LearnerSpec
from rl.types import LearnerDied
from rollout.ray.placement import ActorPlacement


async def test_what_one_learner_fails_with_while_the_others_wait_for_it_is_said(
    tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_host, "GRACE_S", 0.05)
    spec = LearnerSpec(tiny_model, learner=LearnerConfig(num_learners=2))
    host = RayHost(spec, lambda rank: ActorPlacement(1))

    async def fail() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    with pytest.raises(LearnerDied, match=r"one of 2 failed with OutOfMemoryError: CUDA out of memory\.$"):
        await host._all([fail(), asyncio.sleep(60)])


def test_learners_wait_for_each_other_as_long_as_they_are_waited_for() -> None:
    """NCCL by itself ends a process after ten minutes, in which another may still load a large model."""
    distributed: Any = torch.distributed
    store = open_store("127.0.0.1", 4321)
    init_process_group("cpu", f"127.0.0.1:{store.port}", 0, 1, lockstep=False, timeout_s=4321, store=store)
    try:
        backend = distributed.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        assert backend.options._timeout == timedelta(seconds=4321)
    finally:
        distributed.destroy_process_group()
