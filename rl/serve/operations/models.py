"""The models that clients train, by the ids that they make up: made, loaded, and handed their requests in turn."""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from lora.config import ATTENTION, MLP, LoraConfig
from rl.config import LearnerConfig
from rl.learner.policies.policy import PolicySpec
from rl.learner.policies.state import weights_only_state
from rl.serve.errors import Rejected, ServerFault, explain
from rl.serve.facts import ModelFacts
from rl.serve.operations.turns import Turns
from rl.serve.storage.checkpoints import Checkpoints
from rl.serve.storage.database import TrainingRun
from rl.serve.storage.registry import Registry, now
from rl.serve.training.policies import ServedPolicy
from rl.serve.training.trainer import Trainer
from rl.wire.bodies import CreateModel, LoadWeights, LoraRequest, ModelRequest
from rl.wire.tinker_path import parse_path

ALPHA = 32.0
"""Tinker's, at every rank."""


@dataclass(slots=True, eq=False)
class Model:
    """A client's model."""

    id: str
    user: str
    run: TrainingRun
    policy: ServedPolicy
    turns: Turns
    seen: list[list[int]] = field(default_factory=list[list[int]])
    """Some of the texts that it was trained on last, for the liveness check."""


class Models:
    """The models of all users."""

    def __init__(
        self, trainer: Trainer, registry: Registry, checkpoints: Checkpoints, facts: ModelFacts, *,
        patience_s: float, most_of_user: int,
    ) -> None:  # fmt: skip
        self._trainer = trainer
        self._registry = registry
        self._checkpoints = checkpoints
        self._facts = facts
        self._patience_s = patience_s
        self._most_of_user = most_of_user
        self._models: dict[str, Model] = {}
        self._in_making: dict[str, asyncio.Event] = {}
        self._makers: Counter[str] = Counter()
        """By user: models that are being made."""
        self.on_end: list[Callable[[Model], None]] = []
        """Called with each model that ends."""

    def all(self) -> list[Model]:
        """Return all models that there are now."""
        return list(self._models.values())

    async def create(self, user: str, body: CreateModel) -> Model:
        """Make a new model.

        Raises:
            ValueError: the base model, the rank, the layers or the optimizer are none that this server has.
        """
        self._facts.require(body.base_model)
        lora = body.lora_config or LoraRequest(rank=self._facts.max_rank)
        _require_adamw(body.optimizer_config.type)
        row = self._row(user, body.session_id, body.model_seq_id, lora, body.user_metadata)
        config = self._lora_config(lora)
        seed = secrets.randbits(32) if lora.seed is None else lora.seed % 2**63
        with self._making(user, row.id):
            return await self._make(row, lambda name: _spec(name, config, seed), state=None)

    async def load(self, user: str, body: LoadWeights) -> Model:
        """Make a new model of saved weights.

        Raises:
            ValueError: there are no such weights, or they are another base model's.
        """
        if body.session_id is None or body.model_seq_id is None:
            raise ValueError("load_weights needs session_id and model_seq_id, or model_id and seq_id")
        if body.base_model is not None:
            self._facts.require(body.base_model)
        if body.optimizer_config is not None:
            _require_adamw(body.optimizer_config.type)
        with self._making(user, model_id(body.session_id, body.model_seq_id)):
            lora, state = await self.saved_state(user, body.path, optimizer=body.optimizer)
            row = self._row(user, body.session_id, body.model_seq_id, lora, body.user_metadata)
            config = self._lora_config(lora)
            return await self._make(row, lambda name: _spec(name, config, 0), state=state)

    async def saved_state(self, user: str, path: str, *, optimizer: bool) -> tuple[LoraRequest, bytes]:
        """Return the shape of a checkpoint's adapter and its state. Raises ValueError if there is none."""
        saved = await asyncio.to_thread(self._checkpoints.find, user, parse_path(path))
        run = await asyncio.to_thread(self._registry.run, saved.user, saved.run_id)
        if run is None:
            raise ValueError(f"the run of {path} is gone")
        self._facts.require(run.base_model)
        state = await asyncio.to_thread(self._checkpoints.state, saved)
        shape = LoraRequest(
            rank=run.rank, train_unembed=run.train_unembed, train_mlp=run.train_mlp, train_attn=run.train_attn
        )
        return shape, state if optimizer else weights_only_state(state)

    async def get(self, user: str, model_id: str) -> Model:
        """Return a user's model.

        Raises:
            Rejected: there is no such model.
            ServerFault: an earlier start of the server had it.
        """
        if (making := self._in_making.get(model_id)) is not None:
            await making.wait()
        model = self._models.get(model_id)
        if model is not None and model.user == user:
            return model
        row = await asyncio.to_thread(self._registry.run, user, model_id)
        if row is None:
            raise Rejected(404, f"there is no model {model_id[:200]!r}")
        raise ServerFault(await asyncio.to_thread(self._gone, row))

    def awaits(self, user: str, model_id: str, number: int) -> bool:
        """Return True if other requests to a user's model wait for the one of this number."""
        model = self._models.get(model_id)
        return model is not None and model.user == user and model.turns.awaits(number)

    async def in_turn(self, user: str, request: ModelRequest, work: Callable[[Model], Awaitable[Any]]) -> Any:
        """Return what the work returns, done when the request's turn comes."""
        model = await self.get(user, request.model_id)
        model.run.last_request = now()
        return await model.turns.take(request.seq_id, lambda: work(model))

    async def remove(self, model_id: str) -> None:
        """End a model; what it saved stays."""
        model = self._models.pop(model_id, None)
        if model is not None:
            for tell in self.on_end:
                tell(model)
            await self._trainer.remove(model.policy)

    @contextlib.contextmanager
    def _making(self, user: str, model: str) -> Generator[None]:
        """Let requests to a model wait while the block makes it."""
        making = self._in_making[model] = asyncio.Event()
        self._makers[user] += 1
        try:
            yield
        finally:
            making.set()
            del self._in_making[model]
            self._makers[user] -= 1

    async def _make(self, row: TrainingRun, spec: Callable[[str], PolicySpec], state: bytes | None) -> Model:
        if (model := self._models.get(row.id)) is not None:  # sent again, so late that its first result is forgotten
            return model
        await self._make_room(row.user)
        name = f"{row.id.replace(':', '-')}-{secrets.token_hex(3)}"
        policy = await self._trainer.create(spec(name), state)
        try:
            await asyncio.to_thread(self._registry.add, row)
        except BaseException:
            await self._trainer.remove(policy)
            raise
        model = self._models[row.id] = Model(row.id, row.user, row, policy, Turns(self._patience_s))
        return model

    async def _make_room(self, user: str) -> None:
        """End the user's model that was not used for longest, if there are as many as one may have.

        Raises:
            ValueError: all of them are in use.
        """
        own = [model for model in self._models.values() if model.user == user]
        excess = len(own) + self._makers[user] - self._most_of_user
        idle = sorted((model for model in own if model.turns.idle), key=lambda model: model.policy.used)
        if excess > len(idle):
            raise ValueError(
                f"{self._most_of_user} models of yours are in use, which is the most that this server trains for one "
                "user (limits.models): wait until one is done, or end one"
            )
        for model in idle[: max(0, excess)]:
            await self.remove(model.id)

    def _lora_config(self, lora: LoraRequest) -> LoraConfig:
        if not 1 <= lora.rank <= self._facts.max_rank:
            raise ValueError(f"rank {lora.rank} is not served: choose 1 to {self._facts.max_rank} (serve's max_rank)")
        targets = (*(ATTENTION if lora.train_attn else ()), *(MLP if lora.train_mlp else ()))
        if not targets and not lora.train_unembed:
            raise ValueError("nothing would be trained: one of train_attn, train_mlp and train_unembed must be true")
        return LoraConfig(
            rank=lora.rank, alpha=ALPHA, targets=targets, lm_head=lora.train_unembed, allow_large_rank=True
        )

    def _row(
        self, user: str, session_id: str, seq_id: int, lora: LoraRequest, user_metadata: dict[str, Any] | None
    ) -> TrainingRun:
        moment = now()
        return TrainingRun(
            id=model_id(session_id, seq_id),
            user=user,
            session_id=session_id,
            base_model=self._facts.name,
            rank=lora.rank,
            train_unembed=lora.train_unembed,
            train_mlp=lora.train_mlp,
            train_attn=lora.train_attn,
            created=moment,
            last_request=moment,
            user_metadata=user_metadata,
        )

    def _gone(self, row: TrainingRun) -> str:
        newest = self._registry.newest(row.id, "weights")
        place = (
            "it was never saved, so begin anew" if newest is None else f"load tinker://{row.id}/weights/{newest.name}"
        )
        return f"model {row.id} ended when the server was started anew, or made room for another: {place}"


def model_id(session_id: str, seq_id: int) -> str:
    """Return the id of a session's model, which clients make up themselves."""
    return f"{session_id}:train:{seq_id}"


def checked(kind: type[Any], body: dict[str, Any]) -> Any:
    """Return the body as a request of that kind. Raises ValueError, in one line, if it is none."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise ValueError(explain(error)) from None


def _spec(name: str, lora: LoraConfig, seed: int) -> PolicySpec:
    return PolicySpec(name, lora, LearnerConfig(), temperature=1.0, seed=seed)


def _require_adamw(optimizer: str) -> None:
    if optimizer not in ("adamw", "adam"):
        raise ValueError(f"optimizer {optimizer!r} is not served: use adamw")
