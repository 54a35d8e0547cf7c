"""Operations that clients ask of their models: each takes a body as it came, and returns the answer as it goes back."""

import asyncio
import json
import secrets
from functools import partial
from typing import Any

from rl.algorithm.batch.datum import Datum, check_datum
from rl.algorithm.liveness import NUM_SEQUENCES
from rl.algorithm.objective.summed_loss import SummedLoss
from rl.learner.policies.adam import AdamConfig, check_adam
from rl.serve.facts import ModelFacts
from rl.serve.operations.curves import Curves
from rl.serve.operations.futures import PROTOBUF, Answer
from rl.serve.operations.liveness import ServedLiveness
from rl.serve.operations.meter import Meter
from rl.serve.operations.models import Model, Models, checked
from rl.serve.sampling.samplers import Samplers
from rl.serve.storage.checkpoints import Checkpoints, SaveOptions, path_of
from rl.serve.storage.database import Checkpoint
from rl.serve.training.trainer import Trainer
from rl.wire import bodies
from rl.wire import tinker_pb2 as pb
from rl.wire.gradients import loss_config, read_datums, write_output
from rl.wire.samples import write_samples
from rl.wire.tinker_path import Kind, TinkerPath, checked_name

Json = dict[str, Any]
MANY_CELLS = 10_000
"""Logprobs in an answer that take some milliseconds to write."""


