"""The whole step against TRL's: the same model, sums, prompts, samples and adapter, in completions a second end to end.

TRL has an environment of its own in the cache, made on first use. It trains with its defaults but for what the work says
(samples, temperature, rank, alpha, targets, learning rate, Adam's betas), with the settings that were fastest for it on a
CPU. Both sides take their optimizer steps in turn, and answer the same held-out sums greedily at the end: as many samples
have taught both by then. One grader grades both.
"""

import asyncio
import os
import subprocess
import sys
import venv
from pathlib import Path
from statistics import fmean, median
from typing import Any

from bench.compare.child import ROOT, Child
from bench.compare.our_run import Step, open_run
from bench.compare.table import Row, paired
from bench.compare.work import load_work
from lora.base.resolve import cache_directory, resolve_model
from rewards.math_answer import math_answer
from rewards.types import Outcome, Problem
from rl.data import draw, sample_held_out
from rl.data.prompts import chat
from rl.launch.train_recipe import PreparedTrain as Prepared
from rollout.environment import torch_environment

VERSION = "1.16.0"
PACKAGES = (f"trl=={VERSION}", "torch==2.13.0", "transformers", "peft", "datasets", "accelerate", "sympy")
"""The other versions are those of `constraints.txt`, as ours are."""

UV = (sys.executable, "-m", "uv", "pip", "install", "--quiet")
SETTINGS: dict[str, Any] = {
    "dtype": "bfloat16",
    "completions_per_pass": 32,
    "autocast": False,
    "gradient_checkpointing": False,
    "vllm": False,
    "more": {},
}
"""What was fastest for TRL on a CPU of those that `docs/speed.md` lists."""


def run(repeats: int) -> list[Row]:
    work = load_work(f"num_steps={repeats + 1}")
    with Child("trl_child", _job(work), torch_environment(on_gpu=False), python=str(_environment())) as trl:
        trl.answer()
        ours, theirs, accuracy = asyncio.run(_take_turns(work, trl))
        texts = trl.answer()["texts"]
    their_accuracy = fmean(
        math_answer(problem, text).outcome is Outcome.CORRECT
        for problem, text in zip(_held_out(work), texts, strict=True)
    )
    # The first step of each warms up.
    ours_s, theirs_s = [step.seconds for step in ours[1:]], [step["seconds"] for step in theirs[1:]]
    completions = work.config.problems_per_step * work.config.sampling.group_size
    samples = completions * len(ours)
    return [
        Row("trl", "a step of ours", median(ours_s), "s"),
        Row("trl", "a step of TRL's", median(theirs_s), "s"),
        Row("trl", "completions of ours", completions / median(ours_s), "/s", "our_completions_per_s"),
        Row("trl", "completions of TRL's", completions / median(theirs_s), "/s", "trl_completions_per_s"),
        Row("trl", "ours / TRL, completions/s", paired(theirs_s, ours_s), "", "vs_trl_ratio", ">= 5", shown=True),
        Row("trl", f"held-out accuracy after {samples:,} samples, ours", accuracy, "", "our_accuracy"),
        Row("trl", f"held-out accuracy after {samples:,} samples, TRL", their_accuracy, "", "trl_accuracy"),
        Row("trl", "mean reward of the last step, ours", ours[-1].metrics["reward/mean"]),
        Row("trl", "mean reward of the last step, TRL", theirs[-1]["reward"]),
    ]


async def _take_turns(work: Prepared, trl: Child) -> tuple[list[Step], list[dict[str, Any]], float]:
    """As many steps of each as the work has; and our accuracy at the end."""
    ours: list[Step] = []
    theirs: list[dict[str, Any]] = []
    async with open_run(work) as run:
        for _ in range(work.config.num_steps):
            ours.append(await run.step())
            theirs.append(await asyncio.to_thread(trl.go))
        return ours, theirs, await run.finish()


def _held_out(work: Prepared) -> list[Problem]:
    """What our evaluation looks at."""
    return sample_held_out(work.problems.held_out, work.config.evaluate.num_problems, work.config.seed)


def _job(work: Prepared) -> dict[str, Any]:
    config = work.config
    problems = [
        problem
        for step in range(config.num_steps)
        for problem in draw(work.problems.train, step, config.problems_per_step, config.seed)
    ]
    return {
        "model": resolve_model(config.model.name),
        "train": [_row(work, problem) for problem in problems],
        "held_out": [_row(work, problem) for problem in _held_out(work)],
        "steps": config.num_steps,
        "problems_per_step": config.problems_per_step,
        "group_size": config.sampling.group_size,
        "max_tokens": config.sampling.max_tokens,
        "temperature": config.sampling.temperature,
        "rank": config.lora.rank,
        "alpha": config.lora.alpha,
        "targets": list(config.lora.targets),
        "lr": config.learner.lr,
        "beta1": config.learner.beta1,
        "beta2": config.learner.beta2,
        **SETTINGS,
    }


def _row(work: Prepared, problem: Problem) -> dict[str, Any]:
    prompt = chat(work.config.prompt, problem.question)
    return {"prompt": prompt, "question": problem.question, "answer": problem.answer, "ids": work.encode(problem)}


def _environment() -> Path:
    """The Python of TRL's environment."""
    home = cache_directory() / f"bench-trl-{VERSION}"
    if not (home / "ready").exists():
        venv.create(home, clear=True)
        # As in the Makefile: uv does not read pip's wheel directory.
        wheels = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
        backend = {"UV_FIND_LINKS": wheels} if wheels else {"UV_TORCH_BACKEND": "cpu"}
        subprocess.run(
            [*UV, "--python", str(home / "bin" / "python"), "-c", "constraints.txt", *PACKAGES],
            cwd=ROOT,
            env={**os.environ, **backend},
            check=True,
        )
        (home / "ready").touch()
    return home / "bin" / "python"
