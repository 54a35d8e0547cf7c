"""The sampler: vLLM, with the policy's adapter as an argument of every request.

Each adapter version is served under a fresh name (see `rollout.vllm.adapter_cache`), and unloaded when its last request
is done and a newer one is there.
"""

import asyncio
import contextlib
import itertools
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from lora.config import LoraConfig, ModelConfig
from lora.peft.files import unpack
from lora.types import Adapter
from rollout.calls.limits import Limits
from rollout.calls.stop_tokens import stop_tokens
from rollout.calls.streams import as_they_end, relayed
from rollout.config import RolloutConfig, SamplingConfig
from rollout.types import Completion, CompletionPart, Engine, EngineDied, Place, PromptLogprobs, PromptQuery
from rollout.vllm.adapter_cache import AdapterCache
from rollout.vllm.policy_queue import OldestPolicyQueue
from rollout.vllm.requests import completion_parts, completions, one_by_one, sampling_params
from rollout.vllm.scores import Scores
from rollout.vllm.shm_dir import SharedMemoryDir
from rollout.vllm.start import MEMORY_HINT, engine_args, on_cpu, reason, refusal, start_vllm


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
    on_output: Callable[[int, Any], object] | None = None
    """Called with each output of a call that is answered part by part, and the index of its prompt."""
    unwanted: bool = False
    """True once nobody waits for it any more."""


class VllmEngine(Engine):
    """Runs vLLM's engine in this process on a thread of its own; calls may overlap and are batched together."""

    def __init__(
        self, model: str, model_config: ModelConfig, lora: LoraConfig, config: RolloutConfig, seed: int
    ) -> None:
        self._engine = start_vllm(engine_args(model, model_config, lora, config, seed))
        self._limits = Limits(model_config.max_length, self._engine.model_config.get_vocab_size())
        self._special: dict[str, int] = self._engine.get_tokenizer().get_added_vocab()
        self._home = SharedMemoryDir()
        self._adapters = AdapterCache(
            self._engine.remove_lora, self._home.path,
            model_type=self._engine.model_config.hf_text_config.model_type, keep=config.adapters_in_flight,
        )  # fmt: skip
        self._adapts_head = lora.lm_head
        # What mends them on a CPU (`rollout.vllm.patches.cpu_prompts`) is in this process alone.
        self._scores_heads = on_cpu() and config.tensor_parallel_size == 1
        self._request_ids = itertools.count()
        self._inbox: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._older_first: OldestPolicyQueue[_Call] | None = OldestPolicyQueue() if on_cpu() else None
        self._open: dict[str, tuple[_Call, int]] = {}
        self._steps = 0
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()

    async def sample(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> list[list[Completion]]:
        self._limits.check_sampling(prompts, sampling, top_logprobs)
        stops = stop_tokens(sampling, self._special)
        parameters = [sampling_params(sampling, seed, top_logprobs, stops) for seed in seeds]
        outputs = await self._submit(_Call([list(p) for p in prompts], parameters, adapter, samples=True))
        return [completions(output, sampling, adapter.version, top_logprobs) for output in outputs]

    async def stream(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> AsyncGenerator[tuple[int, list[Completion]]]:
        async def sample_prompt(index: int) -> tuple[int, list[Completion]]:
            prompt, seed = [prompts[index]], [seeds[index]]
            (group,) = await self.sample(prompt, adapter, sampling, seeds=seed, top_logprobs=top_logprobs)
            return index, group

        async with contextlib.aclosing(as_they_end(map(sample_prompt, range(len(prompts))))) as groups:
            async for group in groups:
                yield group

    async def stream_completions(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        every = [range(sampling.group_size)] * len(prompts)
        stream = self.stream_places(prompts, adapter, sampling, seeds=seeds, places=every)
        async with contextlib.aclosing(stream) as completions:
            async for each in completions:
                yield each

    async def stream_places(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        places: Sequence[Sequence[int]],
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        """As the protocol has it. vLLM returns a request when all of it is done, so each completion is one."""
        self._limits.check_sampling(prompts, sampling, 0)
        stops = stop_tokens(sampling, self._special)
        groups = [one_by_one(sampling_params(sampling, seed, 0, stops)) for seed in seeds]
        requests = [(i, place) for i, group in enumerate(groups) for place in range(len(group)) if place in places[i]]
        written, parameters = [list(prompts[i]) for i, _ in requests], [groups[i][place] for i, place in requests]
        call = _Call(written, parameters, adapter, samples=True)
        async with contextlib.aclosing(self._outputs(call)) as outputs:
            async for number, output in outputs:
                index, first = requests[number]
                for place, completion in enumerate(completions(output, sampling, adapter.version, 0), start=first):
                    yield (index, place), completion

    async def stream_parts(
        self,
        prompt: Sequence[int],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seed: int,
        top_logprobs: int = 0,
    ) -> AsyncGenerator[CompletionPart]:
        self._limits.check_sampling([prompt], sampling, top_logprobs)
        stops = stop_tokens(sampling, self._special)
        parameters = sampling_params(sampling, seed, top_logprobs, stops, in_parts=True)
        call = _Call([list(prompt)], [parameters], adapter, samples=True)
        async with contextlib.aclosing(self._outputs(call)) as outputs:
            async for _, output in outputs:
                for part in completion_parts(output, sampling, adapter.version, top_logprobs):
                    yield part

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        answers = await self.score_prompts(sequences, adapter, [PromptQuery()] * len(sequences))
        return [[logprob for logprob in answer.logprobs[1:] if logprob is not None] for answer in answers]

    async def score_prompts(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, queries: Sequence[PromptQuery]
    ) -> list[PromptLogprobs]:
        self._limits.check_queries(prompts, queries)
        one_by_one = not self._scores_heads and (self._adapts_head or "lm_head" in unpack(adapter.payload)[1].targets)
        scores = Scores.plan(prompts, queries, max_length=self._limits.max_length, one_by_one=one_by_one)
        outputs = await self._submit(_Call(scores.beginnings(), scores.parameters(), adapter))
        return scores.answers(outputs)

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

    async def _outputs(self, call: _Call) -> AsyncGenerator[tuple[int, Any]]:
        """Yield the outputs of a call as they come, each with its prompt's index."""
        loop = asyncio.get_running_loop()
        outputs: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()

        def put(index: int, output: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended with its caller; the engine goes on
                loop.call_soon_threadsafe(outputs.put_nowait, (index, output))

        call.on_output = put
        async with contextlib.aclosing(relayed(outputs, self._submit(call))) as relay:
            async for each in relay:
                yield each

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
            call.future.set_exception(refusal(error))

    def _deliver(self, output: Any) -> None:
        if output.request_id not in self._open:
            return
        call, index = self._open[output.request_id]
        if call.on_output is not None:
            call.on_output(index, output)
        if not output.finished:
            return
        del self._open[output.request_id]
        call.outputs[index] = None if call.on_output else output  # who has had it holds it as long as it is needed
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
