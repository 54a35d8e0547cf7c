"""Real vLLM in a Ray actor, and the torch engine, on all that clients ask of sampling: each against a plain forward pass."""

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lora.base.tokenizer import load_tokenizer
from lora.config import ATTENTION, LoraConfig, ModelConfig
from lora.load import load_adapted
from lora.peft.files import unpack
from lora.types import Adapter
from rollout.calls.streams import joined
from rollout.config import RolloutConfig, SamplingConfig
from rollout.ray.engine import AdapterStore, EngineActor, RayEngine
from rollout.ray.placement import ActorPlacement
from rollout.torch.engine import TorchEngine
from rollout.types import Completion, CompletionPart, Engine, Place, PromptLogprobs, PromptQuery
from rollout.vllm.scores import MOST_TOKENS, Scores

TOLERANCE = 1e-3
"""Largest distance of logprobs that two correct float32 engines may have, in nats."""
EOS = 1
PROMPTS = [[10, 12, 14, 20], [21, 8, 9], [30, 31, 5, 6, 7, 12]]
SHAPES = {
    "rank 1": LoraConfig(rank=1),
    "rank 8": LoraConfig(rank=8),
    "rank 32": LoraConfig(rank=32, allow_large_rank=True),
    "attention alone": LoraConfig(rank=8, targets=ATTENTION),
    "rank 8 with the head": LoraConfig(rank=8, lm_head=True),
    "rank 32 with the head": LoraConfig(rank=32, lm_head=True, allow_large_rank=True),
}
Make = Callable[..., Adapter]


@pytest.fixture(scope="module")
def vllm(ray_cluster: None, tiny_model: ModelConfig) -> Iterator[RayEngine]:
    config = RolloutConfig(adapters_in_flight=len(SHAPES))
    largest = SHAPES["rank 32 with the head"]
    start = RayEngine.start(tiny_model, largest, config, AdapterStore(8), seed=0, place=ActorPlacement(1))
    engine = asyncio.run(start)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def reference(tiny_model: ModelConfig) -> TorchEngine:
    return TorchEngine(tiny_model, LoraConfig(rank=1))


@pytest.fixture(params=["vllm", "torch"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue("vllm" if request.param == "vllm" else "reference")


@dataclass
class Plain:
    """The model with one adapter on it, in transformers."""

    model: ModelConfig
    _loaded: dict[str, Any] = field(default_factory=dict)

    def logits(self, adapter: Adapter, tokens: list[int] | tuple[int, ...]) -> Tensor:
        """Return float64 logits [tokens, vocabulary]; row i is of what follows token i."""
        if adapter.name not in self._loaded:
            tensors, about = unpack(adapter.payload)
            targets = tuple(target for target in about.targets if target != "lm_head")
            lora = LoraConfig(
                rank=about.rank, targets=targets, lm_head="lm_head" in about.targets, allow_large_rank=True
            )
            adapted = load_adapted(self.model, lora)
            adapted.layers.load(tensors)
            self._loaded[adapter.name] = adapted.model
        with torch.no_grad():
            return self._loaded[adapter.name](torch.tensor([list(tokens)])).logits[0].double()

    def logprobs(self, adapter: Adapter, tokens: list[int]) -> Tensor:
        """Return logprobs [tokens - 1, vocabulary]; row i is of position i + 1."""
        return self.logits(adapter, tokens)[:-1].log_softmax(-1)


@pytest.fixture(scope="module")
def plain(tiny_model: ModelConfig) -> Plain:
    return Plain(tiny_model)


@pytest.fixture(scope="module")
def adapter(tiny_model: ModelConfig, make_adapter: Make) -> Adapter:
    return make_adapter(tiny_model, LoraConfig(rank=4), seed=5, run="features")


def sample(
    engine: Engine,
    adapter: Adapter,
    *,
    top: int = 0,
    seed: int = 7,
    prompts: list[list[int]] = PROMPTS,
    **settings: Any,
) -> list[list[Completion]]:
    sampling = SamplingConfig(**{"group_size": 4, "max_tokens": 8} | settings)
    seeds = [seed + 100 * i for i in range(len(prompts))]
    return asyncio.run(engine.sample(prompts, adapter, sampling, seeds=seeds, top_logprobs=top))


def greedy(engine: Engine, adapter: Adapter) -> list[Completion]:
    return [group[0] for group in sample(engine, adapter, temperature=0, group_size=1)]


def left_to_draw(
    logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0, **_: Any
) -> dict[int, float]:
    """Return the logprobs of the tokens that can be drawn, the likeliest first, by the plain definitions."""
    probabilities = (logits / temperature).softmax(-1).tolist()
    tokens = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])
    tokens = [token for token in tokens if probabilities[token] >= min_p * probabilities[tokens[0]]]
    tokens = tokens[: top_k or None]
    mass, kept = sum(probabilities[token] for token in tokens), dict[int, float]()
    for token in tokens:
        if kept and sum(kept.values()) >= top_p * mass:
            break
        kept[token] = probabilities[token]
    return {token: math.log(probability / sum(kept.values())) for token, probability in kept.items()}


