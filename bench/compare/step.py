"""Where a step's time goes in a real run: outside of sampling, grading and updating; and publishing an adapter.

Publishing is measured from the learner's call to the first token of every worker under the new adapter, less the time that
token takes under an adapter the worker has already.
"""

import asyncio
import time
from dataclasses import replace
from statistics import median

from bench.compare.our_run import OurRun, Step, open_run
from bench.compare.table import Row
from bench.compare.work import load_work, step_prompts
from lora.types import Adapter
from rl.config import replaced

WARM_UP = 2
WORKING = ("sample", "grade", "update")


def run(repeats: int) -> list[Row]:
    return asyncio.run(_run(repeats))


async def _run(repeats: int) -> list[Row]:
    work = load_work(f"num_steps={repeats + WARM_UP + 1}")
    async with open_run(work) as ours:
        steps = [await ours.step() for _ in range(repeats + WARM_UP)][WARM_UP:]
        publishing = [await _publish(ours, version) for version in range(1000, 1000 + repeats)]
    seconds = median(step.seconds for step in steps)
    outside = median(1 - sum(_phase(step, phase) for phase in WORKING) / step.seconds for step in steps)
    completions = work.config.problems_per_step * work.config.sampling.group_size
    phases = [*WORKING, "liveness", "publish"]
    return [
        Row("step", "a step of 16 x 8 completions", seconds, "s", shown=True),
        *(Row("step", f"of which {phase}", median(_phase(step, phase) for step in steps), "s") for phase in phases),
        Row("step", "completions", completions / seconds, "/s"),
        Row("step", "sampled", median(s.metrics["throughput/sample_tokens_per_s"] for s in steps), "tokens/s"),
        Row("step", "publishing, learner to every worker ready", median(publishing), "s"),
        Row(
            "step",
            "publishing / step",
            median(publishing) / seconds,
            "",
            "publish_share_of_step",
            "<= 0.02",
            shown=True,
        ),
        Row(
            "step",
            "outside sample, grade and update / step",
            outside,
            "",
            "outside_share_of_step",
            "<= 0.03",
            shown=True,
        ),
    ]


def _phase(step: Step, name: str) -> float:
    return step.metrics.get(f"time/{name}_s", 0.0)


async def _publish(ours: OurRun, version: int) -> float:
    start = time.perf_counter()
    adapter = replace(await ours.parts.learner.publish(), version=version)  # a name that no worker has seen
    await _first_tokens(ours, adapter)
    published = time.perf_counter()
    await _first_tokens(ours, adapter)
    return max(0.0, 2 * published - start - time.perf_counter())


async def _first_tokens(ours: OurRun, adapter: Adapter) -> None:
    sampling = replaced(ours.prepared.config.sampling, group_size=1, max_tokens=1)
    prompt = step_prompts(ours.prepared)[:1]
    replicas = ours.parts.engine.replicas()
    await asyncio.gather(*(replica.sample(prompt, adapter, sampling, seeds=[1]) for replica in replicas))
