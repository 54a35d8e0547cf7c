"""Parts of completions while they are written: put together again, or those of several prompts in one stream."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import chain

from rollout.types import CompletionPart


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
