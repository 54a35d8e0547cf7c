"""Packed rows compute exactly what each completion alone would: the same logprobs, whatever the architecture."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import made_groups
from helpers.reference import FAMILIES, logprobs, save_tiny
from transformers import AutoModelForCausalLM, RobertaConfig

from lora.config import LoraConfig
from lora.trainable.inject import inject
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.learner.model.packed_attention import use_packed_attention
from rl.learner.passes.forward import Microbatch, check_head, microbatches, target_logprobs
from rl.types import Group


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    save_tiny(request.param, tmp_path)
    return AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()


def packed(groups: list[Group], tokens_per_row: int = 64, tokens_per_microbatch: int = 10**6) -> list[Microbatch]:
    rows = build_batch(groups, [advantages(group.rewards) for group in groups], tokens_per_row).rows
    return microbatches(rows, tokens_per_microbatch, "cpu")


def by_completion(groups: list[Group]) -> dict[tuple[int, ...], tuple[list[int], tuple[int, ...]]]:
    """A completion's tokens are its name: the made-up ones differ."""
    found = {c.token_ids: (group.prompt, c.token_ids) for group in groups for c in group.completions}
    assert len(found) == sum(len(group.completions) for group in groups)
    return found


@torch.no_grad()
def alone(
    model: Any, prompt: list[int], completion: tuple[int, ...], temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprobs and entropies of a completion's tokens, from transformers' own attention and all logits at once."""
    logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1] / temperature
    return logprobs(model, prompt, completion, temperature), torch.distributions.Categorical(logits=logits).entropy()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("lm_head", [False, True], ids=["frozen head", "adapted head"])
def test_a_packed_target_has_the_logprob_and_entropy_of_its_completion_alone(
    model: Any, temperature: float, lm_head: bool
) -> None:
    layers = inject(model, LoraConfig(rank=2, lm_head=lm_head))
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B.normal_(std=0.02)
    groups = made_groups(1, prompt=(2, 12), length=(3, 9))
    named = by_completion(groups)
    expected = {name: alone(model, *one, temperature) for name, one in named.items()}
    use_packed_attention(model)
    compared = 0
    with torch.no_grad():
        for batch in packed(groups, tokens_per_microbatch=80):
            got, entropies = target_logprobs(model, batch, temperature)
            for sequence in batch.sequence_ids.unique():
                mine = batch.sequence_ids == sequence
                logprobs_alone, entropies_alone = expected[tuple(batch.targets[mine].tolist())]
                torch.testing.assert_close(got[mine], logprobs_alone, rtol=1e-5, atol=2e-6)
                torch.testing.assert_close(entropies[mine], entropies_alone, rtol=1e-4, atol=1e-5)
                compared += 1
    assert compared == len(named)


Gradients = dict[str, torch.Tensor]


def weights_of(batch: Microbatch) -> torch.Tensor:
    return torch.randn(len(batch.targets), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Group], Gradients]:
    """Return a model, completions of it, and the gradients that these give one at a time, from all logits at once."""
    path = tmp_path_factory.mktemp("models") / "llama"
    save_tiny("llama", path)
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    layers = inject(model, LoraConfig(rank=2))
    groups = made_groups(2, groups=40, size=8, length=(4, 9))  # more targets than are in one chunk
    (batch,) = packed(groups)
    named, weights = by_completion(groups), weights_of(batch)
    for sequence in batch.sequence_ids.unique():
        mine = batch.sequence_ids == sequence
        (logprobs(model, *named[tuple(batch.targets[mine].tolist())], 0.7) * weights[mine]).sum().backward()
    gradients = {name: tensor.grad for name, tensor in layers.tensors().items()}
    return path, groups, {name: gradient for name, gradient in gradients.items() if gradient is not None}


@pytest.mark.parametrize("scores_at_once", [10**9, 10**4, 1], ids=["rows together", "a few rows", "rows alone"])
@pytest.mark.parametrize("queries", [10**9, 7, 1], ids=["all queries", "blocks of queries", "queries alone"])
def test_gradients_reach_the_hidden_states_as_from_all_logits_at_once(
    one_by_one: tuple[Path, list[Group], Gradients], monkeypatch: pytest.MonkeyPatch, scores_at_once: int, queries: int
) -> None:
    monkeypatch.setattr("rl.learner.model.packed_attention.SCORES_AT_ONCE", scores_at_once)
    monkeypatch.setattr("rl.learner.model.packed_attention.QUERIES", queries)
    path, groups, expected = one_by_one
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    layers = inject(model, LoraConfig(rank=2))
    (batch,) = packed(groups)
    use_packed_attention(model)
    (target_logprobs(model, batch, 0.7)[0] * weights_of(batch)).sum().backward()
    assert layers.tensors().keys() == expected.keys()
    for name, tensor in layers.tensors().items():
        assert tensor.grad is not None
        assert (expected[name] - tensor.grad).norm() <= 1e-5 * expected[name].norm()


def test_microbatches_hold_every_row_once_and_no_more_padded_tokens_than_allowed() -> None:
    groups = made_groups(3, groups=12, prompt=(2, 30))
    rows = build_batch(groups, [advantages(group.rewards) for group in groups], 64).rows
    for tokens in (1, 50, 100, 10**6):
        made = microbatches(rows, tokens, "cpu")
        assert sum(len(batch.token_ids) for batch in made) == len(rows)
        assert all(batch.token_ids.numel() <= tokens or len(batch.token_ids) == 1 for batch in made)
        assert sorted(t for b in made for t in b.targets.tolist()) == sorted(
            t for r in rows for t in r.targets.tolist()
        )


def test_a_model_that_treats_its_logits_in_an_unknown_way_is_refused() -> None:
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    config = RobertaConfig(**shape, num_attention_heads=4, is_decoder=True, initializer_range=0.5)
    model: Any = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ValueError, match="'roberta' treat their logits"):
        check_head(model)
