"""The sampler: vLLM, with the policy's adapter as an argument of every request.

Each adapter version is served under a fresh name (see `rollout.adapter_cache`), and unloaded when its last request is
done and a newer one is there.
"""

import asyncio
import itertools
import queue
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from lora.config import LoraConfig, ModelConfig
from lora.files import unpack
from lora.types import Adapter
from rollout.adapter_cache import AdapterCache
from rollout.config import RolloutConfig, SamplingConfig
from rollout.policy_queue import OldestPolicyQueue
from rollout.shm_dir import SharedMemoryDir
from rollout.types import Completion, Engine, EngineDied
from rollout.vllm_start import MEMORY_HINT, engine_args, on_cpu, reason, start_vllm


@dataclass(slots=True)
class _Call:
    """Requests that were submitted together, and the outputs that are still missing."""

    prompts: list[list[int]]
    parameters: list[Any]
    adapter: Adapter
    samples: bool = False
    """True for completions, False for scores, which are short and waited for by themselves."""
    future: "Future[list[Any]]" = field(default_factory=Future)
    outputs: dict[int, Any] = field(default_factory=dict)
    unwanted: bool = False
    """True once nobody waits for it any more."""


class VllmEngine(Engine):
    """Runs vLLM's engine in this process on a thread of its own; calls may overlap and are batched together."""

    def __init__(
        self, model: str, model_config: ModelConfig, lora: LoraConfig, config: RolloutConfig, seed: int
    ) -> None:
        self._engine = start_vllm(engine_args(model, model_config, lora, config, seed))
        self._home = SharedMemoryDir()
        self._adapters = AdapterCache(self._engine.remove_lora, self._home.path, keep=config.adapters_in_flight)
        self._adapts_head = lora.lm_head
        self._request_ids = itertools.count()
        self._inbox: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._older_first: OldestPolicyQueue[_Call] | None = OldestPolicyQueue() if on_cpu() else None
        self._open: dict[str, tuple[_Call, int]] = {}
        self._steps = 0
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        parameters = [_sampling_params(sampling, seed) for seed in seeds]
        outputs = await self._submit(_Call([list(p) for p in prompts], parameters, adapter, samples=True))
        return [[_completion(o, adapter.version) for o in output.outputs] for output in outputs]

    async def stream(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> AsyncGenerator[tuple[int, list[Completion]]]:
        async def sample_prompt(index: int) -> tuple[int, list[Completion]]:
            (completions,) = await self.sample([prompts[index]], adapter, sampling, seeds=[seeds[index]])
            return index, completions

        running = [asyncio.ensure_future(sample_prompt(index)) for index in range(len(prompts))]
        try:
            for answer in asyncio.as_completed(running):
                yield await answer
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        from vllm import SamplingParams

        if self._adapts_head or "lm_head" in unpack(adapter.payload)[1].targets:
            return await self._score_next_tokens(sequences, adapter)
        parameters = [SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0) for _ in sequences]
        outputs = await self._submit(_Call([list(s) for s in sequences], parameters, adapter))
        return [_prompt_logprobs(output) for output in outputs]

    async def _score_next_tokens(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        """Score each token as the sampler would: as the next one behind its beginning, in a request of its own.

        vLLM 0.32 maps adapters of the output layer to the rows that it samples, so its prompt logprobs lack them: on a
        GPU in all rows but the first few, on a CPU where a batch holds several adapters. In those first rows are the
        adapters of whatever the batch samples, so where one of them adapts the head, all are scored like this.
        """
        from vllm import SamplingParams

        # The longest beginning goes first: the others find most of theirs in the prefix cache then.
        places = [(i, end) for i, sequence in enumerate(sequences) for end in range(len(sequence) - 1, 0, -1)]
        prompts = [list(sequences[i][:end]) for i, end in places]
        parameters = [
            SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=[sequences[i][end]], detokenize=False)
            for i, end in places
        ]
        outputs = await self._submit(_Call(prompts, parameters, adapter))
        scores = [[0.0] * (len(sequence) - 1) for sequence in sequences]
        for (i, end), output in zip(places, outputs, strict=True):
            scores[i][end - 1] = output.outputs[0].logprobs[0][sequences[i][end]].logprob
        return scores

    def progress(self) -> int:
        return self._steps

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def close(self) -> None:
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        self._home.close()

    async def _submit(self, call: _Call) -> list[Any]:
        self._inbox.put(call)
        try:
            return await asyncio.wrap_future(call.future)
        except asyncio.CancelledError:
            call.unwanted = True
            raise

    # What follows runs on the engine's thread alone.

    def _run(self) -> None:
        while self._receive():
            try:
                for output in self._engine.step():
                    self._deliver(output)
                self._steps += 1
                self._drop_unwanted()
            except Exception as error:  # the engine is broken: every caller must hear of it
                self._fail(error)

    def _receive(self) -> bool:
        """Take in new calls; sleep while there is nothing to do. False when the engine is to end."""
        while True:
            self._admit_in_turn()
            try:
                call = self._inbox.get(block=not self._open)
            except queue.Empty:
                return True
            if call is None:
                return False
            if call.samples and self._older_first is not None:
                self._older_first.push(call)
            else:
                self._admit(call)

    def _admit_in_turn(self) -> None:
        if self._older_first is None:
            return
        while calls := self._older_first.pop_ready(owner for owner, _ in self._open.values() if owner.samples):
            for call in calls:  # where all are refused, nothing is under way, and the next in line is asked for
                self._admit(call)

    def _admit(self, call: _Call) -> None:
        if not call.future.set_running_or_notify_cancel():
            return
        if not call.prompts:
            call.future.set_result([])
            return
        try:
            lora = self._adapters.load(call.adapter)
            for index, (prompt, parameters) in enumerate(zip(call.prompts, call.parameters, strict=True)):
                request_id = str(next(self._request_ids))
                self._engine.add_request(request_id, {"prompt_token_ids": prompt}, parameters, lora_request=lora)
                self._open[request_id] = (call, index)
                self._adapters.acquire(call.adapter)
        except Exception as error:  # a request that vLLM refuses fails its call, not the engine
            self._abort(call)
            call.future.set_exception(error)

    def _deliver(self, output: Any) -> None:
        if not output.finished or output.request_id not in self._open:
            return
        call, index = self._open.pop(output.request_id)
        call.outputs[index] = output
        self._adapters.release(call.adapter)
        if len(call.outputs) == len(call.prompts) and not call.future.done():
            call.future.set_result([call.outputs[i] for i in range(len(call.prompts))])

    def _drop_unwanted(self) -> None:
        """Stop generating what would be thrown away."""
        for call in {id(call): call for call, _ in self._open.values() if call.unwanted}.values():
            self._abort(call)

    def _abort(self, call: _Call) -> None:
        request_ids = [request_id for request_id, (owner, _) in self._open.items() if owner is call]
        self._engine.abort_request(request_ids)
        for request_id in request_ids:
            del self._open[request_id]
            self._adapters.release(call.adapter)

    def _fail(self, error: Exception) -> None:
        """Fail every call with `EngineDied`: what was under way is lost here, and another worker may do it."""
        died = EngineDied(f"a rollout worker's vLLM failed: {reason(error)}{MEMORY_HINT}")
        died.__cause__ = error
        calls = {id(call): call for call, _ in self._open.values()}
        self._open.clear()
        waiting = [] if self._older_first is None else self._older_first.clear()
        for call in [*calls.values(), *waiting]:
            if not call.future.done():
                call.future.set_exception(died)


def _sampling_params(sampling: SamplingConfig, seed: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    greedy = sampling.temperature == 0
    return SamplingParams(
        n=sampling.group_size,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        seed=None if greedy else seed % 2**62,
        logprobs=None if greedy else 0,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _completion(output: Any, version: int) -> Completion:
    ids = tuple(output.token_ids)
    if output.logprobs is None:  # greedy: the policy's only choice has probability 1
        logprobs = (0.0,) * len(ids)
    else:
        logprobs = tuple(choices[token].logprob for token, choices in zip(ids, output.logprobs, strict=True))
    assert output.finish_reason in ("stop", "length"), output.finish_reason
    return Completion(ids, logprobs, output.text, output.finish_reason, version)


def _prompt_logprobs(output: Any) -> list[float]:
    tokens = output.prompt_token_ids[1:]
    return [choices[token].logprob for token, choices in zip(tokens, output.prompt_logprobs[1:], strict=True)]
