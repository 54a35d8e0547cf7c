"""The common beginning of a group's episodes, read before the policy wrote: a part of their prompt."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from rollout.types import Completion


def with_shared_start(prompt: list[int], completions: Sequence[Completion]) -> tuple[list[int], list[Completion]]:
    """Return a longer prompt and shorter completions, where all of them begin with the same tokens of others'.

    So a row holds them once. Completions without tokens are as they were.

    Example: prompt [1] and completions 2 3 *4* and 2 3 *5*, of which the policy wrote the last token, give [1, 2, 3],
    4 and 5.
    """
    written = [completion for completion in completions if completion.token_ids]
    given = [_given(completion) for completion in written]
    if not given or not all(given):
        return prompt, list(completions)
    count = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*given, strict=False)))
    shared = list(given[0][:count])
    return [*prompt, *shared], [_without(completion, count) for completion in completions]


def _given(completion: Completion) -> tuple[int, ...]:
    """Return the tokens before the policy's first one."""
    if completion.loss_mask is None or True not in completion.loss_mask:
        return ()
    return completion.token_ids[: completion.loss_mask.index(True)]


def _without(completion: Completion, count: int) -> Completion:
    if not completion.token_ids or not count:
        return completion
    mask = (completion.loss_mask or ())[count:]
    return replace(
        completion,
        token_ids=completion.token_ids[count:],
        logprobs=completion.logprobs[count:],
        loss_mask=None if all(mask) else mask,
    )
