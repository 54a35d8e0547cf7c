"""A whole step against TRL's on the same card: ``python -m bench.gpu.step MODEL_DIR [--trl-python PYTHON]``.

Both sample with vLLM (TRL's beside its model in one process), take the same number of prompts, completions and tokens a
step, train a rank-1 adapter on every linear layer, and take turns. All else of ours is as it is by default; TRL does
without gradient checkpointing and fills its passes, which is faster than its defaults where memory allows it.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.compare.child import THREADS, Child
from bench.compare.our_run import open_run
from bench.compare.table import paired
from bench.gpu import card
from rl.config import RunConfig
from rl.data.prompts import chat
from rl.launch.train_recipe import TRAIN
from rl.launch.train_recipe import PreparedTrain as Prepared

WORDS = 200
VLLM_SHARE = 0.2
"""Of the card's memory, for each side's engine."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5, help="of each, the first two of which warm up")
    parser.add_argument("--completions-per-pass", type=int, default=64, help="of TRL's")
    parser.add_argument("--trl-python", default=sys.executable, help="a Python that has TRL (and vLLM, on a card)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = TRAIN.prepare(configuration(arguments, Path(directory)), Path(directory))
        with Child("trl_child", job(work, arguments), {}, python=arguments.trl_python) as trl:
            trl.answer()
            print(json.dumps({"ready": True}), flush=True)
            with card.turn():
                print(json.dumps(asyncio.run(measure(work, trl))), flush=True)


def configuration(arguments: argparse.Namespace, directory: Path) -> RunConfig:
    """Return a run on questions of random words, which are written into the directory."""
    draw, words = random.Random(0), [f"w{i}" for i in range(3, 500)]
    number = arguments.prompts * arguments.steps + 1
    lines = [{"question": " ".join(draw.choices(words, k=WORDS)), "answer": "w3"} for _ in range(number)]
    (directory / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return RunConfig.model_validate(
        {
            "name": "step", "num_steps": arguments.steps, "problems_per_step": arguments.prompts, "runtime": "ray",
            "model": {"name": arguments.model, "max_length": 2 * WORDS + arguments.max_tokens},
            "data": {"source": "jsonl", "train": str(directory / "words.jsonl"), "num_held_out": 1},
            "lora": {"rank": 1},
            "sampling": {"group_size": arguments.group_size, "max_tokens": arguments.max_tokens},
            "reward": {"function": f"{Path(__file__).with_name('coin.py')}:coin", "truncated": "grade"},
            "evaluate": {"every": 1_000_000, "num_problems": 1},
            "rollout": {"gpu_memory_fraction": VLLM_SHARE},  # two learners and two engines have to fit
        }
    )  # fmt: skip


def job(work: Prepared, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what TRL is to do."""
    config = work.config
    on_card = card.device() == "cuda"
    return {
        "model": config.model.name,
        "train": [
            {
                "prompt": chat(config.prompt, problem.question), "question": problem.question,
                "answer": problem.answer, "ids": work.encode(problem),
            }
            for problem in work.problems.train
        ],
        "held_out": [], "reward": "coin", "steps": config.num_steps, "problems_per_step": config.problems_per_step,
        "group_size": config.sampling.group_size, "max_tokens": config.sampling.max_tokens,
        "max_length": config.model.max_length, "temperature": config.sampling.temperature,
        "rank": config.lora.rank, "alpha": config.lora.alpha, "targets": list(config.lora.targets),
        "lr": config.learner.lr, "beta1": config.learner.beta1, "beta2": config.learner.beta2,
        "dtype": config.model.dtype, "autocast": on_card, "gradient_checkpointing": False, "vllm": on_card,
        "completions_per_pass": min(arguments.completions_per_pass, config.problems_per_step * arguments.group_size),
        "more": {"vllm_gpu_memory_utilization": VLLM_SHARE} if on_card else {}, "threads": THREADS,
    }  # fmt: skip


async def measure(work: Prepared, trl: Child) -> dict[str, Any]:
    """Return the seconds of both sides' steps, taken in turn."""
    ours: list[Any] = []
    theirs: list[dict[str, Any]] = []
    async with open_run(work) as run:
        for _ in range(work.config.num_steps):
            ours.append(await run.step())
            theirs.append(await asyncio.to_thread(trl.go))
            seconds = {"ours_s": ours[-1].seconds, "trl_s": theirs[-1]["seconds"]}
            print(json.dumps(seconds | dict(_phases(ours[-1].metrics))), file=sys.stderr, flush=True)
    ours_s, trl_s = [step.seconds for step in ours[2:]], [step["seconds"] for step in theirs[2:]]
    return {
        "model": work.config.model.name,
        "card": card.name(),
        "ours_step_s": median(ours_s),
        "trl_step_s": median(trl_s),
        "times_trl": paired(trl_s, ours_s),
        "trl_tokens": theirs[-1]["tokens"],
        **dict(_phases(ours[-1].metrics)),
    }


def _phases(metrics: dict[str, float]) -> list[tuple[str, float]]:
    return [(name, value) for name, value in metrics.items() if name.startswith(("time/", "throughput/"))]


if __name__ == "__main__":
    main()
