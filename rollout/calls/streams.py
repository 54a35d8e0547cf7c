"""Streams of what engines write: parts put together again, several streams in one, or fewer and larger pieces."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import aclosing
from itertools import chain
from typing import Any, TypeVar

from rollout.types import CompletionPart

T = TypeVar("T")

END: Any = object()
"""Stands behind the last item of a stream."""


async def joined(parts: AsyncGenerator[CompletionPart]) -> AsyncGenerator[CompletionPart]:
    """Yield each completion as one part, when it is whole."""
    earlier: defaultdict[int, list[CompletionPart]] = defaultdict(list)
    async with aclosing(parts):
        async for part in parts:
            earlier[part.index].append(part)
            if part.finish_reason is not None:
                yield _join(earlier.pop(part.index))


async def merged(streams: Sequence[AsyncGenerator[CompletionPart]]) -> AsyncGenerator[tuple[int, CompletionPart]]:
    """Yield the parts of several streams as they come, each with its stream's place."""
    waited_for = {asyncio.ensure_future(anext(stream, None)): place for place, stream in enumerate(streams)}
    try:
        while waited_for:
            done, _ = await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                place = waited_for.pop(task)
                part = task.result()
                if part is not None:
                    waited_for[asyncio.ensure_future(anext(streams[place], None))] = place
                    yield place, part
    finally:
        for task in waited_for:
            task.cancel()
        await asyncio.gather(*waited_for, return_exceptions=True)
        await asyncio.gather(*(stream.aclose() for stream in streams))


async def as_they_end(work: Iterable[Coroutine[Any, Any, T]]) -> AsyncGenerator[T]:
    """Yield what each piece of work returns, whichever ends first; the others are cancelled with their user."""
    running = [asyncio.ensure_future(piece) for piece in work]
    try:
        for ended in asyncio.as_completed(running):
            yield await ended
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def batched(stream: AsyncGenerator[T], gathered_s: float) -> AsyncGenerator[list[T]]:
    """Yield what a stream gives, in lists of what comes within so many seconds of a first item; the last at once."""
    coming: asyncio.Future[T] = asyncio.ensure_future(anext(stream, END))
    try:
        while (item := await coming) is not END:
            batch = [item]
            deadline = asyncio.get_running_loop().time() + gathered_s
            coming = asyncio.ensure_future(anext(stream, END))
            while (await asyncio.wait([coming], timeout=deadline - asyncio.get_running_loop().time()))[0]:
                if (item := coming.result()) is END:
                    break
                batch.append(item)
                coming = asyncio.ensure_future(anext(stream, END))
            yield batch
    finally:
        coming.cancel()
        await asyncio.wait([coming])  # before that, the stream cannot be closed
        await stream.aclose()


async def relayed(items: "asyncio.Queue[T]", work: Coroutine[Any, Any, object]) -> AsyncGenerator[T]:
    """Yield what some work puts into a queue, in the end raise what has ended it; it is cancelled with its user."""
    working = asyncio.ensure_future(work)
    working.add_done_callback(lambda _: items.put_nowait(END))  # which comes behind the last item
    try:
        while (item := await items.get()) is not END:
            yield item
        await working
    finally:
        working.cancel()
        await asyncio.wait([working])


def _join(parts: Sequence[CompletionPart]) -> CompletionPart:
    last = parts[-1]
    return CompletionPart(
        last.index,
        tuple(chain.from_iterable(part.token_ids for part in parts)),
        tuple(chain.from_iterable(part.logprobs for part in parts)),
        "".join(part.text for part in parts),
        last.finish_reason,
        last.policy_version,
        tuple(chain.from_iterable(part.top_logprobs for part in parts)),
    )
