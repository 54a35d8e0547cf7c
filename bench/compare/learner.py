"""The learner's counted FLOP/s in an update, as a share of plain bf16 products' on the same threads; and what LoRA spares.

The products have the model's own shapes and the update's number of rows. Both take turns in one process with the
environment of a learner's actor.
"""

from statistics import median

from bench.compare.child import Child
from bench.compare.table import Row, paired
from bench.compare.work import load_work, step_prompts
from rollout.environment import torch_environment

STATE = 3 * 4
"""Bytes a trained number needs: its gradient and Adam's two moments, in float32."""


def run(repeats: int) -> list[Row]:
    work = load_work()
    job = {"config": work.config.model_dump(mode="json"), "prompts": step_prompts(work)}
    with Child("learner_child", job, torch_environment(on_gpu=False)) as child:
        facts = child.answer()
        turns = [child.go() for _ in range(repeats)]
    updates = [facts["lora_flops"] / turn["seconds"] for turn in turns]
    products = [turn["product_flops"] / turn["product_seconds"] for turn in turns]
    trained, all_parameters = facts["trained_parameters"], facts["model_parameters"]
    return [
        Row("learner", "an update", median(turn["seconds"] for turn in turns), "s", shown=True),
        Row("learner", "tokens of an update, prompts once a group", facts["tokens"], "tokens", shown=True),
        Row("learner", "counted from the shapes", facts["lora_flops"] / 1e9, "GFLOP", shown=True),
        Row(
            "learner",
            "executed, by torch's counter / counted from the shapes",
            facts["executed_flops"] / facts["lora_flops"],
        ),
        Row("learner", "update", median(updates) / 1e9, "GFLOP/s"),
        Row("learner", "plain products of the model's shapes", median(products) / 1e9, "GFLOP/s", shown=True),
        Row(
            "learner",
            "update / plain products",
            paired(updates, products),
            "",
            "learner_share_of_matmul",
            ">= 0.6",
            shown=True,
        ),
        Row(
            "learner",
            "FLOPs of a step, LoRA / full",
            facts["lora_flops"] / facts["full_flops"],
            "",
            "lora_over_full_flops",
            "<= 0.7",
            shown=True,
        ),
        Row("learner", "gradients and optimizer, LoRA", trained * STATE / 2**20, "MiB", shown=True),
        Row("learner", "gradients and optimizer, full", all_parameters * STATE / 2**20, "MiB", shown=True),
    ]
