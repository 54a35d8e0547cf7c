"""vLLM on a family's adapter: ``python -m bench.families.engine MODEL ASKED``, a file that `serve` wrote.

A process of its own: vLLM cannot start twice in one, and changes classes of transformers that a learner has.
"""

import asyncio
import json
import pickle
import sys
from pathlib import Path
from typing import Any

from bench.families.measure import PROMPTS, model_config
from lora.config import LoraConfig
from lora.types import Adapter
from rollout.config import RolloutConfig, SamplingConfig

SEQUENCES = [[10, 12, 14, 20, 8, 9, 11, 13], [21, 8, 9, 30, 31, 7, 5], [30, 31, 5, 6, 7, 12, 40, 3, 19] * 5]
"""The last one is longer than a chunk of Llama 4's attention."""


async def run(directory: Path, lora: LoraConfig, adapter: Adapter) -> dict[str, Any]:
    """Return vLLM's logprobs of given tokens, and the completions that it samples. Raises what vLLM raises."""
    from rollout.vllm.engine import VllmEngine

    model = model_config(directory)
    engine = VllmEngine(model.name, model, lora, RolloutConfig(kv_cache_gib=0.25), 0)
    try:
        scores = await engine.score(SEQUENCES, adapter)
        sampling = SamplingConfig(group_size=3, max_tokens=6)
        (group,) = await engine.sample(PROMPTS[:1], adapter, sampling, seeds=[1])
    finally:
        await engine.close()
    return {"scores": scores, "completions": [{"token_ids": one.token_ids, "logprobs": one.logprobs} for one in group]}


if __name__ == "__main__":
    lora, adapter = pickle.loads(Path(sys.argv[2]).read_bytes())
    print(json.dumps(asyncio.run(run(Path(sys.argv[1]), lora, adapter))), flush=True)
