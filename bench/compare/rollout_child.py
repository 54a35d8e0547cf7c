"""One engine in a process of its own: it loads, then samples the same completions whenever it is told to.

Its argument is a JSON file with the job; every line on standard input is one turn, answered with a JSON line. `kind` says
what is measured:

    ours        our engine, an active adapter on every linear layer
    several     the same, the prompts spread over as many policies, as a sweep has them, in one batch
    operators   our engine with vLLM's own CPU operators and sampler
    base        vLLM without LoRA, with what else of ours makes it faster
    raw         vLLM without LoRA, asked for the same: seeded, with the logprob of each token
    bare        vLLM without LoRA, asked for tokens alone: no seeds, no logprobs

A line `publish` is answered with the seconds from a new policy's bytes to its first token, by our engine; `sleep` and
`wake`, by vLLM without LoRA that was started with `sleep_mode`, with the seconds until its memory is free, or back.
`arguments` are vLLM's own, on top of those that follow from the configuration.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lora.base.load import load_skeleton
from lora.peft.description import Description
from lora.peft.files import pack
from lora.trainable.inject import inject
from lora.types import Adapter
from rl.config import RunConfig, replaced
from rollout.config import SamplingConfig
from rollout.types import Completion
from rollout.vllm import engine as vllm_engine
from rollout.vllm import requests as vllm_requests
from rollout.vllm import start as vllm_start
from rollout.vllm.patches import cpu_lora, cpu_ops, cpu_prompts, cpu_sampler, unnamed_tokens

Job = dict[str, Any]
Turn = Callable[[int], int]
"""Samples with a seed; the tokens that were written."""


def main() -> None:
    job: Job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    config = replaced(
        RunConfig.model_validate(job["config"]), sampling={"ignore_eos": True}
    )  # all write as many tokens
    if job["kind"] not in ("ours", "several", "base"):
        for module in (cpu_lora, cpu_ops, cpu_prompts, cpu_sampler, unnamed_tokens):
            module.install = lambda: None
    if changes := job.get("arguments"):
        _change_arguments(changes)
    turns = (_raw if job["kind"] in ("raw", "bare", "base") else _ours)(job, config)
    for turn in turns.values():
        turn(0)
    _answer(ready=True)
    for seed, line in enumerate(sys.stdin, start=1):
        turn = turns[line.strip()]
        start, used = time.perf_counter(), time.process_time()
        tokens = turn(seed)
        _answer(seconds=time.perf_counter() - start, cpu_seconds=time.process_time() - used, tokens=tokens)


def _ours(job: Job, config: RunConfig) -> dict[str, Turn]:
    rollout = replaced(config.rollout, adapters_in_flight=max(2, job["adapters"]))
    engine = vllm_engine.VllmEngine(job["model"], config.model, config.lora, rollout, seed=0)
    adapters = policies(config, job["adapters"])

    async def sample(seed: int) -> int:
        before = engine.progress()
        shares = [job["prompts"][i :: len(adapters)] for i in range(len(adapters))]
        calls = [
            engine.sample(share, adapter, config.sampling, seeds=[seed * 1000 + i * 100 for i in range(len(share))])
            for share, adapter in zip(shares, adapters, strict=True)
        ]
        tokens = sum(_tokens(groups) for groups in await asyncio.gather(*calls))
        if engine.progress() - before >= 2 * config.sampling.max_tokens:
            raise RuntimeError("what is measured as one batch was sampled in several, one after another")
        return tokens

    async def first_token(seed: int) -> int:
        newer = replace(adapters[0], version=1 + seed)
        one_token = SamplingConfig(group_size=1, max_tokens=1)
        return _tokens(await engine.sample(job["prompts"][:1], newer, one_token, seeds=[0]))

    return {"": lambda seed: asyncio.run(sample(seed)), "publish": lambda seed: asyncio.run(first_token(seed))}


def _raw(job: Job, config: RunConfig) -> dict[str, Turn]:
    arguments = vllm_start.engine_args(job["model"], config.model, config.lora, config.rollout, 0)
    sleeps = job.get("sleep_mode", False)
    engine = vllm_start.start_vllm(replace(arguments, enable_lora=False, enable_sleep_mode=sleeps))

    def sample(seed: int) -> int:
        for index, prompt in enumerate(job["prompts"]):
            parameters = vllm_requests.sampling_params(config.sampling, seed * 1000 + index * 100, 0, [])
            if job["kind"] == "bare":
                parameters.seed = parameters.logprobs = None
            engine.add_request(f"{seed}-{index}", {"prompt_token_ids": prompt}, parameters)
        tokens = 0
        while engine.has_unfinished_requests():
            tokens += sum(len(o.token_ids) for output in engine.step() if output.finished for o in output.outputs)
        return tokens

    def sleep(_: int) -> int:
        engine.sleep(level=1)
        return 0

    def wake(_: int) -> int:
        engine.wake_up()
        return 0

    return {"": sample, **({"sleep": sleep, "wake": wake} if sleeps else {})}


def _change_arguments(changes: dict[str, Any]) -> None:
    """Give every engine these arguments, whatever follows from its configuration."""
    plain = vllm_start.engine_args

    def changed(*arguments: Any) -> Any:
        return replace(plain(*arguments), **changes)

    vllm_engine.engine_args = vllm_start.engine_args = changed


def policies(config: RunConfig, count: int) -> list[Adapter]:
    """Adapters of as many runs: versions of one run are sampled one after another (`rollout/vllm/policy_queue.py`)."""
    return [_adapter(config, seed) for seed in range(count)]


def _adapter(config: RunConfig, seed: int) -> Adapter:
    """A run's adapter that moves every layer."""
    layers = inject(load_skeleton(config.model), config.lora)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator)
        * (0.002 if name.endswith("lora_B") else tensor.shape[1] ** -0.5)
        for name, tensor in layers.tensors().items()
    }
    description = Description(config.model.name, config.lora.rank, config.lora.alpha, config.lora.all_targets)
    return Adapter(f"speed-{seed}", 0, pack({n: t.bfloat16() for n, t in tensors.items()}, description))


def _tokens(groups: list[list[Completion]]) -> int:
    return sum(len(completion.token_ids) for group in groups for completion in group)


def _answer(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
