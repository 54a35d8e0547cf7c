"""An update of the adapter against an update of every weight, in the same learner on the same batch, in turns."""

from statistics import median

from bench.compare.child import Child
from bench.compare.table import Row, paired
from bench.compare.work import load_work, step_prompts
from rollout.environment import torch_environment


def run(repeats: int) -> list[Row]:
    work = load_work()
    prompts = step_prompts(work)
    config = work.config.model_dump(mode="json")
    # A full fine-tuning rate; the time does not depend on it, but no number may overflow.
    full = config | {
        "learner": config["learner"] | {"weights": "full", "lr": 1e-6},
        "rollout": config["rollout"] | {"engine": "torch"},
    }
    environment = torch_environment(on_gpu=False)
    with (
        Child("learner_child", {"config": config, "prompts": prompts}, environment) as lora,
        Child("learner_child", {"config": full, "prompts": prompts}, environment) as every,
    ):
        facts, full_facts = lora.answer(), every.answer()
        turns = [(lora.go(), every.go()) for _ in range(repeats)]
    lora_s, full_s = [one["seconds"] for one, _ in turns], [other["seconds"] for _, other in turns]
    return [
        Row("full", "an update of the adapter", median(lora_s), "s"),
        Row("full", "an update of every weight", median(full_s), "s"),
        Row("full", "time, LoRA / full", paired(lora_s, full_s), "", "lora_over_full_time", shown=True),
        Row("full", "FLOPs, LoRA / full", facts["lora_flops"] / facts["full_flops"]),
        Row("full", "executed FLOPs, LoRA / full", facts["executed_flops"] / full_facts["executed_flops"]),
        Row("full", "memory at its peak, LoRA", facts["peak_mib"], "MiB", shown=True),
        Row("full", "memory at its peak, full", full_facts["peak_mib"], "MiB", shown=True),
    ]
