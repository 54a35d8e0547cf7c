"""Sampling through the official client: seeds, ends, top-k and top-p, and every kind of logprob."""

from typing import Any

import numpy as np
import pytest
import tinker
from helpers.tinker_client import MODEL, TIMEOUT, trainer
from tinker import types


@pytest.fixture(scope="module")
def sampler(service: tinker.ServiceClient) -> tinker.SamplingClient:
    return service.create_sampling_client(base_model=MODEL).result(TIMEOUT)


@pytest.fixture(scope="module")
def tokenizer(service: tinker.ServiceClient) -> Any:
    return trainer(service, rank=1).get_tokenizer()


@pytest.fixture(scope="module")
def ids(tokenizer: Any) -> list[int]:
    return list(tokenizer.encode("one two three four 1 2 3 4", add_special_tokens=False))


def draw(sampler: tinker.SamplingClient, ids: list[int], count: int = 1, more: Any = None, **params: Any) -> Any:
    asked: dict[str, Any] = {"max_tokens": 8, **params}
    settings = types.SamplingParams(**asked)
    return sampler.sample(types.ModelInput.from_ints(ids), count, settings, **(more or {})).result(TIMEOUT)


def test_a_seed_draws_the_same_again_and_its_samples_differ(sampler: tinker.SamplingClient, ids: list[int]) -> None:
    def tokens(**params: Any) -> list[list[int]]:
        return [list(s.tokens) for s in draw(sampler, ids, 6, temperature=1.5, stop=[], **params).sequences]

    assert tokens(seed=1) == tokens(seed=1)
    assert tokens(seed=1) != tokens(seed=2)
    assert tokens(seed=2**63 + 1) == tokens(seed=2**63 + 1) != tokens(seed=1)
    assert tokens() != tokens()
    assert len({tuple(row) for row in tokens(seed=1, max_tokens=20)}) == 6


def test_greedy_by_every_name(sampler: tinker.SamplingClient, ids: list[int]) -> None:
    best = draw(sampler, ids, temperature=0.0).sequences[0].tokens
    assert draw(sampler, ids, 2, top_k=1, seed=1).sequences[1].tokens == best
    assert draw(sampler, ids, top_p=1e-6).sequences[0].tokens == best


def test_ends(sampler: tinker.SamplingClient, tokenizer: Any, ids: list[int]) -> None:
    best = draw(sampler, ids, temperature=0.0).sequences[0].tokens
    assert draw(sampler, ids, temperature=0.0, max_tokens=1).sequences[0].stop_reason == "length"
    ended = draw(sampler, ids, temperature=0.0, stop=[best[2]]).sequences[0]
    assert (ended.tokens, ended.stop_reason) == (best[: best.index(best[2]) + 1], "stop")
    word = tokenizer.decode(best)[1:4]
    for stop in (word, [word]):
        ended = draw(sampler, ids, temperature=0.0, stop=stop).sequences[0]
        assert word in tokenizer.decode(ended.tokens)
        assert ended.stop_reason == "stop"
    assert len(draw(sampler, ids, temperature=1.5, stop=[], max_tokens=30, seed=3).sequences[0].tokens) == 30
    whole = sampler.sample(types.ModelInput.from_ints(ids), 1, types.SamplingParams(stop=[], seed=1)).result(TIMEOUT)
    assert len(whole.sequences[0].tokens) == 128 - len(ids)  # no max_tokens: to the end of the context


def test_logprobs_of_prompts_and_samples(sampler: tinker.SamplingClient, ids: list[int]) -> None:
    more = {"include_prompt_logprobs": True, "topk_prompt_logprobs": 3, "topk_sample_logprobs": 2}
    scored = draw(sampler, ids, 2, more=more, seed=1)
    own, top = scored.prompt_logprobs, scored.topk_prompt_logprobs
    assert own[0] is None
    assert len(own) == len(top) == len(ids)
    assert top[0] is None
    for i, row in enumerate(top[1:], start=1):
        assert len(row) == 3
        assert row[0][1] >= row[1][1] >= row[2][1]
        if ids[i] in dict(row):
            assert dict(row)[ids[i]] == pytest.approx(own[i], abs=1e-3)
    for sequence in scored.sequences:
        assert all(len(row) == 2 for row in sequence.topk_logprobs)
        assert len(sequence.topk_logprobs) == len(sequence.tokens) == len(sequence.logprobs)
    prompt = types.ModelInput.from_ints(ids)
    last = sampler.compute_logprobs(prompt, prompt_logprobs_last_n=2).result(TIMEOUT)
    assert all(value is None for value in last[:-2])
    assert last[-2:] == pytest.approx(own[-2:], abs=1e-3)
    hot = draw(sampler, ids, more={"include_prompt_logprobs": True}, temperature=0.3, max_tokens=1)
    assert np.allclose(hot.prompt_logprobs[1:], own[1:], atol=1e-3)


