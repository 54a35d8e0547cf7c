"""A server's engines, as one `Engine`."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np

from lora.types import Adapter
from rl.remote.policies import RemotePolicies
from rl.types import LearnerDied
from rl.wire import tinker_pb2 as pb
from rollout.calls.streams import as_they_end
from rollout.config import SamplingConfig
from rollout.types import Completion, Engine, EngineDied, Place, PromptLogprobs, PromptQuery

AT_ONCE = 512
"""Requests that wait for their answers at a time."""


class RemoteEngine(Engine):
    """Samples on a server from the policies that a run has published there."""

    name = "the server's engine"

    def __init__(self, policies: RemotePolicies, tokenizer: Any) -> None:
        self._policies = policies
        self._tokenizer = tokenizer
        self._numbers = itertools.count(1)
        self._places = asyncio.Semaphore(AT_ONCE)

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> list[list[Completion]]:  # fmt: skip
        sampler = await self._sampler(adapter)
        params = _params(sampling)
        responses = await _together(
            self._ask(sampler, prompt, params | {"seed": seed}, sampling.group_size, top_logprobs)
            for prompt, seed in zip(prompts, seeds, strict=True)
        )
        return [self._completions(response, sampling, adapter.version) for response in responses]

    async def stream_completions(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        """As the protocol has it, but all of a prompt's come together, as the answer to its request."""

        async def sample_prompt(index: int) -> tuple[int, list[Completion]]:
            (group,) = await self.sample([prompts[index]], adapter, sampling, seeds=[seeds[index]])
            return index, group

        async with aclosing(as_they_end(map(sample_prompt, range(len(prompts))))) as groups:
            async for index, group in groups:
                for place, completion in enumerate(group):
                    yield (index, place), completion

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        return await self.score_under(sequences, adapter)

    async def score_under(self, sequences: Sequence[Sequence[int]], adapter: Adapter | None) -> list[list[float]]:
        """Return logprobs of every token but the first, at temperature 1, under a policy or the base model."""
        sampler = await self._sampler(adapter)
        responses = await _together(
            self._ask(sampler, sequence, {"max_tokens": 1}, 1, 0, prompt_logprobs=True) for sequence in sequences
        )
        return [np.frombuffer(response.prompt_logprobs, np.float32)[1:].tolist() for response in responses]

    async def score_prompts(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, queries: Sequence[PromptQuery]
    ) -> list[PromptLogprobs]:
        raise NotImplementedError("a run asks for no more than `score`")

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def close(self) -> None:
        """Do nothing: the server's engines are not the run's."""

    async def _sampler(self, adapter: Adapter | None) -> str:
        try:
            return await self._policies.sampler(adapter)
        except LearnerDied as died:
            raise EngineDied(str(died)) from died

    async def _ask(
        self, sampler: str, prompt: Sequence[int], params: dict[str, Any], count: int, top: int, **more: Any
    ) -> pb.SampleResponse:
        async with self._places:
            try:
                content = await self._policies.connection.result(
                    "asample", sampling_session_id=sampler, seq_id=next(self._numbers), num_samples=count,
                    prompt={"chunks": [{"type": "encoded_text", "tokens": list(prompt)}]}, sampling_params=params,
                    topk_sample_logprobs=top, **more,
                )  # fmt: skip
            except LearnerDied as died:
                raise EngineDied(str(died)) from died
        response = pb.SampleResponse()
        response.ParseFromString(content)
        return response

    def _completions(self, response: pb.SampleResponse, sampling: SamplingConfig, version: int) -> list[Completion]:
        return [self._completion(sequence, sampling, version) for sequence in response.sequences]

    def _completion(self, sequence: pb.SampledSequence, sampling: SamplingConfig, version: int) -> Completion:
        ids = tuple(np.frombuffer(sequence.tokens, np.int32).tolist())
        logprobs = tuple(np.frombuffer(sequence.logprobs, np.float32).tolist())
        stopped = ids[-1:] if ids and ids[-1] in sampling.stop_token_ids else ()
        text: str = self._tokenizer.decode(
            ids[: len(ids) - len(stopped)], skip_special_tokens=True
        )  # as engines have it
        end = min((text.find(stop) for stop in sampling.stop if stop in text), default=len(text))
        reason = "stop" if sequence.stop_reason == pb.STOP_REASON_STOP else "length"
        return Completion(ids, logprobs, text[:end], reason, version)


async def _together(requests: Iterable[Coroutine[Any, Any, pb.SampleResponse]]) -> list[pb.SampleResponse]:
    """Return all answers, or raise the first error, as it is and not in a group, and stop the others."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _params(sampling: SamplingConfig) -> dict[str, Any]:
    """Return the settings as the protocol has them; `stop` is left out where the model's own end is the only one."""
    stop: list[Any] = [*sampling.stop, *sampling.stop_token_ids]
    ends = {"stop": stop} if stop or sampling.ignore_eos else {}
    return {
        "max_tokens": sampling.max_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1, "min_p": sampling.min_p, **ends,
    }  # fmt: skip
