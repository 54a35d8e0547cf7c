"""The sampler: vLLM, with the policy's adapter as an argument of every request.

Each adapter version is served under a fresh name (see `rollout.vllm.adapter_cache`), and unloaded when its last request
is done and a newer one is there.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence

from lora.config import LoraConfig, ModelConfig
from lora.peft.files import unpack
from lora.types import Adapter
from rollout.calls.limits import Limits
from rollout.calls.stop_tokens import stop_tokens
from rollout.calls.streams import as_they_end
from rollout.config import RolloutConfig, SamplingConfig
from rollout.types import Completion, CompletionPart, Engine, Place, PromptLogprobs, PromptQuery
from rollout.vllm.adapter_cache import AdapterCache
from rollout.vllm.engine_thread import Call, EngineThread
from rollout.vllm.requests import completion_parts, completions, one_by_one, sampling_params
from rollout.vllm.scores import Scores
from rollout.vllm.shm_dir import SharedMemoryDir
from rollout.vllm.start import engine_args, on_cpu, start_vllm


class VllmEngine(Engine):
    """Runs vLLM's engine in this process on a thread of its own; calls may overlap and are batched together."""

    def __init__(
        self, model: str, model_config: ModelConfig, lora: LoraConfig, config: RolloutConfig, seed: int
    ) -> None:
        engine = start_vllm(engine_args(model, model_config, lora, config, seed))
        self._limits = Limits(model_config.max_length, engine.model_config.get_vocab_size())
        self._special: dict[str, int] = engine.get_tokenizer().get_added_vocab()
        self._home = SharedMemoryDir()
        adapters = AdapterCache(
            engine.remove_lora, self._home.path,
            model_type=engine.model_config.hf_text_config.model_type, keep=config.adapters_in_flight,
        )  # fmt: skip
        self._adapts_head = lora.lm_head
        # What mends them on a CPU (`rollout.vllm.patches.cpu_prompts`) is in this process alone.
        self._scores_heads = on_cpu() and config.tensor_parallel_size == 1
        self._thread = EngineThread(engine, adapters, older_first=on_cpu())

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
        outputs = await self._thread.answer(Call([list(p) for p in prompts], parameters, adapter, samples=True))
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
        call = Call(written, parameters, adapter, samples=True)
        async with contextlib.aclosing(self._thread.stream(call)) as outputs:
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
        call = Call([list(prompt)], [parameters], adapter, samples=True)
        async with contextlib.aclosing(self._thread.stream(call)) as outputs:
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
        outputs = await self._thread.answer(Call(scores.beginnings(), scores.parameters(), adapter))
        return scores.answers(outputs)

    def progress(self) -> int:
        return self._thread.steps

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def close(self) -> None:
        await self._thread.close()
        self._home.close()