def check_drawn(
    plain: Plain, adapter: Adapter, prompt: list[int], completion: Completion, top: int, settings: dict[str, Any]
) -> None:
    """See that each token could be drawn, and that all of its logprobs are those of what was left to draw from."""
    logits = plain.logits(adapter, [*prompt, *completion.token_ids])[len(prompt) - 1 :]
    assert len(completion.top_logprobs) == (len(completion.token_ids) if top else 0)
    for i, (token, logprob) in enumerate(zip(completion.token_ids, completion.logprobs, strict=True)):
        expected = left_to_draw(logits[i], **settings)
        assert logprob == pytest.approx(expected[token], abs=TOLERANCE)
        if top:
            check_top(completion.top_logprobs[i], expected, top)


def check_top(seen: tuple[tuple[int, float], ...], expected: dict[int, float], count: int) -> None:
    """See that these are the `count` likeliest of all, in order, each with its own logprob."""
    assert [value for _, value in seen] == pytest.approx([*expected.values()][:count], abs=TOLERANCE)
    assert [value for _, value in seen] == pytest.approx([expected[token] for token, _ in seen], abs=TOLERANCE)
    assert len({token for token, _ in seen}) == len(seen)


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"temperature": 0.5}, {"temperature": 2.0}, {"top_k": 3}, {"top_p": 0.6}, {"min_p": 0.3},
        {"temperature": 1.7, "top_k": 10, "top_p": 0.8, "min_p": 0.02}, {"top_k": 1000, "top_p": 0.95},
    ],
    ids=str,
)  # fmt: skip
def test_tokens_are_drawn_from_what_is_left_and_carry_its_logprobs(
    engine: Engine, plain: Plain, adapter: Adapter, settings: dict[str, Any]
) -> None:
    for prompt, group in zip(PROMPTS, sample(engine, adapter, top=4, group_size=6, **settings), strict=True):
        assert len(group) == 6
        for completion in group:
            check_drawn(plain, adapter, prompt, completion, 4, settings)


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-6}, {"top_p": 1e-30}, {"min_p": 0.9999}], ids=str)
def test_what_leaves_one_token_is_greedy_and_certain(
    engine: Engine, adapter: Adapter, settings: dict[str, Any]
) -> None:
    for best, group in zip(greedy(engine, adapter), sample(engine, adapter, top=3, **settings), strict=True):
        assert {completion.token_ids for completion in group} == {best.token_ids}
        for completion in group:
            assert completion.logprobs == pytest.approx([0.0] * len(best.logprobs), abs=1e-6)
            assert [len(top) for top in completion.top_logprobs] == [1] * len(best.token_ids)


def test_greedy_completions_carry_the_models_own_logprobs(engine: Engine, plain: Plain, adapter: Adapter) -> None:
    """Nothing is drawn, so settings of what is drawn from say nothing; a group is of one completion several times."""
    groups = sample(engine, adapter, top=3, temperature=0, top_k=2, top_p=0.5, min_p=0.5, group_size=3)
    for prompt, group in zip(PROMPTS, groups, strict=True):
        assert group == [group[0]] * 3
        check_drawn(plain, adapter, prompt, group[0], 3, {})
        assert all(token == top[0][0] for token, top in zip(group[0].token_ids, group[0].top_logprobs, strict=True))
        assert min(group[0].logprobs) < -0.1, "they would pass for 0"


