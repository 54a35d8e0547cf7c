"""Parts of completions, put together and merged: nothing is lost, and streams that nobody reads to the end are closed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from rollout.calls.streams import batched, joined, merged, relayed
from rollout.types import CompletionPart


def part(index: int, token: int, *, last: bool = False) -> CompletionPart:
    return CompletionPart(
        index, (token,), (-float(token),), str(token), "stop" if last else None, 3, (((token, -1.0),),)
    )


async def stream(*parts: CompletionPart, closed: list[int] | None = None) -> AsyncGenerator[CompletionPart]:
    try:
        for each in parts:
            await asyncio.sleep(0)
            yield each
    finally:
        if closed is not None:
            closed.append(len(parts))


async def test_completions_are_joined_as_they_end() -> None:
    mixed = stream(part(0, 1), part(1, 2), part(1, 3, last=True), part(0, 4, last=True))
    first, second = [each async for each in joined(mixed)]
    assert first == CompletionPart(1, (2, 3), (-2.0, -3.0), "23", "stop", 3, (((2, -1.0),), ((3, -1.0),)))
    assert (second.index, second.token_ids) == (0, (1, 4))


async def test_streams_are_merged_and_each_keeps_its_order() -> None:
    streams = [stream(*(part(0, 10 * place + step) for step in range(4))) for place in range(3)]
    tokens: list[list[int]] = [[], [], []]
    async for place, each in merged(streams):
        tokens[place] += each.token_ids
    assert tokens == [[10 * place + step for step in range(4)] for place in range(3)]


@pytest.mark.parametrize("read", [0, 1, 5])
async def test_streams_are_closed_with_their_reader(read: int) -> None:
    closed: list[int] = []
    streams = [stream(*(part(0, step) for step in range(5)), closed=closed) for _ in range(2)]
    together = merged(streams)
    for _ in range(read):
        await anext(together)
    await together.aclose()
    assert len(closed) == (2 if read else 0)


async def test_the_failure_of_one_stream_is_its_readers() -> None:
    async def failing() -> AsyncGenerator[CompletionPart]:
        yield part(0, 1)
        raise ValueError("broken")

    closed: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        async for _ in merged([failing(), stream(*(part(0, step) for step in range(50)), closed=closed)]):
            pass
    assert closed == [50]


async def test_what_comes_together_is_one_batch_and_the_last_one_waits_for_nothing() -> None:
    """The pauses are an hour, so that a batch which waited for more would never come."""
    hour, gate = 3600.0, asyncio.Event()

    async def numbers() -> AsyncGenerator[int]:
        yield 1
        yield 2
        await gate.wait()
        yield 3

    async with asyncio.timeout(60), aclosing(batched(numbers(), 0.01)) as batches:
        assert await anext(batches) == [1, 2]
        gate.set()
        assert [batch async for batch in batches] == [[3]]
    async with asyncio.timeout(60), aclosing(batched(numbers(), hour)) as batches:
        assert [batch async for batch in batches] == [[1, 2, 3]]


async def test_a_failure_comes_behind_what_was_there_before_it() -> None:
    closed: list[bool] = []

    async def failing() -> AsyncGenerator[int]:
        try:
            yield 1
            await asyncio.sleep(0.02)
            raise ValueError("broken")
        finally:
            closed.append(True)

    batches = batched(failing(), 0.0)
    assert await anext(batches) == [1]
    with pytest.raises(ValueError, match="broken"):
        await anext(batches)
    assert closed == [True]


@pytest.mark.parametrize("read", [False, True])
async def test_work_whose_items_are_relayed_ends_with_their_reader(read: bool) -> None:
    """Read to the end, its failure is its reader's; left in the midst of it, it is cancelled."""
    items, ended = asyncio.Queue[int](), list[str]()

    async def work() -> None:
        try:
            items.put_nowait(1)
            items.put_nowait(2)
            await asyncio.sleep(0 if read else 3600)
            raise ValueError("broken")
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    relay = relayed(items, work())
    assert await anext(relay) == 1
    if read:
        assert await anext(relay) == 2
        with pytest.raises(ValueError, match="broken"):
            await anext(relay)
    await relay.aclose()
    assert ended == ["ValueError" if read else "CancelledError"]
