"""Whether vLLM serves a family's adapters, judged by the liveness check: ``python -m bench.families.serve MODEL``.

A process of its own, as vLLM cannot start twice in one.
"""

import asyncio
import json
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from bench.families.measure import PROMPTS, begin, model_config
from rl.algorithm.liveness import Agreement
from rl.learner.policy import Policy
from rl.learner.shared_model import SharedModel
from rollout.config import RolloutConfig, SamplingConfig
from rollout.types import Completion

TOLERANCE = 0.01
"""Nats a token, in float32."""

SEQUENCES = [[10, 12, 14, 20, 8, 9, 11, 13], [21, 8, 9, 30, 31, 7, 5], [30, 31, 5, 6, 7, 12, 40, 3, 19] * 5]
"""The last one is longer than a chunk of Llama 4's attention."""


async def serve(directory: Path) -> dict[str, Any]:
    """Return how vLLM's logprobs agree with the learner's, of given tokens and of its own. Raises what vLLM raises."""
    import torch

    from rollout.vllm_engine import VllmEngine

    model = model_config(directory)
    shared, policy = begin(model)
    adapter = policy.publish(torch.float32)
    engine = VllmEngine(model.name, model, policy.spec.lora, RolloutConfig(kv_cache_gib=0.25), 0)
    try:
        theirs = await engine.score(SEQUENCES, adapter)
        sampling = SamplingConfig(group_size=3, max_tokens=6)
        (group,) = await engine.sample(PROMPTS[:1], adapter, sampling, seeds=[1])
    finally:
        await engine.close()
    mine, base = (shared.score(SEQUENCES, policy, under) for under in ("policy", "base"))
    agreement = Agreement.measure(*(list(chain.from_iterable(scores)) for scores in (theirs, mine, base)))
    return {
        "difference": agreement.difference,
        "slope": agreement.from_base.value,
        "sampled_difference": max(_difference(one, shared, policy) for one in group),
        "fault": agreement.fault(TOLERANCE, 0.0),
    }


def _difference(one: Completion, shared: SharedModel, policy: Policy) -> float:
    """Return the largest difference of a logprob that a token was sampled with from the learner's."""
    (scores,) = shared.score([[*PROMPTS[0], *one.token_ids]], policy)
    return max(abs(a - b) for a, b in zip(one.logprobs, scores[len(PROMPTS[0]) - 1 :], strict=True))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(serve(Path(sys.argv[1])))), flush=True)
