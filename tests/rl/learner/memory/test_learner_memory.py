"""What an update is said to need of memory is what torch is seen to take, on the attention of a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import made_groups
from helpers.torch_learner import TorchLearner
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MixtralConfig,
    Olmo2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from lora.base.load import load_skeleton
from lora.config import LoraConfig, ModelConfig
from lora.trainable.inject import inject
from rl.algorithm.batch.packing import pack_rows
from rl.cluster.learner import memory_share
from rl.cluster.placement import Request, share_gpus
from rl.cluster.reservation import Reservation
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import row_to_score
from rl.learner.collectives import SingleProcess
from rl.learner.memory.activations import Activations, longest_row
from rl.learner.memory.plan import (
    FILL,
    Budget,
    LearnerMemory,
    host_memory,
    resolve_checkpointing,
    resolve_microbatch,
)
from rl.learner.model.recompute import recompute_blocks
from rl.learner.passes.forward import microbatches, target_logprobs
from rl.learner.policies.policy import PolicySpec
from rl.learner.policy_host import LearnerSpec, PolicyHost
from rollout.config import RolloutConfig

SMALL: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0,
}  # fmt: skip
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Llama": (LlamaConfig, {}),
    "Llama, a wide MLP in two layers": (LlamaConfig, {"intermediate_size": 1000, "num_hidden_layers": 2}),
    "Llama, as many key heads": (LlamaConfig, {"num_key_value_heads": 8}),
    "Llama, wide heads": (LlamaConfig, {"head_dim": 48}),
    "Qwen3": (Qwen3Config, {}),
    "Qwen3, narrow and deep": (Qwen3Config, {"hidden_size": 64, "num_hidden_layers": 8}),
    "Gemma 3": (Gemma3TextConfig, {}),
    "OLMo 2": (Olmo2Config, {}),
    "Qwen3 with experts": (Qwen3MoeConfig, {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96}),
    "Mixtral": (MixtralConfig, {"num_local_experts": 4, "num_experts_per_tok": 2}),
}


def built(name: str, **more: Any) -> Any:
    """A random model that attends as on a GPU: with torch's own kernel and a mask."""
    config, settings = MODELS[name]
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config(**SMALL | settings | more)).to(torch.bfloat16).eval()
    model.set_attn_implementation("sdpa")
    return model


def update(model: Any, tokens: int, rows: int) -> None:
    """A forward and a backward pass."""
    row = row_to_score([3 + i % 40 for i in range(tokens + 1)])
    (share,) = microbatches([row] * rows, tokens * rows, "cpu")
    logprobs, _ = target_logprobs(model, share)
    logprobs.sum().backward()


def peak_bytes(model: Any, tokens: int, rows: int) -> int:
    """The most that an update has allocated at any moment; the gradients are there before."""
    update(model, tokens, rows)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        update(model, tokens, rows)
    assert profiler.profiler is not None
    events: Any = profiler.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def kept_bytes(model: Any, tokens: int, rows: int) -> int:
    """What the forward pass keeps for the backward pass: the storages of all saved tensors, each once."""
    fixed = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        update(model, tokens, rows)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("name", ["Llama", "Llama, a wide MLP in two layers", "Qwen3", "Qwen3, narrow and deep"])
def test_the_plan_is_what_an_update_has_allocated_at_its_peak(name: str, checkpointing: bool) -> None:
    model = built(name)
    planned = Activations.of(model, torch.bfloat16)
    layers = inject(model, LoraConfig(rank=2))
    if checkpointing:
        recompute_blocks(model)
    with layers.exclusively():
        for tokens, rows in ((128, 1), (64, 4)):
            expected = planned.bytes(tokens * rows, tokens, checkpointing=checkpointing)
            assert expected == pytest.approx(peak_bytes(model, tokens, rows), rel=0.15)


@pytest.mark.parametrize("name", MODELS)
def test_the_plan_is_what_the_forward_pass_keeps(name: str) -> None:
    model = built(name)
    planned = Activations.of(model, torch.bfloat16)
    layers = inject(model, LoraConfig(rank=2))
    with layers.exclusively():
        for tokens, rows in ((96, 1), (256, 1), (64, 3)):
            beside = max(planned.passing * tokens * rows, planned.logits)
            expected = planned.bytes(tokens * rows, tokens, checkpointing=False) - beside
            assert expected == pytest.approx(kept_bytes(model, tokens, rows), rel=0.1)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("gate_proj", "up_proj", "down_proj")], ids=str)
