"""The training of several clients on one learner: waiting requests share its passes, and none waits for the longest.

The learner does one thing at a time. Steps, saves and loads come first, in the order in which they came; then one pass,
with a part of every model's request that waits for one. A request that is longer than a part takes several passes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from lora.types import Adapter
from rl.algorithm.datum import Datum, datum_logprobs, datum_row
from rl.algorithm.summed_loss import SummedLoss
from rl.learner.policy import AdamConfig, PolicySpec
from rl.learner.policy_host import LearnerHost, PolicyUpdate
from rl.learner.policy_loss import ForwardBackward
from rl.serve.errors import ServerFault
from rl.serve.policies import ServedPolicy, Shelf
from rl.types import LearnerDied, TrainBatch, Under

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[], Awaitable[Any]]
RESTARTS = (0.0, 1.0, 5.0, 15.0, 30.0)
"""Seconds before each try to start a dead learner again."""


@dataclass(frozen=True, slots=True)
class TrainerLimits:
    """Sizes that decide what is done together."""

    part_tokens: int = 8192
    """Most tokens of one request in one pass."""
    resident_policies: int = 16
    """Most policies that the learner holds at once."""
    kept_state_bytes: int = 64 * 2**20
    """Largest state that is fetched after every step, so that a dead learner costs no step."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The outcome of a request's passes."""

    logprobs: list[Tensor]
    """Each datum's, in its targets' shape."""
    metrics: dict[str, float]


@dataclass(slots=True, eq=False)
class _Request:
    """A forward or forward-backward pass, part by part."""

    policy: ServedPolicy
    parts: list[list[Datum]]
    loss: SummedLoss
    backward: bool
    done: list[ForwardBackward] = field(default_factory=list[ForwardBackward])
    future: "asyncio.Future[list[ForwardBackward]]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def update(self) -> PolicyUpdate:
        """Return the next part as the learner takes it."""
        rows = [datum_row(datum) for datum in self.parts[len(self.done)]]
        return PolicyUpdate(self.policy.name, TrainBatch(rows, 1, 1), loss=self.loss)

    def lose(self) -> None:
        """Note that its gradients will be missing: a step that its client has sent already must not be taken."""
        self.policy.gradients_lost = self.policy.gradients_lost or self.backward

    def take(self, output: ForwardBackward) -> None:
        """Take in the next part's outcome."""
        self.done.append(output)
        if len(self.done) == len(self.parts) and not self.future.done():
            self.future.set_result(self.done)


