"""A client's request for a pass over its data: in parts, so that nobody waits for the longest."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from rl.algorithm.batch.datum import Datum, datum_logprobs, datum_row
from rl.algorithm.objective.summed_loss import SummedLoss
from rl.learner.passes.policy_loss import ForwardBackward
from rl.learner.policy_host import PolicyUpdate
from rl.serve.training.policies import ServedPolicy
from rl.types import TrainBatch


@dataclass(frozen=True, slots=True)
class Passed:
    """The outcome of a request's passes."""

    logprobs: list[Tensor]
    """Each datum's, in its targets' shape."""
    metrics: dict[str, float]


@dataclass(slots=True, eq=False)
class PassRequest:
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

    def fail(self, error: Exception) -> None:
        """Tell its client, who may be gone."""
        if not self.future.done():
            self.future.set_exception(error)

    async def passed(self) -> Passed:
        """Wait for its passes, and return the outcome. Raises what it failed with."""
        outputs = await self.future
        rows = [row for output in outputs for row in output.logprobs]
        data = [datum for part in self.parts for datum in part]
        shaped = [datum_logprobs(datum, row) for datum, row in zip(data, rows, strict=True)]
        return Passed(shaped, _metrics(outputs))


def parts_of(data: Sequence[Datum], tokens: int) -> list[list[Datum]]:
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