def test_layers_without_an_adapter_keep_less(targets: tuple[str, ...]) -> None:
    model = built("Llama", num_hidden_layers=8)  # what is before the first adapter is kept by none
    planned = Activations.of(model, torch.bfloat16, targets)
    assert planned.in_layers < Activations.of(model, torch.bfloat16).in_layers
    layers = inject(model, LoraConfig(rank=2, targets=targets))
    with layers.exclusively():
        beside = max(planned.passing * 96, planned.logits)
        expected = planned.bytes(96, 96, checkpointing=False) - beside
        assert expected == pytest.approx(kept_bytes(model, 96, 1), rel=0.1)


def qwen3_8b() -> tuple[Any, int]:
    """A model without numbers, and the bytes of its weights."""
    shape = {
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False,
    }  # fmt: skip
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(Qwen3Config(**shape))
    return model, 2 * sum(parameter.numel() for parameter in model.parameters())


def test_an_8b_models_long_row_is_planned_as_it_was_measured() -> None:
    """81.8 GB with the weights, for one row of 8,342 tokens that is padded."""
    model, weights = qwen3_8b()
    planned = Activations.of(model, torch.bfloat16)
    assert planned.in_layers / 36 / 4096 == pytest.approx(49.4, rel=0.01)
    assert weights + planned.bytes(8342, 8342, checkpointing=False) == pytest.approx(81.8e9, rel=0.03)
    assert weights + planned.bytes(8342, 8342, checkpointing=True) < 24e9


@pytest.mark.parametrize(
    ("compiled", "tokens", "measured_gib"), [(False, 4096, 42.12), (True, 8192, 54.13)], ids=["plain", "compiled"]
)
def test_an_8b_models_joined_rows_are_planned_as_an_h200_measured_them(
    compiled: bool, tokens: int, measured_gib: float
) -> None:
    """By `python -m bench.gpu.learner`, rank 1 (docs/speed.md)."""
    model, weights = qwen3_8b()
    planned = Activations.of(model, torch.bfloat16, joined=True, compiled=compiled)
    for width in (tokens, 1024):  # no pair of tokens costs anything
        assert weights + planned.bytes(tokens, width, checkpointing=False) == pytest.approx(
            measured_gib * 2**30, rel=0.05
        )


@given(
    prompt=st.integers(1, 30), completion=st.integers(1, 20), group=st.integers(1, 9), tokens_per_row=st.integers(1, 99)
)
def test_no_row_is_longer_than_the_longest_and_one_is_as_long(
    prompt: int, completion: int, group: int, tokens_per_row: int
) -> None:
    longest = longest_row(prompt, completion, group, tokens_per_row)

    def widest(length: tuple[int, int]) -> int:
        groups = made_groups(0, groups=3, size=group, prompt=(prompt, prompt), length=length)
        rows = [row for g in groups for row in pack_rows(g.prompt, [(c, 1.0) for c in g.completions], tokens_per_row)]
        return max(len(row.token_ids) for row in rows)

    assert widest((1, completion)) <= longest
    assert widest((completion, completion)) <= longest
    if prompt + group * (completion - 1) <= tokens_per_row or prompt + completion - 1 >= tokens_per_row:
        assert widest((completion, completion)) == longest


# --- "auto" ---

SMOL = ModelConfig(name="smollm2-135m", dtype="bfloat16", max_length=2048)
LORA = LoraConfig(rank=2)
GIB = 2**30


def needed(budget: Budget, *, checkpointing: bool = False, **learner: Any) -> float:
    config = LearnerConfig.model_validate(learner)
    return LearnerMemory.of(load_skeleton(SMOL), SMOL, LORA, config, budget).bytes(checkpointing=checkpointing)


