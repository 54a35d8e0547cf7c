"""Sampling with an adapter against without, and publish to first token: ``python -m bench.gpu.rollout MODEL_DIR``.

Our engine with an active rank-1 adapter on every linear layer, and vLLM without LoRA that is asked for the same, each in
a process of its own on the same card, take turns with the same prompts and the same number of tokens.
"""

import argparse
import json
import random
from statistics import median
from typing import Any

from bench.compare.child import THREADS, Child
from bench.compare.table import paired
from bench.gpu import card
from rl.config import RunConfig
from rollout.environment import worker_environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--memory", type=float, default=0.42, help="share of the card's, for each of the two")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments)), flush=True)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the speeds of both, and the median seconds from a new adapter's bytes to its first token."""
    config = RunConfig.model_validate(
        {
            "model": {"name": arguments.model, "max_length": 256 + arguments.max_tokens},
            "lora": {"rank": 1},
            "sampling": {"group_size": arguments.group_size, "max_tokens": arguments.max_tokens},
            "rollout": {"gpu_memory_fraction": arguments.memory},
        }
    )
    job = {
        "config": config.model_dump(mode="json"), "model": arguments.model, "adapters": 1,
        "prompts": [random.Random(i).choices(range(3, 500), k=200) for i in range(arguments.prompts)],
    }  # fmt: skip
    environment = worker_environment(config.rollout, threads=THREADS, on_gpu=card.device() == "cuda")
    speeds: dict[str, list[float]] = {"ours": [], "raw": []}
    with (
        Child("rollout_child", {**job, "kind": "ours"}, environment) as ours,
        Child("rollout_child", {**job, "kind": "raw"}, environment) as raw,
    ):
        for child in (ours, raw):
            child.answer()
        with card.turn():
            published = [ours.go("publish")["seconds"] for _ in range(5)]
            for _ in range(arguments.repeats):
                for kind, child in (("ours", ours), ("raw", raw)):
                    answer = child.go()
                    speeds[kind].append(answer["tokens"] / answer["seconds"])
    return {
        "model": arguments.model,
        "card": card.name(),
        "ours_tokens_per_s": median(speeds["ours"]),
        "raw_tokens_per_s": median(speeds["raw"]),
        "share_of_raw_vllm": paired(speeds["ours"], speeds["raw"]),
        "publish_to_first_token_s": median(published),
        "publish_seconds": published,
    }


if __name__ == "__main__":
    main()
