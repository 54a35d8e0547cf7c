"""Sampling with an adapter against without, and publish to first token: ``python -m bench.gpu.rollout MODEL_DIR...``.

Our engine with an active rank-1 adapter on every linear layer, the same without LoRA, and vLLM without LoRA as it comes,
each in a process of its own on the same card, take turns with the same prompts and the same number of tokens. All load at
once.
With `--sleep` a third engine says what it costs to give its memory to a learner between two steps, and to take it back.
"""

import argparse
import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from typing import Any

from bench.compare.child import THREADS, Child
from bench.compare.table import paired
from bench.gpu import card
from rl.config import RunConfig
from rollout.environment import worker_environment

Engines = dict[str, Child]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--kv-cache-gib", type=float, default=12.0, help="of each engine")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sleep", action="store_true", help="also measure vLLM's sleep mode")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        started = {model: dict(start(stack, model, arguments)) for model in arguments.models}
        for engines in started.values():
            for child in engines.values():
                child.answer()
        print(json.dumps({"ready": True, "card": card.name()}), flush=True)
        for model, engines in started.items():
            with card.turn():
                print(json.dumps({"model": model, "card": card.name(), **measure(engines, arguments)}), flush=True)


def start(stack: ExitStack, model: str, arguments: argparse.Namespace) -> Iterator[tuple[str, Child]]:
    """Start the engines of a model, which end with the stack; yield the name of each, and its process."""
    config = RunConfig.model_validate(
        {
            "model": {"name": model, "max_length": 256 + arguments.max_tokens},
            "lora": {"rank": 1},
            "sampling": {"group_size": arguments.group_size, "max_tokens": arguments.max_tokens},
            "rollout": {"gpu_memory_fraction": 0.01},  # asked for when it starts; the cache's size is fixed
        }
    )
    job = {
        "config": config.model_dump(mode="json"), "model": model, "adapters": 1,
        # What is free would be measured while others load; and any weights do.
        "arguments": {"kv_cache_memory_bytes": round(arguments.kv_cache_gib * 2**30), "load_format": "dummy"},
        "prompts": [random.Random(i).choices(range(3, 500), k=200) for i in range(arguments.prompts)],
    }  # fmt: skip
    environment = worker_environment(config.rollout, threads=THREADS, on_gpu=card.device() == "cuda")
    kinds: dict[str, dict[str, Any]] = {kind: {"kind": kind} for kind in ("ours", "base", "raw")}
    if arguments.sleep:
        kinds["sleeps"] = {"kind": "raw", "sleep_mode": True}
    for name, kind in kinds.items():
        yield name, stack.enter_context(Child("rollout_child", job | kind, environment))


def measure(engines: Engines, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the speeds of all, and the median seconds from a new adapter's bytes to its first token."""
    speeds: dict[str, list[float]] = {"ours": [], "base": [], "raw": []}
    published = [engines["ours"].go("publish")["seconds"] for _ in range(5)]
    for _ in range(arguments.repeats):
        for kind, taken in speeds.items():
            answer = engines[kind].go()
            taken.append(answer["tokens"] / answer["seconds"])
    return {
        **{f"{kind}_tokens_per_s": median(taken) for kind, taken in speeds.items()},
        "share_of_base": paired(speeds["ours"], speeds["base"]),
        "share_of_raw_vllm": paired(speeds["ours"], speeds["raw"]),
        "publish_to_first_token_s": median(published),
        "publish_seconds": published,
        **(slept(engines["sleeps"], arguments.repeats) if "sleeps" in engines else {}),
    }


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
