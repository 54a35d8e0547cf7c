"""Samples on the wire: completions, and logprobs of prompts."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rl.wire import tinker_pb2 as pb
from rl.wire.tensors import to_proto
from rollout.types import Completion, PromptLogprobs, TopLogprobs

EMPTY_LOGPROB = -99999.0
"""Stands in a cell of a table of top logprobs in which there is none."""


def write_samples(
    completions: Sequence[Completion], prompt: PromptLogprobs | None, *, top_sampled: int = 0, top_prompt: int = 0,
    alternatives: tuple[Sequence[Sequence[int]], Sequence[Sequence[float]]] | None = None,
) -> bytes:  # fmt: skip
    """Write the answer to a request for samples; `prompt` is what was asked of its prompt, if anything was.

    `alternatives` are draws for each position of the prompt but the first, and their logprobs.
    """
    response = pb.SampleResponse()
    for completion in completions:
        sequence = response.sequences.add()
        sequence.stop_reason = pb.STOP_REASON_STOP if completion.finish_reason == "stop" else pb.STOP_REASON_LENGTH
        sequence.tokens = np.asarray(completion.token_ids, np.int32).tobytes()
        sequence.logprobs = _float32(completion.logprobs)
        if top_sampled:
            sequence.topk_sampled_logprobs.CopyFrom(_table(completion.top_logprobs, top_sampled))
    if prompt is not None:
        response.prompt_logprobs = _float32([math.nan if value is None else value for value in prompt.logprobs])
        if top_prompt:
            response.topk_prompt_logprobs.CopyFrom(_table(prompt.top_logprobs, top_prompt))
        if prompt.target_logprobs:
            response.target_prompt_logprobs.CopyFrom(to_proto(np.asarray(prompt.target_logprobs, np.float32)))
    if alternatives is not None:
        tokens, logprobs = alternatives
        response.prompt_alt_tokens.tokens.CopyFrom(to_proto(np.asarray(tokens, np.int64)))
        response.prompt_alt_tokens.logprobs.CopyFrom(to_proto(np.asarray(logprobs, np.float32)))
    return response.SerializeToString()


def _float32(values: Any) -> bytes:
    return np.asarray(values, np.float32).tobytes()


def _table(rows: Sequence[TopLogprobs], k: int) -> pb.TopkLogprobs:
    ids = np.zeros((len(rows), k), np.int32)
    logprobs = np.full((len(rows), k), EMPTY_LOGPROB, np.float32)
    for i, row in enumerate(rows):
        for j, (token, logprob) in enumerate(row[:k]):
            ids[i, j], logprobs[i, j] = token, logprob
    return pb.TopkLogprobs(token_ids=ids.tobytes(), logprobs=logprobs.tobytes(), k=k, length=len(rows))