def test_a_stop_token_ends_a_completion_and_is_in_it(engine: Engine, adapter: Adapter, tiny_model: ModelConfig) -> None:
    tokenizer = load_tokenizer(tiny_model)
    for i, best in enumerate(greedy(engine, adapter)):
        stop = best.token_ids[2]
        settings: dict[str, Any] = {"temperature": 0, "stop_token_ids": (stop, 48), "group_size": 1}
        ((ended,),) = sample(engine, adapter, prompts=[PROMPTS[i]], **settings)
        assert ended.token_ids == best.token_ids[: best.token_ids.index(stop) + 1]
        assert ended.finish_reason == "stop"
        assert ended.logprobs == pytest.approx(best.logprobs[: len(ended.token_ids)], abs=TOLERANCE)
        assert ended.text == tokenizer.decode(ended.token_ids[:-1], skip_special_tokens=True)


def test_a_stop_text_ends_a_completion_whose_tokens_have_it_and_whose_text_does_not(
    engine: Engine, adapter: Adapter, tiny_model: ModelConfig
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    for i, best in enumerate(greedy(engine, adapter)):
        stop = best.text[1:3]
        ((ended,),) = sample(engine, adapter, prompts=[PROMPTS[i]], temperature=0, stop=(stop,), group_size=1)
        assert tokenizer.decode(ended.token_ids, skip_special_tokens=True) == ended.text + stop
        assert ended.token_ids == best.token_ids[: len(ended.token_ids)]
        assert ended.finish_reason == "stop"
        assert len(ended.logprobs) == len(ended.token_ids)


def test_a_stop_text_may_be_a_special_token(engine: Engine, adapter: Adapter) -> None:
    """Its text is never part of a completion's, so it is a stop token by another name."""
    settings: dict[str, Any] = {"group_size": 8, "max_tokens": 40, "ignore_eos": True, "prompts": PROMPTS[:1]}
    (free,) = sample(engine, adapter, **settings)
    assert any(EOS in completion.token_ids[:-1] for completion in free)
    (by_text,) = sample(engine, adapter, stop=("<eos>", "no such text"), **settings)
    (by_token,) = sample(engine, adapter, stop_token_ids=(EOS,), **settings)
    assert by_text == by_token
    assert {completion.finish_reason for completion in by_text} >= {"stop"}


def test_the_end_of_sequence_ends_nothing_where_it_is_ignored(engine: Engine, plain: Plain, adapter: Adapter) -> None:
    settings: dict[str, Any] = {"group_size": 12, "max_tokens": 50, "temperature": 1.5, "prompts": PROMPTS[:1]}
    (ended,) = sample(engine, adapter, **settings)
    stopped = [completion for completion in ended if completion.finish_reason == "stop"]
    assert stopped, "no completion came to the model's own end, so nothing would be shown"
    assert all(completion.token_ids.index(EOS) == len(completion.token_ids) - 1 for completion in stopped)
    (on,) = sample(engine, adapter, ignore_eos=True, **settings)
    assert {(len(completion.token_ids), completion.finish_reason) for completion in on} == {(50, "length")}
    assert any(EOS in completion.token_ids[:-1] for completion in on)
    check_drawn(plain, adapter, PROMPTS[0], on[0], 0, {"temperature": 1.5})
    (asked,) = sample(engine, adapter, ignore_eos=True, stop_token_ids=(EOS,), **settings)
    assert [completion.token_ids for completion in asked] == [completion.token_ids for completion in ended]


def test_a_seed_draws_the_same_again_and_no_other_seed_draws_any_of_it(engine: Engine, adapter: Adapter) -> None:
    def drawn(seed: int) -> list[tuple[int, ...]]:
        (group,) = sample(
            engine,
            adapter,
            seed=seed,
            prompts=PROMPTS[:1],
            group_size=12,
            max_tokens=20,
            temperature=1.5,
            ignore_eos=True,
        )
        return [completion.token_ids for completion in group]

    seeds = [0, 1, 2, 2**32, 2**32 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
    groups = {seed: drawn(seed) for seed in seeds}
    assert len({tokens for group in groups.values() for tokens in group}) == 12 * len(seeds)
    assert {seed: drawn(seed) for seed in seeds[-3:]} == {seed: groups[seed] for seed in seeds[-3:]}


# --- prompts ---

LONG = [5 + (7 * i) % 40 for i in range(64)]
ASKED: list[tuple[list[int], PromptQuery]] = [
    ([5, 6, 7, 20, 3], PromptQuery()),
    ([9], PromptQuery(top_k=2)),
    ([9, 8], PromptQuery(top_k=3, targets=((4, -1, 8),))),
    (LONG[:40], PromptQuery(top_k=5, last_n=2)),
    (LONG[:30], PromptQuery(last_n=0)),
    (LONG[:20], PromptQuery(last_n=100, targets=tuple((i, i, -1, 40 - i) for i in range(19)))),
    (LONG[3:9], PromptQuery(top_k=49, last_n=3, targets=((-1,), (-1,), (7,), (-1,), (-1,)))),
    (LONG, PromptQuery(top_k=1)),
]
"""Prompts of all lengths, up to the model's context, and what is asked of them."""


def score_prompts(engine: Engine, adapter: Adapter, asked: Any = ASKED) -> list[PromptLogprobs]:
    prompts, queries = zip(*asked, strict=True)
    return asyncio.run(engine.score_prompts(prompts, adapter, queries))


def check_scored(plain: Plain, adapter: Adapter, scored: list[PromptLogprobs], asked: Any = ASKED) -> None:
    for (prompt, query), answer in zip(asked, scored, strict=True):
        logprobs = plain.logprobs(adapter, prompt)
        first = 1 if query.last_n is None else max(1, len(prompt) - query.last_n)
        assert len(answer.logprobs) == len(prompt)
        assert answer.logprobs[:first] == (None,) * min(first, len(prompt))
        own = [logprobs[i - 1, prompt[i]].item() for i in range(first, len(prompt))]
        assert answer.logprobs[first:] == pytest.approx(own, abs=TOLERANCE)
        assert len(answer.top_logprobs) == (len(prompt) if query.top_k else 0)
        assert not any(answer.top_logprobs[:first])
        for i in range(first, len(prompt) if query.top_k else 0):
            check_top(answer.top_logprobs[i], left_to_draw(logprobs[i - 1]), query.top_k)
        assert [len(row) for row in answer.target_logprobs] == [len(row) for row in query.targets]
        for i, (row, values) in enumerate(zip(query.targets, answer.target_logprobs, strict=True)):
            expected = [0.0 if token == -1 else logprobs[i, token].item() for token in row]
            assert values == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize(
    "lora", [LoraConfig(rank=4), LoraConfig(rank=2, lm_head=True)], ids=["layers", "with the head"]
)
def test_prompts_are_scored_as_a_plain_forward_pass_does(
    engine: Engine, plain: Plain, tiny_model: ModelConfig, make_adapter: Make, lora: LoraConfig
) -> None:
    adapter = make_adapter(tiny_model, lora, seed=6, run="scored")
    check_scored(plain, adapter, score_prompts(engine, adapter))
    sequences = [prompt for prompt, _ in ASKED]
    for scores, prompt in zip(asyncio.run(engine.score(sequences, adapter)), sequences, strict=True):
        own = [plain.logprobs(adapter, prompt)[i - 1, prompt[i]].item() for i in range(1, len(prompt))]
        assert scores == pytest.approx(own, abs=TOLERANCE)


def test_a_zero_adapter_is_the_base_model(
    engine: Engine, plain: Plain, tiny_model: ModelConfig, make_adapter: Make, adapter: Adapter
) -> None:
    base = make_adapter(tiny_model, LoraConfig(rank=1), size=0.0, run="base")
    bare: Any = load_adapted(tiny_model, LoraConfig(rank=1)).model
    with torch.no_grad():
        logits = bare(torch.tensor([LONG])).logits[0].double()
    assert torch.equal(plain.logits(base, LONG), logits)
    assert (plain.logits(adapter, LONG) - logits).abs().max() > 0.1, "the adapter could not be told from the base"
    check_scored(plain, base, score_prompts(engine, base))
    for prompt, group in zip(PROMPTS, sample(engine, base), strict=True):
        for completion in group:
            check_drawn(plain, base, prompt, completion, 0, {})


def test_many_targets_in_one_place_are_several_requests_with_one_answer() -> None:
    tokens = tuple(range(2 * MOST_TOKENS + 44))
    query = PromptQuery(targets=((*tokens, -1, 5),))
    scores = Scores.plan([[1, 2]], [query], max_length=8, one_by_one=True)
    assert [len(request.tokens) for request in scores.requests] == [MOST_TOKENS, MOST_TOKENS, 44]
    assert scores.beginnings() == [[1]] * 3
    outputs = [
        SimpleNamespace(outputs=[SimpleNamespace(logprobs=[{t: SimpleNamespace(logprob=-float(t)) for t in r.tokens}])])
        for r in scores.requests
    ]
    (answer,) = scores.answers(outputs)
    assert answer == PromptLogprobs((None, -2.0), (), ((*(-float(t) for t in tokens), 0.0, -5.0),))


# --- many at once ---

UNLIKE: list[dict[str, Any]] = [
    {}, {"temperature": 0}, {"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.2}, {"temperature": 0.5, "top": 2},
    {"top": 5}, {"temperature": 0, "top": 1}, {"max_tokens": 1, "top": 3}, {"max_tokens": 40},
    {"ignore_eos": True, "max_tokens": 30}, {"stop_token_ids": (7, 9)}, {"stop": ("1", "ab")},
    {"temperature": 1.9, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "top": 4}, {"group_size": 1},
]  # fmt: skip
"""With queries in between, calls that share steps of an engine."""


async def _call(engine: Engine, adapter: Adapter, index: int) -> Any:
    if index % 2:
        asked = ASKED[index % len(ASKED) :]
        return await engine.score_prompts([prompt for prompt, _ in asked], adapter, [query for _, query in asked])
    settings = dict(UNLIKE[index // 2])
    top = settings.pop("top", 0)
    sampling = SamplingConfig(**{"group_size": 3, "max_tokens": 12} | settings)
    return await engine.sample(PROMPTS, adapter, sampling, seeds=[index, index + 50, index + 90], top_logprobs=top)


def test_thirty_unlike_calls_at_once_each_get_what_they_would_have_got_alone(
    engine: Engine, plain: Plain, adapter: Adapter
) -> None:
    async def together() -> list[Any]:
        return await asyncio.gather(*(_call(engine, adapter, index) for index in range(30)))

    for index, result in enumerate(asyncio.run(together())):
        if index % 2:
            check_scored(plain, adapter, result, ASKED[index % len(ASKED) :])
            continue
        settings = dict(UNLIKE[index // 2])
        alone = asyncio.run(_call(engine, adapter, index))
        assert [[c.token_ids for c in group] for group in result] == [[c.token_ids for c in group] for group in alone]
        drawn_from = {} if settings.get("temperature") == 0 else settings
        for prompt, group in zip(PROMPTS, result, strict=True):
            for completion in group:
                check_drawn(plain, adapter, prompt, completion, settings.get("top", 0), drawn_from)


def test_vllm_serves_adapters_of_any_rank_and_layers_in_one_batch(
    vllm: RayEngine, plain: Plain, tiny_model: ModelConfig, make_adapter: Make
) -> None:
    """They go up to the engine's highest rank, and prompts of all of them are scored in the same steps."""
    adapters = [make_adapter(tiny_model, lora, seed=i, run=f"run{i}") for i, lora in enumerate(SHAPES.values())]

    async def sampled() -> list[list[list[Completion]]]:
        sampling = SamplingConfig(group_size=3, max_tokens=10)
        return await asyncio.gather(*(vllm.sample(PROMPTS, a, sampling, seeds=[1, 2, 3]) for a in adapters))

    async def scored() -> list[list[PromptLogprobs]]:
        prompts, queries = zip(*ASKED, strict=True)
        return await asyncio.gather(*(vllm.score_prompts(prompts, a, queries) for a in adapters))

    for adapter, groups in zip(adapters, asyncio.run(sampled()), strict=True):
        for prompt, group in zip(PROMPTS, groups, strict=True):
            for completion in group:
                check_drawn(plain, adapter, prompt, completion, 0, {})
    assert (plain.logits(adapters[1], LONG) - plain.logits(adapters[3], LONG)).abs().max() > 0.1
    for adapter, answers in zip(adapters, asyncio.run(scored()), strict=True):
        check_scored(plain, adapter, answers)


# --- refusals ---

BAD_SAMPLES: dict[str, tuple[list[int], dict[str, Any]]] = {
    r"a prompt of 60 tokens with max_tokens = 8 exceeds the maximum context length of 64 tokens: .*lower max_tokens": (
        LONG[:60],
        {},
    ),
    "a prompt is empty": ([], {}),
    "token id 49 in a prompt is none of the model's, which are from 0 to 48": ([5, 49], {}),
    "token id -1 in a prompt": ([5, -1], {}),
    "token id 1000 in stop_token_ids": ([5], {"stop_token_ids": (1000,)}),
    "top_logprobs must be from 0 to 49, .*and is 50": ([5], {"top": 50}),
}
BAD_QUERIES: dict[str, tuple[list[int], PromptQuery]] = {
    "a prompt of 65 tokens exceeds the maximum context length": ([*LONG, 5], PromptQuery()),
    "a prompt is empty": ([], PromptQuery()),
    "token id 99 in a prompt": ([99], PromptQuery()),
    "last_n must be at least 0, and is -1": ([5, 6], PromptQuery(last_n=-1)),
    "top_k must be from 0 to 49": ([5, 6], PromptQuery(top_k=50)),
    "a prompt of 3 tokens needs 2 rows of targets": ([5, 6, 7], PromptQuery(targets=((5,),))),
    "token id -2 in targets": ([5, 6], PromptQuery(targets=((-2,),))),
    "token id 49 in targets": ([5, 6], PromptQuery(targets=((49,),))),
}


@pytest.mark.parametrize("reason", [*BAD_SAMPLES])
def test_a_sampling_call_that_cannot_be_is_refused_in_one_line(engine: Engine, adapter: Adapter, reason: str) -> None:
    prompt, settings = BAD_SAMPLES[reason]
    with pytest.raises(ValueError, match=reason) as refused:
        sample(engine, adapter, prompts=[[5, 6], prompt], **settings)
    assert "\n" not in str(refused.value)
    assert len(sample(engine, adapter)) == len(PROMPTS)


@pytest.mark.parametrize("reason", [*BAD_QUERIES])
def test_a_query_that_is_none_of_its_prompt_is_refused_in_one_line(
    engine: Engine, adapter: Adapter, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        score_prompts(engine, adapter, [([5, 6], PromptQuery()), BAD_QUERIES[reason]])
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="2 prompts need as many queries, and there are 1"):
        asyncio.run(engine.score_prompts([[5], [6]], adapter, [PromptQuery()]))


def test_a_temperature_that_vllm_does_not_have_is_refused_there(
    vllm: RayEngine, reference: TorchEngine, plain: Plain, adapter: Adapter
) -> None:
    with pytest.raises(ValueError, match="vLLM samples at temperatures up to 2, and this is 3: lower it"):
        sample(vllm, adapter, temperature=3.0)
    for prompt, group in zip(PROMPTS, sample(reference, adapter, temperature=3.0), strict=True):
        check_drawn(plain, adapter, prompt, group[0], 0, {"temperature": 3.0})


def test_what_vllm_itself_refuses_fails_its_call_alone(vllm: RayEngine, adapter: Adapter) -> None:
    async def beside() -> tuple[list[list[Completion]], Any]:
        sampling = SamplingConfig(group_size=2, max_tokens=30)
        damaged = Adapter("features", 0, b"no adapter")
        good = vllm.sample(PROMPTS, adapter, sampling, seeds=[1, 2, 3])
        bad = vllm.sample(PROMPTS, damaged, sampling, seeds=[1, 2, 3])
        return tuple(await asyncio.gather(good, bad, return_exceptions=True))  # type: ignore[return-value]

    good, bad = asyncio.run(beside())
    assert [len(group) for group in good] == [2] * len(PROMPTS)
    assert isinstance(bad, ValueError), bad


# --- a worker that scores for long ---


class _Slow(Engine):
    """Works on until it is let go."""

    def __init__(self) -> None:
        self.steps = 0
        self.let_go = asyncio.Event()

    def progress(self) -> int:
        self.steps += 1
        return self.steps

    async def score_prompts(self, prompts: Any, adapter: Any, queries: Any) -> list[PromptLogprobs]:
        await self.let_go.wait()
        return [PromptLogprobs((None,))]


async def test_a_worker_that_scores_for_long_says_so_and_answers_once() -> None:
    actor = EngineActor()
    actor._engine = slow = _Slow()
    heard: list[Any] = []
    async for each in actor.score_prompts([[5]], Adapter("run", 0, b""), [PromptQuery()], 0.01):
        heard.append(each)
        if len(heard) == 3:
            slow.let_go.set()
    assert heard[:3] == [None] * 3
    assert heard[-1] == [PromptLogprobs((None,))]
    assert len([each for each in heard if each is not None]) == 1


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.0}, {"ignore_eos": True, "max_tokens": 20}, {"stop": ("a", "7"), "max_tokens": 40}],
    ids=["sampled", "greedy", "long", "stopped"],
)
def test_parts_are_what_is_sampled_at_once(engine: Engine, adapter: Adapter, settings: dict[str, Any]) -> None:
    sampling = SamplingConfig(**{"group_size": 3, "max_tokens": 8} | settings)

    async def parts() -> list[CompletionPart]:
        stream = engine.stream_parts(PROMPTS[0], adapter, sampling, seed=3, top_logprobs=2)
        return [part async for part in stream]

    async def joined_parts() -> list[CompletionPart]:
        stream = engine.stream_parts(PROMPTS[0], adapter, sampling, seed=3, top_logprobs=2)
        return sorted([part async for part in joined(stream)], key=lambda part: part.index)

    (whole,) = sample(engine, adapter, prompts=[PROMPTS[0]], seed=3, top=2, **{"group_size": 3} | settings)
    together = asyncio.run(joined_parts())
    assert [(part.token_ids, part.text, part.finish_reason, part.policy_version) for part in together] == [
        (each.token_ids, each.text, each.finish_reason, each.policy_version) for each in whole
    ]
    for part, each in zip(together, whole, strict=True):
        assert part.logprobs == pytest.approx(each.logprobs, abs=1e-6)
        assert [[token for token, _ in row] for row in part.top_logprobs] == [
            [token for token, _ in row] for row in each.top_logprobs
        ]
    assert all(len(part.token_ids) <= 2 for part in asyncio.run(parts()))


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.0}, {"max_tokens": 40}], ids=["sampled", "greedy", "of different lengths"]
)
def test_completions_come_as_they_end_and_are_what_is_sampled_at_once(
    engine: Engine, adapter: Adapter, settings: dict[str, Any]
) -> None:
    sampling = SamplingConfig(**{"group_size": 4, "max_tokens": 8} | settings)

    async def streamed() -> list[tuple[Place, Completion]]:
        return [each async for each in engine.stream_completions(PROMPTS, adapter, sampling, seeds=[7, 107, 207])]

    completions = asyncio.run(streamed())
    groups = sample(engine, adapter, **settings)
    assert sorted(place for place, _ in completions) == [(i, k) for i in range(len(PROMPTS)) for k in range(4)]
    for (index, place), completion in completions:
        at_once = groups[index][place]
        assert (completion.token_ids, completion.text) == (at_once.token_ids, at_once.text)
        assert completion.logprobs == pytest.approx(at_once.logprobs, abs=1e-6)
    lengths = [len(completion.token_ids) for _, completion in completions]
    if isinstance(engine, RayEngine):  # the torch engine hands over all of a call together
        assert lengths == sorted(lengths)


def test_a_prompts_completions_are_the_same_where_others_are_left_out(engine: Engine, adapter: Adapter) -> None:
    """So that a pool may divide a prompt."""
    sampling, places = SamplingConfig(group_size=4, max_tokens=8), [(1, 3), (), (0, 1, 2, 3)]

    async def streamed() -> dict[Place, Completion]:
        stream = engine.stream_places(PROMPTS, adapter, sampling, seeds=[7, 107, 207], places=places)
        return dict([each async for each in stream])

    completions = asyncio.run(streamed())
    groups = sample(engine, adapter)
    assert sorted(completions) == [(index, place) for index, those in enumerate(places) for place in those]
    for (index, place), completion in completions.items():
        assert completion.token_ids == groups[index][place].token_ids
        assert completion.logprobs == pytest.approx(groups[index][place].logprobs, abs=3e-6)


def test_what_cannot_be_sampled_is_refused_before_the_first_part(engine: Engine, adapter: Adapter) -> None:
    async def first() -> object:
        return await anext(engine.stream_parts([3] * 60, adapter, SamplingConfig(max_tokens=60), seed=0))

    with pytest.raises(ValueError, match="context"):
        asyncio.run(first())
