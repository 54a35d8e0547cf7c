"""TRL's side of the comparison, run by the Python of TRL's own environment: no package of ours but the grader.

Its argument is a JSON file with the job. It waits for a line on standard input before every optimizer step, so that its
steps and ours can take turns, and answers each with a JSON line: seconds, tokens, mean reward. After the last step it
answers the held-out problems greedily, if the job has any, and ends.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from bench.gpu.coin import coin
from rewards.math_answer import math_answer
from rewards.types import Problem

Job = dict[str, Any]
ANSWERS = sys.stdout
sys.stdout = sys.stderr  # what libraries print is not an answer


def main() -> None:
    job: Job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    _check_prompts(tokenizer, job)
    trainer = GRPOTrainer(
        model=job["model"],
        reward_funcs=_coin if job.get("reward") == "coin" else _reward,
        args=_arguments(job),
        train_dataset=Dataset.from_list(job["train"]),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=job["rank"],
            lora_alpha=job["alpha"],
            target_modules=job["targets"],
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
        ),
        callbacks=[Turns(job["group_size"] * job["problems_per_step"])],
    )
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    _answer(ready=True, trained_parameters=trained, threads=torch.get_num_threads())
    trainer.train()
    if job["held_out"]:
        _answer(texts=_held_out_texts(trainer.model, tokenizer, job))


def _arguments(job: Job) -> GRPOConfig:
    """What the job says, and TRL's defaults for all else."""
    completions = job["group_size"] * job["problems_per_step"]
    per_pass = job["completions_per_pass"]
    return GRPOConfig(
        output_dir=job["scratch"],
        max_steps=job["steps"],
        per_device_train_batch_size=per_pass,
        gradient_accumulation_steps=completions // per_pass,
        num_generations=job["group_size"],
        max_completion_length=job["max_tokens"],
        temperature=job["temperature"],
        shuffle_dataset=False,
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        adam_beta1=job["beta1"],
        adam_beta2=job["beta2"],
        max_grad_norm=1.0,
        bf16=job["autocast"],
        gradient_checkpointing=job["gradient_checkpointing"],
        model_init_kwargs={"dtype": job["dtype"]},
        use_cpu=not torch.cuda.is_available(),
        use_vllm=job["vllm"],
        **({"vllm_mode": "colocate", "vllm_max_model_length": job.get("max_length", 256)} if job["vllm"] else {}),
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
        seed=0,
        **job["more"],
    )


class Turns(TrainerCallback):
    """Takes a step when it is told to, and says how long it took."""

    def __init__(self, completions: int) -> None:
        self._completions = completions
        self._start = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # The batch of a step is generated after this, in the first forward pass.
        sys.stdin.readline()
        self._start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._seconds = time.perf_counter() - self._start

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "reward" in logs:
            _answer(
                step=state.global_step,
                seconds=self._seconds,
                completions=self._completions,
                tokens=self._completions * float(logs["completions/mean_length"]),
                reward=float(logs["reward"]),
                grad_norm=float(logs.get("grad_norm", 0)),
            )


def _reward(completions: list[Any], question: list[str], answer: list[str], **_: Any) -> list[float]:
    texts = [completion[0]["content"] for completion in completions]
    problems = [Problem(str(i), q, a) for i, (q, a) in enumerate(zip(question, answer, strict=True))]
    return [math_answer(problem, text).value for problem, text in zip(problems, texts, strict=True)]


def _coin(completions: list[Any], **_: Any) -> list[float]:
    return [coin(Problem("", "", ""), completion[0]["content"]) for completion in completions]


def _check_prompts(tokenizer: Any, job: Job) -> None:
    """The ids that TRL's own templating gives must be the ids that we sample from."""
    for row in job["train"][:4]:
        ids = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=True, return_dict=False)
        assert ids == row["ids"], (ids, row["ids"])


@torch.no_grad()
def _held_out_texts(model: Any, tokenizer: Any, job: Job) -> list[str]:
    model.eval()
    tokenizer.padding_side = "left"
    texts: list[str] = []
    for start in range(0, len(job["held_out"]), 64):
        rows = job["held_out"][start : start + 64]
        batch = tokenizer.pad({"input_ids": [row["ids"] for row in rows]}, return_tensors="pt")
        written = model.generate(**batch, do_sample=False, max_new_tokens=job["max_tokens"], use_cache=True)
        texts += tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def _answer(**values: Any) -> None:
    print(json.dumps(values), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
