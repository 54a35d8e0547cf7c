"""vLLM on a thread of its own: calls go in, are batched together step by step, and their outputs come out."""

import asyncio
import contextlib
import itertools
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from lora.types import Adapter
from rollout.calls.streams import relayed
from rollout.types import EngineDied
from rollout.vllm.adapter_cache import AdapterCache
from rollout.vllm.policy_queue import OldestPolicyQueue
from rollout.vllm.start import MEMORY_HINT, reason, refusal


@dataclass(slots=True)
class Call:
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


class EngineThread:
    """The thread, and what is under way on it. A call that is cancelled ends in vLLM with its next step."""

    def __init__(self, engine: Any, adapters: AdapterCache, *, older_first: bool) -> None:
        """Start it; `engine` is vLLM's `LLMEngine`. With `older_first`, calls wait as `OldestPolicyQueue` says."""
        self._engine = engine
        self._adapters = adapters
        self._request_ids = itertools.count()
        self._inbox: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._older_first: OldestPolicyQueue[Call] | None = OldestPolicyQueue() if older_first else None
        self._open: dict[str, tuple[Call, int]] = {}
        self._steps = 0
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()

    @property
    def steps(self) -> int:
        """Steps that vLLM has taken."""
        return self._steps

    async def answer(self, call: Call) -> list[Any]:
        """Return vLLM's outputs of a call, one a prompt.

        Raises:
            ValueError: vLLM refuses it.
            EngineDied: vLLM has failed.
        """
        self._inbox.put(call)
        try:
            return await asyncio.wrap_future(call.future)
        except asyncio.CancelledError:
            call.unwanted = True
            raise

    async def stream(self, call: Call) -> AsyncGenerator[tuple[int, Any]]:
        """Yield the outputs of a call as they come, each with its prompt's index. Raises as `answer`."""
        loop = asyncio.get_running_loop()
        outputs: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()

        def put(index: int, output: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended with its caller; the engine goes on
                loop.call_soon_threadsafe(outputs.put_nowait, (index, output))

        call.on_output = put
        async with contextlib.aclosing(relayed(outputs, self.answer(call))) as relay:
            async for each in relay:
                yield each

    async def close(self) -> None:
        """End the thread, once its step is done."""
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    # What follows runs on the thread alone.

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

    def _admit(self, call: Call) -> None:
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

    def _abort(self, call: Call) -> None:
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
