"""The training of several clients on one learner: waiting requests share its passes, and none waits for the longest.

The learner does one thing at a time. Steps, saves and loads come first, in the order in which they came; then one pass,
with a part of every model's request that waits for one. A request that is longer than a part takes several passes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lora.types import Adapter
from rl.algorithm.batch.datum import Datum
from rl.algorithm.objective.summed_loss import SummedLoss
from rl.learner.policies.policy import AdamConfig, PolicySpec
from rl.learner.policy_host import LearnerHost
from rl.serve.errors import ServerFault
from rl.serve.training.pass_request import Passed, PassRequest, parts_of
from rl.serve.training.policies import ServedPolicy, Shelf
from rl.serve.training.resident_policies import ResidentPolicies
from rl.types import LearnerDied, Under

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class TrainerLimits:
    """Sizes that decide what is done together."""

    part_tokens: int = 8192
    """Most tokens of one request in one pass."""
    resident_policies: int = 16
    """Most policies that the learner holds at once."""
    kept_state_bytes: int = 64 * 2**20
    """Largest state that is fetched after every step, so that a dead learner costs no step."""


class Trainer:
    """The learner as its clients' requests see it. `run` is the task that works on them."""

    def __init__(self, host: LearnerHost, shelf: Shelf, limits: TrainerLimits | None = None) -> None:
        self._host = host
        self._shelf = shelf
        self._limits = limits or TrainerLimits()
        self._residents = ResidentPolicies(host, shelf, self._limits.resident_policies)
        self._errands: list[tuple[Work, asyncio.Future[Any]]] = []
        self._requests: list[PassRequest] = []
        self._wake = asyncio.Event()

    @property
    def queue_length(self) -> int:
        """Number of requests that wait or are under way."""
        return len(self._errands) + len(self._requests)

    async def create(self, spec: PolicySpec, state: bytes | None = None) -> ServedPolicy:
        """Begin a policy, from a state if there is one. Raises ValueError if the model cannot be adapted so."""
        policy = ServedPolicy(spec.run, spec, kept=state)

        async def begin() -> None:
            await self._residents.bring_in(policy)
            policy.trained_parameters = (await self._host.facts(policy.name))["trained_parameters"]

        await self._errand(begin)
        self._residents.add(policy)
        return policy

    async def forward_backward(
        self, policy: ServedPolicy, data: Sequence[Datum], loss: SummedLoss, *, backward: bool
    ) -> Passed:
        """Return the logprobs of all targets, and with `backward` add the gradients of the loss; all of them or none.

        Raises:
            ServerFault: the learner died; no gradient of this request or of earlier ones since the last step is there.
        """
        policy.require_whole()
        request = PassRequest(policy, parts_of(data, self._limits.part_tokens), loss, backward)
        self._requests.append(request)
        self._wake.set()
        return await request.passed()

    async def optim_step(self, policy: ServedPolicy, adam: AdamConfig) -> dict[str, float]:
        """Move a policy by its gradients.

        Raises:
            ValueError: the step would have made a number that is not finite, and was not taken.
            ServerFault: gradients were lost since the last step, so that this one would be another.
        """
        return await self._errand(lambda: self._optim_step(policy, adam))

    async def publish(self, policy: ServedPolicy) -> Adapter:
        """Return the policy as it is now."""
        return await self._with(policy, lambda: self._host.publish(policy.name))

    async def state(self, policy: ServedPolicy) -> bytes:
        """Return all that the policy's next step depends on, but for gradients."""
        return await self._with(policy, lambda: self._host.state(policy.name))

    async def load_state(self, policy: ServedPolicy, state: bytes) -> None:
        """Take up a state in place of what the policy is. Raises ValueError if it is of another shape."""

        async def load() -> None:
            await self._host.load_state(policy.name, state)
            policy.kept, policy.current = state, True
            policy.gradients = policy.gradients_lost = False
            self._shelf.drop(policy)

        await self._with(policy, load)

    async def score(self, policy: ServedPolicy, sequences: Sequence[Sequence[int]], under: Under) -> list[list[float]]:
        """Return logprobs of every token but the first, at temperature 1."""
        return await self._with(policy, lambda: self._host.score(policy.name, sequences, under))

    async def remove(self, policy: ServedPolicy) -> None:
        """End a policy."""

        async def remove() -> None:
            if policy.on_learner:
                await self._host.remove(policy.name)
                policy.on_learner = False
            policy.kept = None
            self._shelf.drop(policy)

        policy.ended = True
        self._residents.forget(policy)
        await self._errand(remove)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._errands or self._requests:
                while self._errands:
                    await self._do(*self._errands.pop(0))
                try:
                    await self._pass()
                except Exception as error:  # whatever it is, those who come later are served
                    log.exception("a pass failed")
                    for request in self._requests:
                        request.lose()
                        request.fail(error)
                    self._requests = []

    def _errand(self, work: Work) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._errands.append((work, future))
        self._wake.set()
        return future

    def _with(self, policy: ServedPolicy, work: Callable[[], Awaitable[T]]) -> "asyncio.Future[T]":
        async def on_learner() -> T:
            await self._residents.bring_in(policy)
            return await work()

        return self._errand(on_learner)

    async def _do(self, work: Work, future: "asyncio.Future[Any]") -> None:
        try:
            result = await work()
        except Exception as error:
            if isinstance(error, LearnerDied):
                error = await self._residents.recover(error)
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    async def _optim_step(self, policy: ServedPolicy, adam: AdamConfig) -> dict[str, float]:
        policy.require_whole()
        if policy.gradients_lost:
            policy.gradients_lost = False
            raise ServerFault(
                "the learner died after the last step, and the gradients that were sent since are gone: this step was "
                "not taken; the policy is as it was after its last step, so send forward_backward again"
            )
        await self._residents.bring_in(policy)
        policy.gradients = False  # whatever ends this, they are used up, or their loss is told
        metrics = await self._host.optim_step(policy.name, adam)
        if metrics["update/nonfinite"]:
            raise ValueError("the step was not taken, because it would have made numbers that are infinite or NaN")
        await self._note_step(policy)
        return metrics

    async def _note_step(self, policy: ServedPolicy) -> None:
        """Count a step, and fetch the state after it if it is small. If the learner dies here, the step never was."""
        small = 3 * 4 * policy.trained_parameters <= self._limits.kept_state_bytes  # float32, with Adam's two moments
        try:
            policy.kept = await self._host.state(policy.name) if small else None
        except LearnerDied:
            raise
        except Exception:  # what was kept before is of another step
            log.exception("a policy's state could not be fetched")
            policy.kept = None
        policy.current = policy.kept is not None
        policy.steps += 1
        self._shelf.drop(policy)

    async def _pass(self) -> None:
        """Make one pass over the next part of each waiting request."""
        requests = [request for request in self._requests if not request.future.cancelled()]
        requests = requests[: max(1, self._limits.resident_policies // 2)]
        self._residents.in_pass = {request.policy.name for request in requests}
        ready = [request for request in requests if await self._ready(request)]
        ready = [request for request in ready if request.policy.on_learner]  # it may have died under the first of them
        for backward in (True, False):
            if group := [request for request in ready if request.backward is backward]:
                await self._pass_together(group, backward=backward)
        self._residents.in_pass = set()
        served = {id(request) for request in requests}
        waiting = [request for request in self._requests if not request.future.done()]
        # Those that were served go to the end: with more of them than have room in a pass, each has its turn.
        self._requests = sorted(waiting, key=lambda request: id(request) in served)

    async def _ready(self, request: PassRequest) -> bool:
        """Bring a request's policy in; where that fails, so does the request."""
        try:
            request.policy.require_whole()
            await self._residents.bring_in(request.policy)
            if request.backward and not request.done and len(request.parts) > 1:
                await self._host.hold_gradients(request.policy.name)
        except LearnerDied as died:
            request.lose()
            request.fail(await self._residents.recover(died))
            return False
        except Exception as error:
            request.fail(error)
            return False
        return True

    async def _pass_together(self, requests: Sequence[PassRequest], *, backward: bool) -> None:
        """Pass over a part of each; if they fail together, of each by itself, so that one costs no other."""
        compute = self._host.forward_backward if backward else self._host.forward
        try:
            outputs = await compute([request.update() for request in requests])
        except LearnerDied as died:
            for request in requests:
                request.lose()
            fault = await self._residents.recover(died)
            for request in requests:
                request.fail(fault)
        except Exception as error:
            if len(requests) > 1:
                for request in requests:
                    await self._pass_together([request], backward=backward)
            else:
                await self._undo(requests[0], error)
        else:
            for request, output in zip(requests, outputs, strict=True):
                request.policy.gradients = request.policy.gradients or backward
                request.take(output)

    async def _undo(self, request: PassRequest, error: Exception) -> None:
        """Fail a request, and take back what its earlier parts added."""
        if request.backward and request.done:
            try:
                await self._host.restore_gradients(request.policy.name)
            except LearnerDied as died:
                await self._residents.recover(died)
            except Exception:
                log.exception("gradients could not be taken back")
                request.policy.gradients_lost = True
        request.fail(error)
