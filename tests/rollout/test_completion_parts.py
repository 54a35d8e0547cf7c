"""Parts of completions, put together and merged: nothing is lost, and streams that nobody reads to the end are closed."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from rollout.parts import joined, merged
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
