"""Our words for a sampling request in vLLM's, and vLLM's answer in ours."""

import math
from collections.abc import Mapping
from copy import copy
from typing import Any

from rollout.calls.seeds import vllm_seed
from rollout.config import SamplingConfig
from rollout.types import Completion, CompletionPart, RoutedExperts, TopLogprobs

WARMEST = 2.0
"""The highest temperature that vLLM 0.32 accepts."""


def sampling_params(
    sampling: SamplingConfig, seed: int, top_logprobs: int, stop_token_ids: list[int], *, in_parts: bool = False
) -> Any:
    """Return vLLM's parameters for one prompt, answered in the end or part by part.

    Raises:
        ValueError: vLLM refuses the temperature.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    if sampling.temperature > WARMEST:
        raise ValueError(
            f"vLLM samples at temperatures up to {WARMEST:g}, and this is {sampling.temperature:g}: lower it, or set "
            'rollout.engine = "torch"'
        )
    greedy = sampling.temperature == 0
    return SamplingParams(
        n=1 if greedy else sampling.group_size,  # vLLM refuses to write the same several times
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        stop_token_ids=stop_token_ids,
        ignore_eos=sampling.ignore_eos,
        seed=None if greedy else vllm_seed(seed),
        logprobs=top_logprobs,
        output_kind=RequestOutputKind.DELTA if in_parts else RequestOutputKind.FINAL_ONLY,
    )


def one_by_one(parameters: Any) -> list[Any]:
    """Return the parameters of each of a prompt's completions alone, as vLLM itself makes them of the prompt's."""
    alone: list[Any] = []
    for index in range(parameters.n):
        child = copy(parameters)
        child.n, child.seed = 1, None if parameters.seed is None else parameters.seed + index
        child.skip_clone = True  # it is a copy already
        alone.append(child)
    return alone


def completions(output: Any, sampling: SamplingConfig, version: int, top_logprobs: int) -> list[Completion]:
    """Return one prompt's completions from vLLM's `RequestOutput`."""
    written = [_completion(each, version, top_logprobs) for each in output.outputs]
    return written * sampling.group_size if sampling.temperature == 0 else written


def completion_parts(output: Any, sampling: SamplingConfig, version: int, top_logprobs: int) -> list[CompletionPart]:
    """Return what one prompt's completions have gained by a step of vLLM's."""
    copies = sampling.group_size if sampling.temperature == 0 else 1
    return [
        CompletionPart(
            each.index + copy, *_tokens(each), each.text, each.finish_reason, version,
            _likeliest_of_each(each, top_logprobs),
        )
        for each in output.outputs
        for copy in range(copies)
    ]  # fmt: skip


def _completion(output: Any, version: int, top_logprobs: int) -> Completion:
    assert output.finish_reason in ("stop", "length"), output.finish_reason
    top = _likeliest_of_each(output, top_logprobs)
    experts = None if output.routed_experts is None else RoutedExperts.of(output.routed_experts)
    return Completion(*_tokens(output), output.text, output.finish_reason, version, top, routed_experts=experts)


def _tokens(output: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the tokens of an output and the logprob of each."""
    ids = tuple(output.token_ids)
    return ids, tuple(choices[token].logprob for token, choices in zip(ids, output.logprobs or (), strict=True))


def _likeliest_of_each(output: Any, count: int) -> tuple[TopLogprobs, ...]:
    """Return the `count` likeliest tokens in the place of each token of an output."""
    return tuple(likeliest(choices, count) for choices in output.logprobs or ()) if count else ()


def likeliest(choices: Mapping[int, Any], count: int) -> TopLogprobs:
    """Return the `count` likeliest of the tokens that vLLM names at one place; fewer where fewer can be drawn.

    vLLM also names the token that is there, however unlikely it is.
    """
    pairs = [(token, choice.logprob) for token, choice in choices.items() if choice.logprob > -math.inf]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:count])
