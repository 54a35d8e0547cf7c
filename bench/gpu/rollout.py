"""Sampling with an adapter against without, and publish to first token: ``python -m bench.gpu.rollout MODEL_DIR``.

Two engines, each in a process of its own on the same card, load at once and take turns with the same prompts and the same
number of tokens: ours without LoRA, and one of

    ours     with an active rank-1 adapter on every linear layer, by vLLM's kernels
    fused    the same, by `rollout.fuse_adapters`
    raw      vLLM without LoRA as it comes

With `--sleep` also what it costs to give an engine's memory to a learner between two steps, and to take it back.
"""

import argparse
import json
import random
from collections.abc import Mapping
from statistics import median
from typing import Any

from bench.compare.child import THREADS, Child
from bench.compare.table import paired
from bench.gpu import card
from rl.config import RunConfig
from rollout.environment import worker_environment

KINDS: dict[str, dict[str, Any]] = {
    "ours": {"kind": "ours"},
    "fused": {"kind": "ours", "rollout": {"fuse_adapters": True}},
    "raw": {"kind": "raw"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--kv-cache-gib", type=float, default=10.5, help="of each engine")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sleep", action="store_true", help="also measure vLLM's sleep mode")
    arguments = parser.parse_args()
    with (
        start(arguments, **KINDS[arguments.kind]) as engine,
        start(arguments, kind="base", sleep_mode=arguments.sleep) as base,
    ):
        for child in (engine, base):
            child.answer()
        print(json.dumps({"ready": True}), flush=True)
        with card.turn():
            figures = compared(engine, base, arguments.repeats)
            if KINDS[arguments.kind]["kind"] == "ours":
                published = [engine.go("publish")["seconds"] for _ in range(5)]
                figures |= {"publish_to_first_token_s": median(published)}
            if arguments.sleep:
                figures |= slept(base, arguments.repeats)
    described = {"model": arguments.model, "kind": arguments.kind, "card": card.name()}
    print(json.dumps(described | figures), flush=True)


def start(arguments: argparse.Namespace, rollout: Mapping[str, Any] | None = None, **job: Any) -> Child:
    """Start an engine."""
    config = RunConfig.model_validate(
        {
            "model": {"name": arguments.model, "max_length": 256 + arguments.max_tokens},
            "lora": {"rank": 1},
            "sampling": {"group_size": arguments.group_size, "max_tokens": arguments.max_tokens},
            # The share is asked for when it starts; then the cache's size is fixed.
            "rollout": {"gpu_memory_fraction": 0.01, **(rollout or {})},
        }
    )
    work = {
        "config": config.model_dump(mode="json"), "model": arguments.model, "adapters": 1,
        # What is free would be measured while others load; and any weights do.
        "arguments": {"kv_cache_memory_bytes": round(arguments.kv_cache_gib * 2**30), "load_format": "dummy"},
        "prompts": [random.Random(i).choices(range(3, 500), k=200) for i in range(arguments.prompts)],
    }  # fmt: skip
    environment = worker_environment(config.rollout, threads=THREADS, on_gpu=card.device() == "cuda")
    return Child("rollout_child", work | job, environment)


def compared(engine: Child, base: Child, repeats: int) -> dict[str, float]:
    """Return the speed of an engine, and its share of the base's."""
    speeds: list[list[float]] = [[], []]
    for _ in range(repeats):
        for child, taken in zip((engine, base), speeds, strict=True):
            answer = child.go()
            taken.append(answer["tokens"] / answer["seconds"])
    return {
        "tokens_per_s": median(speeds[0]), "base_tokens_per_s": median(speeds[1]), "share_of_base": paired(*speeds),
    }  # fmt: skip


def slept(engine: Child, repeats: int) -> dict[str, float]:
    """Return the median seconds that an engine takes to free its memory, and to have it back."""
    seconds: dict[str, list[float]] = {"sleep": [], "wake": []}
    for _ in range(repeats):
        for what, taken in seconds.items():
            taken.append(engine.go(what)["seconds"])
        engine.go()
    return {f"{what}_s": median(taken) for what, taken in seconds.items()}


if __name__ == "__main__":
    main()
