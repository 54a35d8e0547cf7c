"""Tokens a second of our engine with an active rank-1 adapter, as a share of vLLM's without LoRA.

Each engine has a process of its own with the same environment, the same prompts and the same number of tokens; they take
turns. vLLM's own CPU operators, and several policies in one batch, are rows beside it.
"""

from contextlib import ExitStack
from statistics import median

from bench.compare.child import THREADS, Child
from bench.compare.table import Row, paired
from bench.compare.work import engine_environment, load_work, step_prompts
from lora.base.resolve import resolve_model

KINDS = {
    "raw": "vLLM, no LoRA",
    "ours": "ours, one adapter in the batch",
    "several": "ours, four policies of a sweep in the batch",
    "operators": "our engine with vLLM's own operators and sampler",
    "bare": "vLLM, no LoRA, no seeds, no logprobs",
}


def run(repeats: int) -> list[Row]:
    work = load_work()
    job = {
        "config": work.config.model_dump(mode="json"),
        "model": resolve_model(work.config.model.name),
        "prompts": step_prompts(work),
    }
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        children = {
            kind: stack.enter_context(
                Child(
                    "rollout_child",
                    {**job, "kind": kind, "adapters": 4 if kind == "several" else 1},
                    engine_environment(work.config, THREADS),
                )
            )
            for kind in KINDS
        }
        for child in children.values():
            child.answer()
        for _ in range(repeats):
            for kind, child in children.items():
                answer = child.go()
                speeds[kind].append(answer["tokens"] / answer["seconds"])
    rows = [Row("rollout", what, median(speeds[kind]), "tokens/s", shown=True) for kind, what in KINDS.items()]
    shares = {kind: paired(speeds[kind], speeds["raw"]) for kind in KINDS}
    return [
        *rows,
        Row("rollout", "ours / raw vLLM", shares["ours"], "", "rollout_share_of_raw_vllm", ">= 0.85", shown=True),
        Row("rollout", "four policies / raw vLLM", shares["several"], "", "rollout_share_several_adapters", shown=True),
        Row(
            "rollout",
            "vLLM's own operators / raw vLLM",
            shares["operators"],
            "",
            "rollout_share_vllm_operators",
            shown=True,
        ),
        Row(
            "rollout",
            "ours / bare vLLM",
            paired(speeds["ours"], speeds["bare"]),
            "",
            "rollout_share_of_bare_vllm",
            shown=True,
        ),
    ]
