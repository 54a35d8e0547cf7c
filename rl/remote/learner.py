"""A model on a server, as a run's `Learner`."""

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lora.accounting import model_parameters
from lora.base.load import load_skeleton
from lora.config import ATTENTION, MLP
from lora.peft.files import unpack
from lora.types import Adapter
from rl.algorithm.batch.minibatches import several
from rl.algorithm.batch.packing import unpack_rows
from rl.algorithm.objective.policy_gradient import aggregation, divisor
from rl.algorithm.objective.regularizers import regularizes
from rl.config import LearnerConfig, RunConfig
from rl.remote.connection import Connection
from rl.remote.engine import RemoteEngine
from rl.remote.policies import RemotePolicies
from rl.types import Learner, LearnerDied, Row, TrainBatch, Under
from rl.wire import tinker_pb2 as pb
from rl.wire.gradients import write_request

Datum = Mapping[str, Tensor]
"""A sequence's tokens and what its loss takes of each, by the protocol's names."""
MONTH_S = 30 * 24 * 3600
MOST_DATUMS, MOST_TOKENS = 256, 2**20
"""Tokens of one request have up to 24 bytes each: less than half of what a server reads (`limits.body_bytes`)."""
SERVED = ("importance", "reinforce", "ppo", "cispo", "gspo")
"""Objectives whose gradient a loss of the protocol has."""
NAMES = {"kl_sampler_learner:mean": "update/kl_sampler_learner", "entropy:mean": "update/entropy",
         "clip_fraction:mean": "update/clip_fraction"}  # fmt: skip