class Trainer:
    """The learner as its clients' requests see it. `run` is the task that works on them."""

    def __init__(self, host: LearnerHost, shelf: Shelf, limits: TrainerLimits | None = None) -> None:
        self._host = host
        self._shelf = shelf
        self._limits = limits or TrainerLimits()
        self._policies: dict[str, ServedPolicy] = {}
        self._errands: list[tuple[Work, asyncio.Future[Any]]] = []
        self._requests: list[_Request] = []
        self._in_pass: set[str] = set()
        """Policies of the pass that is under way."""
        self._wake = asyncio.Event()

    @property
    def queue_length(self) -> int:
        """Number of requests that wait or are under way."""
        return len(self._errands) + len(self._requests)

    async def create(self, spec: PolicySpec, state: bytes | None = None) -> ServedPolicy:
        """Begin a policy, from a state if there is one. Raises ValueError if the model cannot be adapted so."""
        policy = ServedPolicy(spec.run, spec, kept=state)
        await self._errand(lambda: self._bring_in(policy))
        self._policies[policy.name] = policy
        return policy

    async def forward_backward(
        self, policy: ServedPolicy, data: Sequence[Datum], loss: SummedLoss, *, backward: bool
    ) -> Passed:
        """Return the logprobs of all targets, and with `backward` add the gradients of the loss; all of them or none.

        Raises:
            ServerFault: the learner died; no gradient of this request or of earlier ones since the last step is there.
        """
        policy.require_whole()
        request = _Request(policy, _parts(data, self._limits.part_tokens), loss, backward)
        self._requests.append(request)
        self._wake.set()
        outputs = await request.future
        logprobs = [row for output in outputs for row in output.logprobs]
        shaped = [datum_logprobs(datum, row) for datum, row in zip(data, logprobs, strict=True)]
        return Passed(shaped, _metrics(outputs))

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
        self._policies.pop(policy.name, None)
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
                        self._fail(request, error)
                    self._requests = []

    def _errand(self, work: Work) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._errands.append((work, future))
        self._wake.set()
        return future

    def _with(self, policy: ServedPolicy, work: Callable[[], Awaitable[T]]) -> "asyncio.Future[T]":
        async def on_learner() -> T:
            await self._bring_in(policy)
            return await work()

        return self._errand(on_learner)

    async def _do(self, work: Work, future: "asyncio.Future[Any]") -> None:
        try:
            result = await work()
        except Exception as error:
            if isinstance(error, LearnerDied):
                error = await self._recover(error)
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
        await self._bring_in(policy)
        policy.gradients = False  # whatever ends this, they are used up, or their loss is told
        metrics = await self._host.optim_step(policy.name, adam)
        if metrics["update/nonfinite"]:
            raise ValueError("the step was not taken, because it would have made numbers that are infinite or NaN")
        await self._note_step(policy)
        return metrics

    async def _note_step(self, policy: ServedPolicy) -> None:
        """Count a step, and fetch the state after it if it is small. If the learner dies here, the step never was."""
        facts = await self._host.facts(policy.name)
        small = 3 * 4 * facts["trained_parameters"] <= self._limits.kept_state_bytes  # float32, with Adam's two moments
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
        self._in_pass = {request.policy.name for request in requests}
        ready = [request for request in requests if await self._ready(request)]
        ready = [request for request in ready if request.policy.on_learner]  # it may have died under the first of them
        for backward in (True, False):
            if group := [request for request in ready if request.backward is backward]:
                await self._pass_together(group, backward=backward)
        self._in_pass = set()
        served = {id(request) for request in requests}
        waiting = [request for request in self._requests if not request.future.done()]
        # Those that were served go to the end: with more of them than have room in a pass, each has its turn.
        self._requests = sorted(waiting, key=lambda request: id(request) in served)

    async def _ready(self, request: _Request) -> bool:
        """Bring a request's policy in; where that fails, so does the request."""
        try:
            request.policy.require_whole()
            await self._bring_in(request.policy)
            if request.backward and not request.done and len(request.parts) > 1:
                await self._host.hold_gradients(request.policy.name)
        except LearnerDied as died:
            request.lose()
            self._fail(request, await self._recover(died))
            return False
        except Exception as error:
            self._fail(request, error)
            return False
        return True

    async def _pass_together(self, requests: Sequence[_Request], *, backward: bool) -> None:
        """Pass over a part of each; if they fail together, of each by itself, so that one costs no other."""
        compute = self._host.forward_backward if backward else self._host.forward
        try:
            outputs = await compute([request.update() for request in requests])
        except LearnerDied as died:
            for request in requests:
                request.lose()
            fault = await self._recover(died)
            for request in requests:
                self._fail(request, fault)
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

    async def _undo(self, request: _Request, error: Exception) -> None:
        """Fail a request, and take back what its earlier parts added."""
        if request.backward and request.done:
            try:
                await self._host.restore_gradients(request.policy.name)
            except LearnerDied as died:
                await self._recover(died)
            except Exception:
                log.exception("gradients could not be taken back")
                request.policy.gradients_lost = True
        self._fail(request, error)

    def _fail(self, request: _Request, error: Exception) -> None:
        if not request.future.done():
            request.future.set_exception(error)

    async def _bring_in(self, policy: ServedPolicy) -> None:
        """See that a policy is on the learner, as it was."""
        policy.require_whole()
        if not policy.on_learner:
            await self._make_room()
            await self._host.add(policy.spec)
            if (state := await asyncio.to_thread(self._shelf.take, policy)) is not None:
                try:
                    await self._host.load_state(policy.name, state)
                except ValueError:
                    await self._host.remove(policy.name)
                    raise
            policy.on_learner = True
        policy.used = asyncio.get_running_loop().time()

    async def _make_room(self) -> None:
        """Put policies away that were not used for longest. Those stay that have gradients, or a part in this pass."""
        resident = [policy for policy in self._policies.values() if policy.on_learner]
        free = [policy for policy in resident if not policy.gradients and policy.name not in self._in_pass]
        excess = max(0, len(resident) + 1 - self._limits.resident_policies)
        for policy in sorted(free, key=lambda policy: policy.used)[:excess]:
            await self._put_away(policy)

    async def _put_away(self, policy: ServedPolicy) -> None:
        if not policy.current:
            policy.kept, policy.current = await self._host.state(policy.name), True
        await self._host.remove(policy.name)
        policy.on_learner = False
        try:
            await asyncio.to_thread(self._shelf.put, policy)
        except OSError as error:
            log.warning("a policy that is put away stays in memory: %s", error)

    async def _recover(self, died: LearnerDied) -> ServerFault:
        """Start the learner again after its death; return what the client is told."""
        for policy in self._policies.values():
            if policy.on_learner:
                policy.forget_device()
        log.warning("%s; it is started again", died)
        for pause in RESTARTS:
            await asyncio.sleep(pause)
            try:
                await self._host.restart()
            except Exception as error:  # no memory, no device, whatever: it may be there the next time
                log.warning("the learner could not be started: %s", error)
            else:
                return ServerFault(f"{died}; it was started again, and this request was not carried out")
        return ServerFault(f"{died}, and could not be started again: tell the server's operator")


def _parts(data: Sequence[Datum], tokens: int) -> list[list[Datum]]:
    """Divide data into parts of at most `tokens` tokens, or of one datum. Nobody else's requests change them."""
    parts: list[list[Datum]] = []
    size = 0
    for datum in data:
        size += len(datum.token_ids)
        if parts and size <= tokens:
            parts[-1].append(datum)
        else:
            parts.append([datum])
            size = len(datum.token_ids)
    return parts


def _metrics(outputs: Sequence[ForwardBackward]) -> dict[str, float]:
    """Return a whole request's metrics, in the protocol's names: those of tokens are means over all of its tokens."""
    tokens = sum(output.metrics.get("update/tokens", 0.0) for output in outputs)
    metrics = {"loss:sum": sum(output.metrics["update/loss"] for output in outputs), "tokens:sum": tokens}
    for name in ("kl_sampler_learner", "entropy", "clip_fraction"):
        weighted = sum(o.metrics.get(f"update/{name}", 0.0) * o.metrics.get("update/tokens", 0.0) for o in outputs)
        metrics[f"{name}:mean"] = weighted / max(1.0, tokens)
    return metrics
