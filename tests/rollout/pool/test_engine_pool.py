"""Workers die in every way there is, and every prompt is answered exactly once, with what it would have got anyway."""

import asyncio
import itertools
import os
import random
import re
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.torch_learner import TorchLearner
from ray.exceptions import OutOfMemoryError, RayError

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rl.algorithm.liveness import PolicyChecker, Reference, StalePolicyError
from rl.config import LearnerConfig, LivenessConfig
from rollout.config import RolloutConfig, SamplingConfig
from rollout.pool.engine_pool import EnginePool
from rollout.ray.actor import EngineActor
from rollout.ray.engine import AdapterStore, RayEngine
from rollout.ray.errors import describe_death
from rollout.ray.placement import ActorPlacement
from rollout.torch.engine import TorchEngine
from rollout.types import Completion, CompletionPart, Engine, EngineDied, Place, PromptLogprobs, PromptQuery

SAMPLING = SamplingConfig(group_size=2, max_tokens=4)
ADAPTER = Adapter("run", 3, b"")


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollout.pool.engine_pool.BACK_OFF", (0.0,))


class Mortal(Engine):
    """Answers a prompt with its own tokens, and dies after `answers` answers."""

    def __init__(self, answers: int | None = None) -> None:
        self.answers = answers
        self.given: list[int] = []
        self.closed = False

    async def stream(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> AsyncGenerator[tuple[int, list[Completion]]]:
        order = list(range(len(prompts)))
        random.Random(len(prompts)).shuffle(order)  # who is done first is nobody's business
        for index in order:
            await asyncio.sleep(0)
            if self.answers is not None and len(self.given) >= self.answers:
                raise EngineDied("it died")
            self.given.append(seeds[index])
            yield index, [Completion((*prompts[index], seeds[index]), (), "", "stop", adapter.version)]

    async def stream_completions(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        places = [(index, place) for index in range(len(prompts)) for place in range(sampling.group_size)]
        random.Random(len(prompts)).shuffle(places)
        for index, place in places:
            await asyncio.sleep(0)
            if self.answers is not None and len(self.given) >= self.answers:
                raise EngineDied("it died")
            self.given.append(seeds[index])
            yield (index, place), Completion((*prompts[index], place), (), "", "stop", adapter.version)

    async def stream_parts(
        self, prompt: Sequence[int], adapter: Adapter, sampling: SamplingConfig, *, seed: int, top_logprobs: int = 0
    ) -> AsyncGenerator[CompletionPart]:
        for place, token in enumerate(prompt):
            await asyncio.sleep(0)
            if self.answers is not None and len(self.given) >= self.answers:
                raise EngineDied("it died")
            self.given.append(token)
            yield CompletionPart(0, (token,), (), "", "stop" if place + 1 == len(prompt) else None, adapter.version)

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        if self.answers is not None and len(self.given) >= self.answers:
            raise EngineDied("it died")
        return [[-1.0] * (len(sequence) - 1) for sequence in sequences]

    async def score_prompts(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, queries: Sequence[PromptQuery]
    ) -> list[PromptLogprobs]:
        await asyncio.sleep(0)
        if self.answers is not None and len(self.given) + len(prompts) > self.answers:
            raise EngineDied("it died")
        self.given += [prompt[0] for prompt in prompts]
        return [PromptLogprobs((float(prompt[0]), query.top_k)) for prompt, query in zip(prompts, queries, strict=True)]

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def close(self) -> None:
        self.closed = True


def reborn(*engines: Engine) -> Callable[[int], Awaitable[Engine]]:
    """Starts these, one after another, and then no more."""
    left = list(engines)

    async def start(_: int) -> Engine:
        if not left:
            raise EngineDied("no more")
        return left.pop(0)

    return start


async def ask(pool: Engine, count: int = 12) -> None:
    """Every prompt comes back, at its place, once."""
    prompts, seeds = [[i, 7] for i in range(count)], [100 + i for i in range(count)]
    groups = await pool.sample(prompts, ADAPTER, SAMPLING, seeds=seeds)
    assert [group[0].token_ids for group in groups] == [(i, 7, 100 + i) for i in range(count)]


@pytest.mark.parametrize("deaths", [(0, None), (3, None), (0, 0, None), (1, 2, 3, None), (None, 2, None)])
async def test_what_dead_workers_left_goes_to_the_others_and_nothing_is_answered_twice(
    deaths: tuple[int | None, ...],
) -> None:
    engines = [Mortal(answers) for answers in deaths]
    pool = EnginePool(engines)
    await ask(pool)
    assert sorted(seed for engine in engines for seed in engine.given) == list(range(100, 112))
    assert pool.replicas() == [engine for engine in engines if engine.answers is None]


@pytest.mark.parametrize("seed", range(20))
async def test_any_pattern_of_deaths_and_restarts_loses_nothing(seed: int) -> None:
    rng = random.Random(seed)

    def engines(count: int) -> list[Mortal]:
        return [Mortal(rng.choice([0, 1, 2, 5])) for _ in range(count)]

    first, later = engines(3), [*engines(2), *[Mortal() for _ in range(3)]]
    pool = EnginePool(first, reborn(*later), max_restarts=3)
    for _ in range(3):
        await ask(pool, 9)
    assert len([seed for engine in (*first, *later) for seed in engine.given]) == 27
    await pool.close()


@pytest.mark.parametrize("deaths", [(None,), (0, None), (3, None), (0, 7, None), (None, 2, None), (5, 5, None)])
async def test_each_completion_comes_once_and_in_its_place_whoever_dies(deaths: tuple[int | None, ...]) -> None:
    engines = [Mortal(answers) for answers in deaths]
    pool = EnginePool(engines)
    prompts, seeds = [[i, 7] for i in range(12)], [100 + i for i in range(12)]
    stream = pool.stream_completions(prompts, ADAPTER, SAMPLING, seeds=seeds)
    completions = [each async for each in stream]
    assert sorted((place, completion.token_ids) for place, completion in completions) == [
        ((i, place), (i, 7, place)) for i in range(12) for place in range(2)
    ]
    assert pool.replicas() == [engine for engine in engines if engine.answers is None]
    with pytest.raises(EngineDied, match=r"rollout\.max_restarts is used up"):
        _ = [
            each
            async for each in EnginePool([Mortal(3)]).stream_completions([[1], [2]], ADAPTER, SAMPLING, seeds=[1, 2])
        ]


@pytest.mark.parametrize("deaths", [(None,), (0, None), (3, None), (0, 0, None), (None, 2, None)])
async def test_prompts_are_scored_once_each_with_its_own_query_whoever_dies(deaths: tuple[int | None, ...]) -> None:
    engines = [Mortal(answers) for answers in deaths]
    pool = EnginePool(engines)
    answers = await pool.score_prompts([[i, 7] for i in range(12)], ADAPTER, [PromptQuery(top_k=i) for i in range(12)])
    assert answers == [PromptLogprobs((float(i), i)) for i in range(12)]
    assert sorted(prompt for engine in engines for prompt in engine.given) == list(range(12))
    assert pool.replicas() == [engine for engine in engines if engine.answers is None]
    with pytest.raises(EngineDied):
        await EnginePool([Mortal(0)]).score_prompts([[5]], ADAPTER, [PromptQuery()])
    with pytest.raises(ValueError, match="2 prompts need as many queries, and there are 1"):
        await pool.score_prompts([[5], [6]], ADAPTER, [PromptQuery()])


async def test_calls_of_a_single_prompt_keep_every_worker_busy() -> None:
    engines = [Mortal() for _ in range(3)]
    pool = EnginePool(engines)
    for seed in range(9):
        await pool.sample([[1]], ADAPTER, SAMPLING, seeds=[seed])
        await pool.score_prompts([[seed]], ADAPTER, [PromptQuery()])
    assert [len(engine.given) for engine in engines] == [6, 6, 6]


async def test_a_worker_is_let_in_before_it_serves_and_one_that_is_refused_ends_the_run() -> None:
    async def refuse(_: Engine) -> None:
        raise StalePolicyError("a liar")

    async def welcome(engine: Engine) -> None:
        welcomed.append(engine)

    welcomed: list[Engine] = []
    new = Mortal()
    await ask(EnginePool([Mortal(2)], reborn(new), welcome, max_restarts=1))
    assert welcomed == [new]
    liar = Mortal()
    with pytest.raises(StalePolicyError, match="a liar"):
        await ask(EnginePool([Mortal(2)], reborn(liar), refuse, max_restarts=1))
    assert liar.closed
    assert liar.given == []


async def test_a_worker_that_only_dies_is_given_up_and_the_last_ones_end_is_an_error() -> None:
    with pytest.raises(EngineDied, match=r"rollout\.max_restarts is used up"):
        await ask(EnginePool([Mortal(0)], reborn(Mortal(0), Mortal()), max_restarts=1))
    with pytest.raises(EngineDied, match=r"rollout\.max_restarts is used up"):
        await ask(EnginePool([Mortal(4)]))


async def test_a_mistake_is_no_death_and_stops_the_others() -> None:
    class Mistaken(Mortal):
        async def stream(self, *_: Any, **__: Any) -> AsyncGenerator[tuple[int, list[Completion]]]:
            raise ValueError("a prompt that is too long")
            yield

    other = Mortal()
    with pytest.raises(ValueError, match="too long"):
        await ask(EnginePool([Mistaken(), other], reborn(Mortal()), max_restarts=9))
    answered = len(other.given)
    await asyncio.sleep(0.01)
    assert len(other.given) == answered < 6


async def test_a_worker_whose_start_is_refused_after_a_death_is_tried_again() -> None:
    """Its place's memory may still be held by the dead one."""
    refusals = [ValueError("vLLM could not start: no memory")] * 2

    async def start(_: int) -> Engine:
        if refusals:
            raise refusals.pop()
        return new

    new = Mortal()
    await ask(EnginePool([Mortal(2)], start, max_restarts=3))
    assert len(new.given) == 10
    refusals = [ValueError("vLLM could not start: no memory")] * 9
    with pytest.raises(EngineDied, match=r"max_restarts is used up.*--resume.*no memory"):
        await ask(EnginePool([Mortal(2)], start, max_restarts=3))


async def test_restarts_in_a_row_are_further_and_further_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollout.pool.engine_pool.BACK_OFF", (0.0, 0.05, 0.2))
    started: list[float] = []

    async def start(_: int) -> Engine:
        started.append(time.monotonic())
        raise EngineDied("it died")

    begun = time.monotonic()
    with pytest.raises(EngineDied):
        await ask(EnginePool([Mortal(0)], start, max_restarts=4))
    pauses = [after - before for before, after in itertools.pairwise([begun, *started])]
    assert [pause >= least for pause, least in zip(pauses, (0.0, 0.05, 0.2, 0.2), strict=True)] == [True] * 4


class Paced(Mortal):
    """Ends completions when it is told to, the first that it was given first."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: list[tuple[int, int]] = []
        self.most = 0
        self.steps = asyncio.Semaphore(0)

    def end(self, count: int) -> None:
        for _ in range(count):
            self.steps.release()

    async def stream_completions(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        every = [range(sampling.group_size)] * len(prompts)
        async for each in self.stream_places(prompts, adapter, sampling, seeds=seeds, places=every):
            yield each

    async def stream_places(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int],
        places: Sequence[Sequence[int]],
    ) -> AsyncGenerator[tuple[Place, Completion]]:  # fmt: skip
        mine = [(index, place) for index in range(len(prompts)) for place in places[index]]
        self.under_way += [(prompts[index][0], place) for index, place in mine]
        self.most = max(self.most, len(self.under_way))
        for index, place in mine:
            await self.steps.acquire()
            self.under_way.remove((prompts[index][0], place))
            self.given.append(seeds[index])
            yield (index, place), Completion((*prompts[index], place), (), "", "stop", adapter.version)


async def passed() -> None:
    """Let everything go on as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def streamed(pool: Engine, prompts: Sequence[Sequence[int]], sampling: SamplingConfig) -> dict[Place, Completion]:
    """Return each completion at its place, of which none may come twice."""
    stream = pool.stream_completions(prompts, ADAPTER, sampling, seeds=[100 + i for i in range(len(prompts))])
    completions = [each async for each in stream]
    assert len(dict(completions)) == len(completions)
    return dict(completions)


async def test_no_worker_idles_while_another_has_more_than_it_can_write_at_once() -> None:
    """Twelve prompts of two completions; a worker writes four at once, and the slow one ends nothing."""
    slow, quick = Paced(), Paced()
    pool = EnginePool([slow, quick], max_concurrent=4)
    call = asyncio.create_task(streamed(pool, [[i] for i in range(12)], SAMPLING))
    await passed()
    assert [len(slow.under_way), len(quick.under_way)] == [4, 4]
    for _ in range(20):
        quick.end(1)
        await passed()
        assert quick.under_way or len(quick.given) == 20
    assert len(slow.under_way) == 4
    slow.end(4)
    assert len(await call) == 24
    assert max(slow.most, quick.most) <= 5, "a prompt may have one completion more than there is room for"


async def test_what_is_cancelled_is_counted_no_more_and_leaves_its_room_to_others() -> None:
    engine = Paced()
    pool = EnginePool([engine], max_concurrent=4)
    for reached in (0, 1, 2, 20):  # turns of the event loop: before its tasks have begun, and afterwards
        call = asyncio.create_task(streamed(pool, [[i] for i in range(12)], SAMPLING))
        for _ in range(reached):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        await passed()
        engine.under_way.clear()
    call = asyncio.create_task(streamed(pool, [[i] for i in range(2)], SAMPLING))
    await passed()
    assert len(engine.under_way) == 4
    engine.end(4)
    assert len(await call) == 4


async def test_the_worker_with_the_fewest_tokens_waiting_is_given_the_next_prompt() -> None:
    engines = [Paced() for _ in range(2)]
    pool = EnginePool(engines)
    prompts = [[0] * 100, [1], [2], [3], [4]]
    call = asyncio.create_task(streamed(pool, prompts, SAMPLING))
    await passed()
    assert [{prompt for prompt, _ in engine.under_way} for engine in engines] == [{0}, {1, 2, 3, 4}]
    for engine in engines:
        engine.end(10)
    assert len(await call) == 10


@pytest.mark.parametrize(
    ("prompts", "workers", "shares"), [(1, 3, [3, 3, 2]), (2, 5, [2, 3, 3, 4, 4]), (4, 4, [8] * 4)]
)
async def test_a_prompt_is_divided_where_workers_would_idle_and_nowhere_else(
    prompts: int, workers: int, shares: list[int]
) -> None:
    engines = [Paced() for _ in range(workers)]
    pool = EnginePool(engines)
    sampling = SamplingConfig(group_size=8, max_tokens=4)
    call = asyncio.create_task(streamed(pool, [[i] for i in range(prompts)], sampling))
    await passed()
    assert sorted(len(engine.under_way) for engine in engines) == sorted(shares)
    for engine in engines:
        engine.end(99)
    completions = await call
    assert {place: each.token_ids for place, each in completions.items()} == {
        (i, place): (i, place) for i in range(prompts) for place in range(8)
    }
    greedy = asyncio.create_task(streamed(pool, [[0]], SamplingConfig(group_size=8, max_tokens=4, temperature=0.0)))
    assert len(await greedy) == 8
    assert sum(len(engine.given) for engine in engines) == 8 * prompts + 8


@pytest.mark.parametrize("seed", range(20))
async def test_any_pattern_of_deaths_loses_no_completion_of_a_divided_prompt(seed: int) -> None:
    rng = random.Random(seed)
    first = [Mortal(rng.choice([0, 1, 2, 5])) for _ in range(4)]
    pool = EnginePool(first, reborn(*(Mortal(1) for _ in range(2)), Mortal()), max_restarts=3, max_concurrent=3)
    sampling = SamplingConfig(group_size=8, max_tokens=4)
    completions = await streamed(pool, [[i, 7] for i in range(rng.choice([1, 2, 3, 9]))], sampling)
    assert all(each.token_ids == (index, 7, place) for (index, place), each in completions.items())
    assert len(completions) % 8 == 0
    await pool.close()


async def test_a_divided_prompts_completions_are_those_of_one_worker(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    class Counted(TorchEngine):
        written = 0

        async def stream_places(self, *arguments: Any, **named: Any) -> AsyncGenerator[tuple[Place, Completion]]:
            async for each in super().stream_places(*arguments, **named):
                self.written += 1
                yield each

    engines = [Counted(tiny_model, LORA) for _ in range(2)]
    adapter, sampling = make_adapter(tiny_model, LORA, version=4), SamplingConfig(group_size=5, max_tokens=6)
    (group,) = await engines[0].sample(PROMPTS[:1], adapter, sampling, seeds=[2**40 + 7])
    stream = EnginePool(engines).stream_completions(PROMPTS[:1], adapter, sampling, seeds=[2**40 + 7])
    completions = dict([each async for each in stream])
    assert [engine.written for engine in engines] == [2, 3]
    for place, whole in enumerate(group):
        assert completions[0, place].token_ids == whole.token_ids
        assert completions[0, place].logprobs == pytest.approx(whole.logprobs, abs=3e-6)


# --- real workers ---

LORA = LoraConfig(rank=2)
PROMPTS = [[5 + i % 20, 9, 3 + i % 7] for i in range(16)]
SEEDS = [1000 + i for i in range(16)]


class Workers:
    """Real actors with the torch engine, and the processes behind them."""

    def __init__(self, model: ModelConfig, stall_timeout: float = 60.0) -> None:
        self.model = model
        self.started: list[RayEngine] = []
        self.config = RolloutConfig(engine="torch", stall_timeout=stall_timeout)
        self.store = AdapterStore()

    async def start(self, _: int = 0) -> RayEngine:
        engine = await RayEngine.start(self.model, LORA, self.config, self.store, seed=0, place=ActorPlacement(1))
        self.started.append(engine)
        return engine

    async def pool(self, count: int, **options: Any) -> EnginePool:
        first = await asyncio.gather(*(self.start() for _ in range(count)))
        return EnginePool(first, self.start, max_restarts=3, **options)


async def settled(pool: EnginePool, workers: int) -> None:
    """Restarts go on beside the work: wait for them."""
    for _ in range(600):
        if len(pool.replicas()) == workers:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the dead workers were not replaced")


def tokens(groups: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    assert {completion.policy_version for group in groups for completion in group} == {4}
    return [[completion.token_ids for completion in group] for group in groups]


@pytest.mark.usefixtures("ray_cluster")
async def test_workers_that_are_killed_or_silent_cost_no_prompt_and_change_no_completion(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    """One of two is killed; then both go at once, one killed and one silent. Each new one shows the policy before it
    serves."""
    adapter = make_adapter(tiny_model, LORA, version=4)
    expected = tokens(await TorchEngine(tiny_model, LORA).sample(PROMPTS, adapter, SAMPLING, seeds=SEEDS))
    learner = TorchLearner("gate", tiny_model, LORA, LearnerConfig(), temperature=1.0, seed=0)
    checker = PolicyChecker(LivenessConfig().tolerance, await Reference.measure(learner, adapter, None, PROMPTS))
    let_in: list[Engine] = []

    async def admit(engine: Engine) -> None:
        await checker.check_restarted(engine)
        let_in.append(engine)

    workers = Workers(tiny_model)
    pool = await workers.pool(2, admit=admit)

    async def sampled_while(killed: RayEngine, silent: RayEngine | None = None) -> list[list[tuple[int, ...]]]:
        """Return the outcome of sampling while these two end."""
        pid = await killed.pid()
        pids = [pid] if silent is None else [pid, await silent.pid()]
        for each in pids:
            os.kill(each, signal.SIGSTOP)  # so that it is surely at work when it ends
        sampling = asyncio.ensure_future(pool.sample(PROMPTS, adapter, SAMPLING, seeds=SEEDS))
        await asyncio.sleep(1)
        assert not sampling.done()
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(120):
            found = tokens(await sampling)
        assert await gone(pids), "a stalled worker must not keep its memory or GPU"
        return found

    try:
        first, second = workers.started
        assert await sampled_while(first) == expected
        await settled(pool, 2)
        silent = workers.started[2]
        silent._stall_timeout = 2  # pyright: ignore[reportPrivateUsage]
        assert await sampled_while(second, silent) == expected
        await settled(pool, 2)
        assert (len(workers.started), set(let_in)) == (5, set(workers.started[2:]))
    finally:
        await pool.close()


async def test_a_score_that_waits_for_completions_is_no_silence(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    """The torch engine does one thing after another, and rollouts of coming steps may be long. So a worker is asked for
    scores as it is for completions: it says meanwhile that it is at work."""
    adapter, engine, worker = make_adapter(tiny_model, LORA, version=4), TorchEngine(tiny_model, LORA), EngineActor()
    worker._engine = engine
    prompts, sampling = PROMPTS[:2], SamplingConfig(group_size=2, max_tokens=60)
    writing = asyncio.ensure_future(engine.sample(prompts, adapter, sampling, seeds=SEEDS[:2]))
    await asyncio.sleep(0)
    said = [each async for each in worker.score_prompts(prompts, adapter, [PromptQuery()] * 2, 0.01)]
    assert writing.done()
    assert said[0] is None
    assert [list(answer.logprobs[1:]) for answer in said[-1] or ()] == await engine.score(prompts, adapter)
    assert not hasattr(worker, "score"), "which would say nothing until its answer is there"


async def gone(pids: Sequence[int]) -> bool:
    """Return True if these processes end soon."""
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        await asyncio.sleep(0.1)
    return False


SHORT_OF_MEMORY = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.7, ID: \
9ccd289aa70af943e9e11e42ea063d2693c6e5e7390de6327663872a) was 22.11GB used / 23.54GB limit (0.939276)
OOM kill reason: Memory usage 24056627200B exceeded threshold of 24012687360B (95.0% of 25276514304B limit)
Object store memory usage: [- objects spillable: 4
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/en/latest/. Consider \
provisioning more memory on this node."""
"""Ray's own words (2.60), shortened."""


def test_a_worker_that_ray_ended_for_its_nodes_memory_is_said_to_be_that() -> None:
    said = describe_death(OutOfMemoryError(SHORT_OF_MEMORY))
    assert said == "Ray ended it because its node 10.0.0.7 was short of memory, 22.11GB of 23.54GB in use"


@pytest.mark.usefixtures("ray_cluster")
def test_a_process_that_died_where_rays_disk_is_full_is_said_to_have(monkeypatch: pytest.MonkeyPatch) -> None:
    died = RayError("The actor died.\nWorker unexpectedly exits with a connection error code 2. End of file.")
    assert describe_death(died) == "Worker unexpectedly exits with a connection error code 2. End of file."
    whole = shutil.disk_usage("/tmp").total
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=whole, free=int(whole * 0.04)))
    assert re.search(
        r"End of file\. \(this node's disk below /.*session_.* is full, .*make room there", describe_death(died)
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Path("/no such directory").stat())
    assert describe_death(died) == "Worker unexpectedly exits with a connection error code 2. End of file."


async def test_parts_go_to_another_worker_until_the_first_one_was_written() -> None:
    """Afterwards the caller hears of the death: another worker might go on differently."""
    pool = EnginePool([Mortal(0), Mortal(0), Mortal(3)], reborn(), max_restarts=0)

    async def tokens() -> list[int]:
        stream = pool.stream_parts([4, 5], ADAPTER, SAMPLING, seed=1)
        return [token async for part in stream for token in part.token_ids]

    assert await tokens() == [4, 5]
    with pytest.raises(EngineDied, match="it died"):
        await tokens()


async def test_calls_of_few_prompts_keep_every_worker_busy() -> None:
    workers = [Mortal() for _ in range(6)]
    pool = EnginePool(workers, reborn(), max_restarts=0)
    sampling = SamplingConfig(group_size=1, max_tokens=1)
    for call in range(3):
        seeds = [2 * call, 2 * call + 1]
        await pool.sample([[1], [2]], Adapter("run", 0, b""), sampling, seeds=seeds)
    assert [worker.given for worker in workers] == [[seed] for seed in range(6)]
