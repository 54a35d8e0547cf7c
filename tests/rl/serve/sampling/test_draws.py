"""Requests for samples on their way to an engine: turns, shared calls, and those that nobody waits for any more."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import pytest

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rl.serve.sampling.draws import Ask, Draws, Sampled
from rollout.config import SamplingConfig
from rollout.threaded_engine import ThreadedEngine
from rollout.torch.engine import TorchEngine
from rollout.types import Completion, Engine, PromptLogprobs, PromptQuery

ADAPTER = Adapter("run", 0, b"")
SAMPLING = SamplingConfig(group_size=1, max_tokens=4)


class Held(Engine):
    """Answers when it is let go, and knows what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.seeds: list[int] = []
        self.go = asyncio.Event()
        self.cancelled = 0

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> list[list[Completion]]:  # fmt: skip
        self.calls.append([prompt[0] for prompt in prompts])
        self.seeds += seeds
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if any(prompt[0] == 13 for prompt in prompts):
            raise ValueError("13 is no good")
        return [[Completion((prompt[0],), (0.0,), "", "stop", 0)] for prompt in prompts]

    async def score_prompts(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, queries: Sequence[PromptQuery]
    ) -> list[PromptLogprobs]:
        return [PromptLogprobs((None, float(prompt[0])), (), ()) for prompt in prompts]

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        raise NotImplementedError

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def close(self) -> None:
        """Do nothing."""


async def begin(draws: Draws, *asks: tuple[str, Ask]) -> "list[asyncio.Task[Sampled]]":
    tasks: list[asyncio.Task[Sampled]] = []
    for user, ask in asks:
        tasks.append(asyncio.ensure_future(draws.draw(user, ask)))
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def ask(token: int, **more: object) -> Ask:
    return Ask([token, 1], ADAPTER, SAMPLING, **more)  # pyright: ignore[reportArgumentType]


async def test_a_users_long_queue_keeps_no_other_user_waiting() -> None:
    engine = Held()
    draws = Draws(engine, calls=1)
    tasks = await begin(draws, *(("long", ask(token)) for token in (1, 2, 3, 4)), ("other", ask(9)))
    engine.go.set()
    await asyncio.gather(*tasks)
    assert engine.calls == [[1], [2], [9], [3], [4]]


async def test_requests_without_a_seed_share_a_call_and_each_gets_its_own() -> None:
    engine = Held()
    draws = Draws(engine, calls=1, most_shared=3)
    query = PromptQuery()
    asks = [ask(1), ask(2), ask(3, seed=7), ask(4, query=query), ask(5), Ask([6], ADAPTER, SAMPLING), ask(7)]
    tasks = await begin(draws, *(("user", each) for each in asks))
    engine.go.set()
    sampled = [await task for task in tasks]
    assert engine.calls == [[1], [2, 4, 5], [3], [6], [7]]  # no seed, no other length; three at most
    assert engine.seeds.count(7) == 1
    assert len(set(engine.seeds)) == 7
    assert [each.completions[0].token_ids[0] for each in sampled] == [1, 2, 3, 4, 5, 6, 7]
    assert [each.prompt and each.prompt.logprobs[1] for each in sampled] == [None] * 3 + [4.0] + [None] * 3


async def test_what_is_wrong_with_one_request_is_nothing_to_those_that_share_its_call() -> None:
    engine = Held()
    draws = Draws(engine, calls=1, most_shared=8)
    tasks = await begin(draws, *(("user", ask(token)) for token in (1, 2, 13, 3)))
    engine.go.set()
    with pytest.raises(ValueError, match="no good"):
        await tasks.pop(2)
    assert [(await task).completions[0].token_ids for task in tasks] == [(1,), (2,), (3,)]


async def test_a_call_ends_when_nobody_waits_for_it_any_more_and_makes_room() -> None:
    engine = Held()
    draws = Draws(engine, calls=1, most_shared=8)
    first, second, third, fourth = await begin(draws, *(("user", ask(token)) for token in (1, 2, 3, 4)))
    second.cancel()  # while it waits
    first.cancel()
    for _ in range(8):
        await asyncio.sleep(0)
    assert engine.cancelled == 1
    assert engine.calls == [[1], [3, 4]]
    third.cancel()  # whose call goes on for the fourth
    engine.go.set()
    assert (await fourth).completions[0].token_ids == (4,)
    assert engine.cancelled == 1


@pytest.fixture
def adapter(tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]) -> Adapter:
    return make_adapter(tiny_model, LoraConfig(rank=1))


@pytest.fixture
async def engines(tiny_model: ModelConfig) -> AsyncGenerator[tuple[Engine, Engine]]:
    plain = TorchEngine(tiny_model, LoraConfig(rank=1))
    threaded = await ThreadedEngine.start(lambda: TorchEngine(tiny_model, LoraConfig(rank=1)))
    yield plain, threaded
    await threaded.close()


async def test_an_engine_on_a_thread_says_what_it_says_elsewhere(
    engines: tuple[Engine, Engine], adapter: Adapter
) -> None:
    prompts, sampling = [[5, 6, 7], [8, 9]], SamplingConfig(group_size=2, max_tokens=6)
    answers: list[object] = []
    for engine in engines:
        stream = engine.stream_parts(prompts[0], adapter, sampling, seed=3)
        async with aclosing(stream) as parts:
            streamed = [part async for part in parts]
        answers.append((
            await engine.sample(prompts, adapter, sampling, seeds=[1, 2]),
            await engine.score(prompts, adapter),
            await engine.score_prompts(prompts, adapter, [PromptQuery(top_k=2)] * 2),
            streamed,
        ))  # fmt: skip
    assert answers[0] == answers[1]


async def test_an_engine_on_a_thread_refuses_and_is_cancelled_like_another(
    engines: tuple[Engine, Engine], adapter: Adapter
) -> None:
    _, threaded = engines
    with pytest.raises(ValueError, match="context length"):
        await threaded.sample([[5]], adapter, SamplingConfig(max_tokens=100), seeds=[1])
    sampling = SamplingConfig(max_tokens=60, ignore_eos=True)
    long = asyncio.ensure_future(threaded.sample([[5]], adapter, sampling, seeds=[1]))
    await asyncio.sleep(0.01)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    assert len(await threaded.score([[5, 6]], adapter)) == 1