class Operations:
    """Everything that is answered through a future."""

    def __init__(
        self, models: Models, samplers: Samplers, trainer: Trainer, checkpoints: Checkpoints, facts: ModelFacts,
        meter: Meter, liveness: ServedLiveness, curves: Curves,
    ) -> None:  # fmt: skip
        self._liveness = liveness
        self._curves = curves
        self._models = models
        self._samplers = samplers
        self._trainer = trainer
        self._checkpoints = checkpoints
        self._facts = facts
        self._meter = meter

    async def create_model(self, user: str, body: bodies.CreateModel) -> Answer:
        """Make a model."""
        model = await self._models.create(user, body)
        return answer(type="create_model", model_id=model.id)

    async def load_weights(self, user: str, body: bodies.LoadWeights) -> Answer:
        """Make a model of saved weights, or put them into one that was just made."""
        if body.model_id is None:
            model = await self._models.load(user, body)
            return answer(type="load_weights", model_id=model.id, path=body.path)
        request = bodies.ModelRequest(model_id=body.model_id, seq_id=body.seq_id)
        return await self._models.in_turn(user, request, lambda model: self._load_into(model, body))

    async def forward_backward(self, user: str, message: pb.ForwardBackwardRequest) -> Answer:
        """Compute the logprobs of data, and add the gradients of its loss."""

        async def work(model: Model) -> Answer:
            data, loss = await asyncio.to_thread(self._read, message)
            await self._meter.take(user, "trained", sum(len(datum.token_ids) for datum in data))
            passed = await self._trainer.forward_backward(model.policy, data, loss, backward=not message.forward_only)
            self._meter.observe_pass(model, passed.metrics)
            if not message.forward_only:
                self._curves.on_pass(model, passed.metrics)
            model.seen = [datum.token_ids.tolist() for datum in data[:NUM_SEQUENCES] if len(datum.token_ids) > 1]
            return Answer(await asyncio.to_thread(write_output, passed.logprobs, passed.metrics), PROTOBUF)

        return await self._models.in_turn(user, _place(message.model_id, message.seq_id), work)

    async def refuse(self, user: str, message: pb.ForwardBackwardRequest, detail: str) -> Answer:
        """Fail a pass whose data could not be read, when its turn comes."""

        async def work(_: Model) -> Answer:
            raise ValueError(detail)

        return await self._models.in_turn(user, _place(message.model_id, message.seq_id), work)

    async def optim_step(self, user: str, body: Json) -> Answer:
        """Move a model by its gradients."""

        async def work(model: Model) -> Answer:
            metrics = await self._trainer.optim_step(model.policy, _adam(checked(bodies.OptimStep, body)))
            named = {"unclipped_grad_l2:mean": metrics["update/grad_norm"], "lr:mean": metrics["update/lr"]}
            self._meter.observe_step(model, metrics)
            self._curves.on_step(model, metrics)
            return answer(type="optim_step", metrics=named)

        return await self._models.in_turn(user, _envelope(body), work)

    async def save_weights(self, user: str, body: Json) -> Answer:
        """Save all that a model's next step depends on."""

        async def work(model: Model) -> Answer:
            request = checked(bodies.SaveWeights, body)
            state = await self._trainer.state(model.policy)
            row = await self._save(model, "weights", request, state)
            model.policy.checkpoint = str(path_of(row))
            return answer(type="save_weights", path=str(path_of(row)))

        return await self._models.in_turn(user, _envelope(body), work)

    async def save_weights_for_sampler(self, user: str, body: Json) -> Answer:
        """Save a model's weights under a name, or make a sampler of them."""

        async def work(model: Model) -> Answer:
            request = checked(bodies.SaveWeightsForSampler, body)
            if request.path is None:
                seq_id = (
                    secrets.randbits(31) if request.sampling_session_seq_id is None else request.sampling_session_seq_id
                )
                adapter = await self._trainer.publish(model.policy)
                self._liveness.on_snapshot(model, adapter)
                sampler = await self._samplers.create_snapshot(user, model.run.session_id, seq_id, model.id, adapter)
                return answer(type="save_weights_for_sampler", sampling_session_id=sampler)
            row = await self._save(model, "sampler_weights", request, None)
            return answer(type="save_weights_for_sampler", path=str(path_of(row)))

        return await self._models.in_turn(user, _envelope(body), work)

    async def save_weights_external(self, user: str, body: Json) -> Answer:
        """Save a model as a PEFT directory to download."""

        async def work(model: Model) -> Answer:
            request = checked(bodies.SaveWeightsExternal, body)
            if request.age_encryption_recipients:
                raise ValueError("age_encryption_recipients is not served: leave it out, and use TLS")
            row = await self._save(model, "external_weights", request, None)
            return answer(type="save_weights_external", path=str(path_of(row)), size_bytes=row.size_bytes)

        return await self._models.in_turn(user, _envelope(body), work)

    async def sample(self, user: str, body: bodies.Sample) -> Answer:
        """Draw completions, and score their prompt."""
        self._liveness.require_sound()
        prompt_tokens = len(body.prompt.token_ids())
        try:
            sampled, others = await self._samplers.sample(user, body)
        except asyncio.CancelledError:  # its client gave up; how far the engine came, nobody knows
            self._meter.count(user, "sampled", prompt_tokens)
            raise
        drawn = sum(len(completion.token_ids) for completion in sampled.completions)
        alternatives = None if others is None else (others.tokens, others.logprobs)
        extra = 0 if others is None else sum(map(len, others.tokens))
        await self._meter.take(user, "sampled", drawn + extra + prompt_tokens)
        write = partial(
            write_samples, sampled.completions, sampled.prompt, top_sampled=body.topk_sample_logprobs,
            top_prompt=body.topk_prompt_logprobs, alternatives=alternatives,
        )  # fmt: skip
        cells = extra + drawn * (1 + body.topk_sample_logprobs) + prompt_tokens * (1 + body.topk_prompt_logprobs)
        # On a thread where it takes long: heartbeats are answered meanwhile.
        return Answer(await asyncio.to_thread(write) if cells > MANY_CELLS else write(), PROTOBUF)

    async def _load_into(self, model: Model, body: bodies.LoadWeights) -> Answer:
        shape, state = await self._models.saved_state(model.user, body.path, optimizer=body.optimizer)
        row = model.run
        own = (row.rank, row.train_unembed, row.train_mlp, row.train_attn)
        if own != (shape.rank, shape.train_unembed, shape.train_mlp, shape.train_attn):
            raise ValueError(
                f"{body.path} is of rank {shape.rank} or of other layers than this model: load it into a new one"
            )
        await self._trainer.load_state(model.policy, state)
        return answer(type="load_weights", model_id=model.id, path=body.path)

    async def _save(self, model: Model, kind: Kind, request: bodies.SaveWeights, state: bytes | None) -> Checkpoint:
        path = TinkerPath(model.id, kind, checked_name(request.path or ""))
        adapter = await self._trainer.publish(model.policy)
        options = SaveOptions(request.ttl_seconds, request.overwrite, request.user_metadata)
        return await asyncio.to_thread(self._checkpoints.save, model.user, path, adapter, state, options)

    def _read(self, message: pb.ForwardBackwardRequest) -> tuple[list[Datum], SummedLoss]:
        loss = SummedLoss.of(message.loss_fn, loss_config(message))
        data = read_datums(message, self._facts.max_length)
        for index, datum in enumerate(data):
            try:
                check_datum(datum, self._facts.vocab_size, self._facts.max_length)
            except ValueError as error:
                raise ValueError(f"data[{index}]: {error}") from None
        return data, loss


def answer(**fields: Any) -> Answer:
    """Return an answer in JSON; fields without a value are left out."""
    return Answer(json.dumps({name: value for name, value in fields.items() if value is not None}).encode())


def _envelope(body: Json) -> bodies.ModelRequest:
    """Return whose request it is, and which; what else is wrong is said when its turn has come."""
    return bodies.ModelRequest(model_id=body["model_id"], seq_id=body.get("seq_id"))


def _place(model_id: str, seq_id: int) -> bodies.ModelRequest:
    return bodies.ModelRequest(model_id=model_id, seq_id=seq_id or None)


def _adam(body: bodies.OptimStep) -> AdamConfig:
    """Return the settings of a step. Raises ValueError if it is another optimizer's, or a number would spoil it."""
    if body.optimizer_params is not None or body.adam_params is None:
        kind = (body.optimizer_params or {}).get("type", "none")
        raise ValueError(f"optimizer {kind!r} is not served: send adam_params")
    sent = body.adam_params
    adam = AdamConfig(
        sent.learning_rate, sent.beta1, sent.beta2, sent.eps, sent.weight_decay, max_grad_norm=sent.grad_clip_norm
    )
    check_adam(adam)
    return adam
