"""A run's plan in words."""

from collections.abc import Iterator

from lora.accounting import advised_lr
from rl.launch.plan import Plan

Line = tuple[str, str]
"""A subject, and the figures about it."""
SIZES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
FLOPS = (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9))


def plan_lines(plan: Plan) -> Iterator[Line]:
    """Yield what `rankone plan` prints, but for the warnings."""
    yield from _policy(plan)
    yield from _learning(plan)
    yield from _step(plan)
    yield from _memory(plan)
    lr, good = plan.config.learner.lr, advised_lr(plan.model_parameters)
    known = f"{good:g} was seen to work at alpha 32 on models of this size"
    yield "rate", f"learner.lr = {lr:g}; {'none is known for TinyLoRA' if plan.config.lora.kind == 'tiny' else known}"


def _policy(plan: Plan) -> Iterator[Line]:
    model, rank = plan.config.model, plan.config.lora.rank
    kept = model.dtype if model.quantization is None else f"{model.quantization} and {model.dtype}"
    yield "model", f"{model.name}, {plan.model_parameters:,} parameters, {kept}: {_size(plan.weight_bytes)}"
    for kind in plan.kinds:
        if kind.adapted:
            yield f"  {kind.name}", f"{kind.trained(rank):>12,}   {kind.count} x [{kind.d_in} -> {kind.d_out}]"
    fraction = plan.trained / plan.model_parameters
    size = _size(plan.adapter_bytes)
    if plan.teacher_bytes:
        yield "teacher", f"{plan.config.teacher.model}: {_size(plan.teacher_bytes)}, beside it on every learner"
    lora = plan.config.lora
    if lora.kind == "tiny":
        vectors = plan.trained // lora.u
        made = f"{'a vector' if vectors == 1 else f'{vectors:,} vectors'} of {lora.u:,}, expanded to rank {rank}"
        yield "adapter", f"TinyLoRA: {plan.trained:,} numbers, {made}, {size}"
        return
    yield "adapter", f"rank {rank}: {plan.trained:,} numbers, {fraction:.2%} of the model, {size}"


def _learning(plan: Plan) -> Iterator[Line]:
    verdict = "low regret" if plan.holds_all else "too little"
    taught = f"{plan.episodes:,} episodes teach about {plan.bits_taught:,.0f} bits"
    yield "can learn", f"{taught}; the adapter holds about {plan.bits_held:,.0f}: {verdict}"
    yield "", f"as supervised tokens the same text would teach about {plan.supervised_bits:,.0f}"


def _step(plan: Plan) -> Iterator[Line]:
    config = plan.config
    completions = f"{config.problems_per_step} problems x {config.sampling.group_size} completions"
    repeated = "" if plan.packs else ", the prompt once a completion, as this family needs"
    tokens = f"up to {plan.sampled_tokens:,} tokens sampled, {plan.learned_tokens:,.0f} learned from{repeated}"
    yield "a step", f"{completions}: {tokens}"
    sample, update = _flops(plan.sample_flops), _flops(plan.update_flops(config.lora.rank))
    scored = f", other passes {_flops(plan.score_flops)}" if plan.scored_tokens else ""
    yield "", f"sample {sample}, update {update}, {plan.flops_ratio:.3f} of full fine-tuning's{scored}"
    if plan.rounds > 1 or config.learner.epochs > 1:
        yield "", f"with at most {plan.rounds} rounds of sampling, and {config.learner.epochs} epochs of updates"


def _memory(plan: Plan) -> Iterator[Line]:
    memory, checkpointing = plan.memory, plan.config.learner.gradient_checkpointing
    learner = f"learner {_size(plan.learner_bytes)} (full fine-tuning {_size(plan.full_bytes)})"
    worker = f"rollout worker {_size(plan.rollout_bytes)} with {_size(plan.kv_bytes_per_token)} a token"
    yield "memory", f"{learner}, {worker}"
    yield "", f"a microbatch has up to {memory.tokens:,} tokens, a row up to {memory.width:,}"
    if checkpointing is not True:
        less = f"with gradient checkpointing the learner needs {_size(memory.bytes(checkpointing=True))}"
        yield "", less + (", which is on by itself on a GPU that is too small without it" if checkpointing else "")


def _size(count: float) -> str:
    return next((f"{count / size:.1f} {unit}" for unit, size in SIZES if count >= size), f"{count:.0f} B")


def _flops(count: float) -> str:
    return next((f"{count / size:.1f} {unit}" for unit, size in FLOPS if count >= size), f"{count:.0f} FLOP")