class RemoteLearner(Learner):
    """One model of a server. What it computes is what a learner here would, but for rounding."""

    def __init__(
        self, config: RunConfig, run: str, connection: Connection, policies: RemotePolicies, engine: RemoteEngine
    ) -> None:
        self._config = config
        self._run = run
        self._connection = connection
        self._policies = policies
        self._engine = engine
        self._model = ""
        self._numbers = itertools.count(1)
        self._version = 0

    @classmethod
    async def start(
        cls, config: RunConfig, run: str, connection: Connection, policies: RemotePolicies, engine: RemoteEngine
    ) -> "RemoteLearner":
        """Make a model as the configuration has it. Raises ValueError if the server cannot."""
        check_config(config)
        learner = cls(config, run, connection, policies, engine)
        await learner.restart()
        return learner

    async def restart(self) -> None:
        lora = self._config.lora
        layers = {
            "train_unembed": lora.lm_head,
            "train_mlp": MLP[0] in lora.targets,
            "train_attn": ATTENTION[0] in lora.targets,
        }
        await self._begin(
            "create_model", base_model=self._config.model.name,
            lora_config={"rank": lora.rank, "seed": self._config.seed, **layers},
        )  # fmt: skip
        self._version = 0

    async def publish(self) -> Adapter:
        return await self._policies.publish(self._run, self._model, next(self._numbers), self._version)

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
        if not batch.rows:
            return {"update/skipped": 1.0}
        rows = unpack_rows(batch.rows)
        loss, settings = summed(self._config.learner)
        data = [_inputs(row, loss, row_divisor(row, batch, self._config.learner)) for row in rows]
        outputs = [await self._forward_backward(part, loss, settings) for part in parts_of(data)]
        stepped = await self._connection.result(
            "optim_step", model_id=self._model, seq_id=next(self._numbers), adam_params=self._adam(lr_scale)
        )
        self._version += 1
        return _metrics(outputs) | {
            "update/grad_norm": stepped["metrics"]["unclipped_grad_l2:mean"],
            "update/nonfinite": 0.0,
            "update/lr": self._config.learner.lr * lr_scale,
        }

    async def score(self, sequences: Sequence[Sequence[int]], *, under: Under = "policy") -> list[list[float]]:
        assert under not in ("teacher", "reference"), "check_config refuses them"
        if under != "policy":
            return await self._engine.score_under(sequences, None if under == "base" else under)
        data = [_plain(sequence) for sequence in sequences]
        output = await self._forward_backward(data, "cross_entropy", {}, forward_only=True)
        records = [record.fields["logprobs"].data for record in output.loss_fn_outputs]
        return [np.frombuffer(record, np.float32).tolist() for record in records]

    async def state(self) -> bytes:
        name = f"step-{self._version:06d}-{secrets.token_hex(3)}"
        saved = await self._connection.result(
            "save_weights", model_id=self._model, seq_id=next(self._numbers), path=name, ttl_seconds=MONTH_S
        )
        return f"{self._version} {saved['path']}".encode()

    async def load_state(self, state: bytes) -> None:
        version, _, path = state.decode(errors="replace").partition(" ")
        if not version.isdecimal() or not path.startswith("tinker://"):
            raise ValueError("the checkpoint is none of a run on a server: its state is no path of saved weights")
        await self._begin("load_weights", path=path, optimizer=True)
        self._version = int(version)

    async def facts(self) -> Mapping[str, int]:
        tensors, _ = unpack((await self.publish()).payload)
        trained = sum(tensor.numel() for tensor in tensors.values())
        whole = model_parameters(load_skeleton(self._config.model))
        return {"trained_parameters": trained, "model_parameters": whole, "gradient_checkpointing": 0}

    async def close(self) -> None:
        try:
            await self._connection.result("unload_model", model_id=self._model)
        except (LearnerDied, ValueError):
            return  # the server ends it when its turn comes

    async def _begin(self, endpoint: str, **body: Any) -> None:
        number = next(self._connection.numbers)
        answer = await self._connection.result(
            endpoint, session_id=self._connection.session_id, model_seq_id=number, **body
        )
        self._model, self._numbers = answer["model_id"], itertools.count(1)

    async def _forward_backward(
        self,
        data: Sequence[Datum],
        loss: str,
        config: Mapping[str, float],
        *,
        forward_only: bool = False,
    ) -> pb.ForwardBackwardOutput:
        body = write_request(self._model, next(self._numbers), data, loss, config, forward_only=forward_only)
        output = pb.ForwardBackwardOutput()
        output.ParseFromString(await self._connection.result("forward_backward", body))
        return output

    def _adam(self, lr_scale: float) -> dict[str, float]:
        learner = self._config.learner
        return {
            "learning_rate": learner.lr * lr_scale, "beta1": learner.beta1, "beta2": learner.beta2,
            "eps": learner.eps, "weight_decay": 0.0, "grad_clip_norm": learner.max_grad_norm or 0.0,
        }  # fmt: skip


def check_config(config: RunConfig) -> None:
    """Raises ValueError if a server cannot train this run."""
    if config.sampling.temperature != 1.0:
        raise ValueError("a server learns at temperature 1: set sampling.temperature = 1.0, or train without --server")
    if config.sampling.ignore_eos and (config.sampling.stop or config.sampling.stop_token_ids):
        raise ValueError(
            "a server ends a completion at its model's end of sequence where it has other ends, too: set "
            "sampling.ignore_eos = false, or leave sampling.stop and stop_token_ids out, or train without --server"
        )
    if config.lora.kind == "tiny":
        raise ValueError('a server trains A and B: set lora.kind = "lora", or train without --server')
    if config.lora.alpha != 32.0 or config.lora.init is not None or config.learner.weights != "lora":
        raise ValueError(
            "a server trains fresh adapters of alpha 32: leave lora.alpha, lora.init and learner.weights alone"
        )
    if config.learner.objective_function is not None:
        raise ValueError("a server runs no program of a client's: leave learner.objective_function out with --server")
    if config.learner.objective not in SERVED:
        raise ValueError(
            f'a server knows no loss for learner.objective = "{config.learner.objective}": set it to one of '
            f"{', '.join(SERVED)}, or train without --server"
        )
    if several(config):
        raise ValueError(
            "a run on a server takes one update a step: set learner.minibatches = 1 and learner.epochs = 1"
        )
    if config.evaluate.num_test:
        raise ValueError(
            "a server samples the policies that it was told to publish, not the best one's file: set "
            "evaluate.num_test = 0, or train without --server"
        )
    if config.teacher.adapter is not None or config.learner.kl_reference is not None:
        raise ValueError(
            "a server has no adapter of a client's to score with: leave teacher.adapter and learner.kl_reference out, "
            "or train without --server"
        )
    if config.teacher.own_model(config.model) is not None:
        raise ValueError(
            "a server holds one model: leave teacher.model out, which makes the base the teacher, or train without "
            "--server"
        )
    if regularizes(config.learner):
        raise ValueError(
            "a server's losses have no entropy and no base model in them: set learner.entropy_coef = 0, and "
            'learner.kl_in = "reward" or learner.kl_coef = 0, or train without --server'
        )
    known = set(config.lora.targets)
    if not all(known.isdisjoint(group) or known.issuperset(group) for group in (ATTENTION, MLP)) or known - {
        *ATTENTION,
        *MLP,
    }:
        raise ValueError("a server adapts all attention layers, all MLP layers, or both: change lora.targets")