def test_logprobs_of_a_sample_are_those_at_its_temperature(sampler: tinker.SamplingClient, ids: list[int]) -> None:
    """log p_T(i) - log p_T(j) = (log p_1(i) - log p_1(j)) / T."""
    warm = draw(sampler, ids, more={"topk_sample_logprobs": 5}, temperature=1.0, max_tokens=1).sequences[0]
    cold = draw(sampler, ids, more={"topk_sample_logprobs": 5}, temperature=0.5, max_tokens=1).sequences[0]
    first, second = dict(warm.topk_logprobs[0]), dict(cold.topk_logprobs[0])
    a, b = [token for token in first if token in second][:2]
    assert second[a] - second[b] == pytest.approx((first[a] - first[b]) / 0.5, abs=1e-3)


def test_many_at_once(sampler: tinker.SamplingClient, ids: list[int]) -> None:
    prompt = types.ModelInput.from_ints(ids[:4])
    sent = [sampler.sample(prompt, 2, types.SamplingParams(max_tokens=1 + i % 3)) for i in range(100)]
    assert sum(len(one.result(TIMEOUT).sequences) for one in sent) == 200


def test_an_answer_of_many_logprobs_is_written_whole(sampler: tinker.SamplingClient, ids: list[int]) -> None:
    drawn = draw(sampler, ids, 16, more={"topk_sample_logprobs": 40}, seed=3, max_tokens=40, stop=[])
    assert [len(sequence.tokens) for sequence in drawn.sequences] == [40] * 16
    for sequence in drawn.sequences:
        assert all(len(row) == 40 for row in sequence.topk_logprobs)
        for token, logprob, row in zip(sequence.tokens, sequence.logprobs, sequence.topk_logprobs, strict=True):
            assert dict(row).get(token, logprob) == pytest.approx(logprob, abs=1e-5)


def test_a_prompt_that_fills_the_context_is_scored(sampler: tinker.SamplingClient, ids: list[int]) -> None:
    """A completion that ended with the context is such a prompt, and a learner reads one more token."""
    full = types.ModelInput.from_ints((ids * 8)[:128])
    scored = sampler.compute_logprobs(full).result(TIMEOUT)
    shorter = sampler.compute_logprobs(types.ModelInput.from_ints(full.to_ints()[:-1])).result(TIMEOUT)
    assert len(scored) == 128
    assert scored[1:-1] == pytest.approx(shorter[1:], abs=1e-4)
    assert scored[-1] is not None
    with pytest.raises(tinker.RequestFailedError, match="128"):
        sampler.sample(full, 1, types.SamplingParams(max_tokens=1)).result(TIMEOUT)


def test_alternatives_to_a_prompts_tokens_are_drawn(sampler: tinker.SamplingClient, ids: list[int]) -> None:
    def drawn(count: int, **params: Any) -> types.PromptAltTokens:
        found = draw(sampler, ids, more={"prompt_alt_tokens_k": count}, max_tokens=1, **params).prompt_alt_tokens
        assert found is not None
        return found

    few, again, cold = drawn(3, seed=1), drawn(3, seed=1), drawn(1, temperature=0.0)
    tokens, logprobs = few.tokens.to_numpy(), few.logprobs.to_numpy()
    assert (tokens == again.tokens.to_numpy()).all()
    targets = {"target_prompt_logprobs": few.tokens}
    scored = draw(sampler, ids, more=targets, max_tokens=1).target_prompt_logprobs
    assert scored is not None
    assert np.abs(logprobs - scored.to_numpy()).max() < 1e-4
    top = draw(sampler, ids, more={"topk_prompt_logprobs": 49}, max_tokens=1).topk_prompt_logprobs
    assert top is not None
    assert cold.tokens.to_numpy()[:, 0].tolist() == [row[0][0] for row in top[1:] if row]
    shares = np.bincount(drawn(800, seed=2).tokens.to_numpy()[0], minlength=49) / 800
    expected = [np.exp(dict(top[1] or [])[token]) for token in range(49)]
    assert np.abs(shares - expected).max() < 0.06  # four standard deviations of the likeliest token's


@pytest.mark.parametrize("more", [
    {"prompt_alt_tokens_k": 2},
    {"target_prompt_logprobs": types.TensorData.from_numpy(np.zeros((0, 1), np.int64))},
])  # fmt: skip
def test_a_prompt_of_one_token_has_nothing_to_score(sampler: tinker.SamplingClient, more: dict[str, Any]) -> None:
    with pytest.raises(tinker.RequestFailedError, match="at least two") as refused:
        draw(sampler, [5], more=more, max_tokens=1)
    assert refused.value.category == types.RequestErrorCategory.User