def resolved(monkeypatch: pytest.MonkeyPatch, memory: float, budget: Budget, wanted: bool | str = "auto") -> bool:
    """On a GPU of that size, which is all that is made up."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, int(memory)))
    config = LearnerConfig.model_validate({"gradient_checkpointing": wanted})
    return resolve_checkpointing(SMOL, LORA, config, "cuda", budget)


@pytest.mark.parametrize(
    "budget", [Budget(), Budget(500), Budget(8000), Budget(500, share=0.4), Budget(500, policies=9)]
)
def test_auto_is_on_where_the_device_is_too_small_without(monkeypatch: pytest.MonkeyPatch, budget: Budget) -> None:
    enough = needed(budget) / FILL / budget.share
    assert not resolved(monkeypatch, enough * 1.01, budget)
    assert resolved(monkeypatch, enough * 0.99, budget)
    assert resolved(monkeypatch, enough * 2, budget, wanted=True)
    assert not resolved(monkeypatch, enough / 2, budget, wanted=False)


def test_more_is_needed_of_longer_rows_and_more_policies_and_less_of_shards() -> None:
    small = needed(Budget(500), compile=False)  # as a sharded model's blocks are, and those that policies share
    assert small > 1.2 * needed(Budget(500))
    assert needed(Budget(500, policies=9)) == pytest.approx(small + 8 * 2 * 305_280 * 16, rel=1e-6)
    assert needed(Budget()) == needed(Budget(2048)), "without a length, as long as the model may have it"
    assert needed(Budget(8000)) > 1.7 * needed(Budget(2048))
    assert small - needed(Budget(500), num_learners=4, shard=True) == pytest.approx(
        2 * 134_515_008 * (3 / 4 - 2 / 30), rel=1e-6
    )
    assert needed(Budget(500), weights="full") > small + 15 * 134_515_008
    assert needed(Budget(500), checkpointing=True) < small / 3


@pytest.mark.parametrize(("gib", "tokens"), [(256, 4096), (24, 2048), (16, 512), (1, 512)])
def test_a_microbatch_on_a_cpu_is_what_a_quarter_of_its_memory_holds(
    monkeypatch: pytest.MonkeyPatch, gib: int, tokens: int
) -> None:
    """Of a server's learner, in float32, with sixteen policies of rank 32 and adapted heads."""
    monkeypatch.setattr("rl.learner.memory.plan.host_memory", lambda: gib * 2**30)
    model = ModelConfig(name="smollm2-135m", dtype="float32", max_length=1024)
    lora, budget = LoraConfig(rank=32, lm_head=True, allow_large_rank=True), Budget(policies=16)

    def resolved_tokens(**learner: Any) -> int:
        return resolve_microbatch(model, lora, LearnerConfig(**learner), "cpu", budget, checkpointing=False)

    assert resolved_tokens() == tokens
    assert resolved_tokens(tokens_per_microbatch=3000) == 3000


def test_a_containers_memory_is_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("rl.learner.memory.plan.CONTAINER_LIMIT", limit)
    machine = host_memory()
    for text, memory in (("max\n", machine), ("1048576\n", 2**20), (f"{2**60}\n", machine)):
        limit.write_text(text)
        assert host_memory() == memory


async def test_it_is_off_on_a_cpu_and_what_it_came_to_is_told(tiny_model: ModelConfig) -> None:
    for wanted, expected in (("auto", 0), (True, 1), (False, 0)):
        config = LearnerConfig.model_validate({"gradient_checkpointing": wanted})
        learner = TorchLearner("run", tiny_model, LORA, config, temperature=1.0, seed=0, budget=Budget(10**9))
        host = PolicyHost(LearnerSpec(tiny_model, "cpu", config, LORA, Budget(10**9)))
        host.add(PolicySpec("run", LORA, config, temperature=1.0, seed=0))
        assert host.facts("run") == await learner.facts()
        assert host.facts("run")["gradient_checkpointing"] == expected


async def test_learners_of_one_step_agree(tiny_model: ModelConfig) -> None:
    """One with less memory than the others decides for all: a sharded model's parts are gathered in step."""

    class WithSmallerPeer(SingleProcess):
        def max(self, value: int) -> int:
            return 1

    learner = TorchLearner("run", tiny_model, LORA, LearnerConfig(), temperature=1.0, seed=0, group=WithSmallerPeer())
    assert (await learner.facts())["gradient_checkpointing"] == 1


@pytest.mark.parametrize(
    ("gpus", "workers", "share"), [(0, 2, 1.0), (1, 1, 0.4), (1, 2, 0.4), (2, 1, 1.0), (8, 7, 1.0)]
)
def test_engines_on_the_learners_gpu_leave_it_less(gpus: int, workers: int, share: float) -> None:
    config = RolloutConfig(num_workers=workers)
    shares = share_gpus(gpus, config, learners_on_gpu=int(gpus > 0))
    held = Reservation(Request({}, {}, workers, "PACK", shares), None)
    assert memory_share(held) == pytest.approx(share)
    assert 0 < memory_share(None) < 1, "with an engine in this process"