def summed(learner: LearnerConfig) -> tuple[str, dict[str, float]]:
    """Return the protocol's loss that has the gradient of a run's objective, and its settings."""
    low, high = "clip_low_threshold", "clip_high_threshold"
    match learner.objective:
        case "importance":  # truncation from above alone
            return "cispo", {low: 0.0, high: learner.max_ratio}
        case "cispo":
            return "cispo", {low: 1 - learner.clip_low, high: learner.max_ratio}
        case "ppo":
            return "ppo", {low: 1 - learner.clip_low, high: 1 + learner.clip_high}
        case "gspo":
            return "gspo", {low: 1 - learner.gspo_clip_low, high: 1 + learner.gspo_clip_high}
        case _:
            return "cross_entropy", {}


def row_divisor(row: Row, batch: TrainBatch, learner: LearnerConfig) -> int:
    """Return what the protocol's losses of one completion's tokens are divided by: theirs are plain sums."""
    length = len(row.targets) if aggregation(learner) == "sequence" else 1
    return divisor(batch, learner) * length


def parts_of(data: Sequence[Datum]) -> Iterator[list[Datum]]:
    """Yield a step's datums, in their order, as requests that a server reads."""
    part, tokens = list[Datum](), 0
    for datum in data:
        length = len(datum["token_ids"])
        if part and (len(part) == MOST_DATUMS or tokens + length > MOST_TOKENS):
            yield part
            part, tokens = [], 0
        part.append(datum)
        tokens += length
    yield part


def _inputs(row: Row, loss: str, scale: int) -> Datum:
    """Return a row of one completion as the protocol has it: targets at all positions, the prompt's without weight."""
    length = len(row.token_ids)

    def spread(values: Tensor) -> Tensor:
        return torch.zeros(length, dtype=values.dtype).index_copy(0, row.predictors, values)

    weights = spread(row.advantages / scale)
    inputs = {"token_ids": row.token_ids, "target_tokens": spread(row.targets)}
    if loss == "cross_entropy":
        return inputs | {"weights": weights}
    inputs |= {"advantages": weights, "logprobs": spread(row.rollout_logprobs)}
    return inputs | ({"sequence_ratio_mask": spread(torch.ones(len(row.targets)))} if loss == "gspo" else {})


def _plain(sequence: Sequence[int]) -> Datum:
    ids = torch.tensor(list(sequence))
    return {"token_ids": ids[:-1], "target_tokens": ids[1:], "weights": torch.zeros(len(ids) - 1)}


def _metrics(outputs: Sequence[pb.ForwardBackwardOutput]) -> dict[str, float]:
    tokens = sum(output.metrics["tokens:sum"] for output in outputs)
    means = {
        name: sum(output.metrics[key] * output.metrics["tokens:sum"] for output in outputs) / max(1.0, tokens)
        for key, name in NAMES.items()
    }
    loss = sum(output.metrics["loss:sum"] for output in outputs)
    return {"update/loss": loss, "update/tokens": tokens, "update/skipped": 0.0, **means}
