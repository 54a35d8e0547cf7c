"""The learner: one frozen base model, and the state of the policy that is trained on it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from lora.accounting import model_parameters, trained_parameters
from lora.config import LoraConfig, ModelConfig
from lora.files import pack, unpack
from lora.inject import LoraLayers
from lora.load import load_adapted
from lora.types import Adapter
from rl.config import LearnerConfig
from rl.forward import Microbatch, check_head, microbatches, target_logprobs
from rl.objective import OBJECTIVES, clipped
from rl.types import Learner, Row, TrainBatch


@dataclass(slots=True)
class Policy:
    """What belongs to one policy, apart from the base model that all share."""

    run: str
    layers: LoraLayers
    optimizer: torch.optim.Adam
    version: int = 0


class TorchLearner(Learner):
    """Updates the adapter in this process, on one device."""

    def __init__(
        self,
        run: str,
        model: ModelConfig,
        lora: LoraConfig,
        config: LearnerConfig,
        *,
        temperature: float,
        seed: int,
        device: str = "cpu",
    ) -> None:
        """Raises ValueError if there is no such model, or it cannot be adapted."""
        self._config = config
        self._temperature = temperature
        self._device = device
        self._dtype = getattr(torch, model.dtype)
        adapted = load_adapted(model, lora, device=device, seed=seed)
        self._model, self._description = adapted.model, adapted.description
        check_head(self._model)
        if config.gradient_checkpointing:
            checkpointed: Any = self._model
            checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
            checkpointed.train()  # transformers recomputes in training mode alone; nothing here has dropout
        self.policy = Policy(run, adapted.layers, _adam(adapted.layers, config))

    async def publish(self) -> Adapter:
        tensors = {name: tensor.to(self._dtype) for name, tensor in self.policy.layers.tensors().items()}
        return Adapter(self.policy.run, self.policy.version, pack(tensors, self._description))

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
        if not batch.rows:
            return {"update/skipped": 1.0}
        lr = self._config.lr * lr_scale
        self.policy.optimizer.zero_grad()
        sums = _Sums()
        for microbatch in microbatches(batch.rows, self._config.tokens_per_microbatch, self._device):
            self._accumulate(microbatch, batch.num_tokens, sums)
        parameters = list(self.policy.layers.tensors().values())
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._config.max_grad_norm or math.inf).item()
        finite = math.isfinite(norm) and math.isfinite(sums.loss)
        if finite:
            for group in self.policy.optimizer.param_groups:
                group["lr"] = lr
            self.policy.optimizer.step()
            self.policy.version += 1
        return sums.metrics() | {"update/grad_norm": norm, "update/nonfinite": float(not finite), "update/lr": lr}

    async def score(
        self, sequences: Sequence[Sequence[int]], *, under: Adapter | Literal["policy", "base"] = "policy"
    ) -> list[list[float]]:
        if under == "policy":
            return self._score(sequences)
        if under == "base":
            with self.policy.layers.disabled():
                return self._score(sequences)
        with self.policy.layers.replaced(unpack(under.payload)[0]):
            return self._score(sequences)

    async def state(self) -> bytes:
        tensors = dict(self.policy.layers.tensors())
        for name, parameter in self.policy.layers.tensors().items():
            for key, value in self.policy.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        header = {"run": self.policy.run, "version": self.policy.version}
        detached = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        return safetensors.torch.save(detached, metadata={"policy": json.dumps(header)})

    async def load_state(self, state: bytes) -> None:
        tensors = safetensors.torch.load(state)
        length = int.from_bytes(state[:8], "little")
        header = json.loads(json.loads(state[8 : 8 + length])["__metadata__"]["policy"])
        self.policy.run, self.policy.version = header["run"], header["version"]
        self.policy.layers.load({n: t for n, t in tensors.items() if not n.startswith("adam.")})
        for name, parameter in self.policy.layers.tensors().items():
            moments = {key: tensors.get(f"adam.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            self.policy.optimizer.state[parameter] = {
                key: value.to(self._device if key != "step" else "cpu")
                for key, value in moments.items()
                if value is not None
            }

    async def facts(self) -> Mapping[str, int]:
        return {
            "trained_parameters": trained_parameters(self.policy.layers),
            "model_parameters": model_parameters(self._model),
        }

    async def close(self) -> None:
        self.policy.optimizer.zero_grad()

    def _accumulate(self, batch: Microbatch, num_tokens: int, sums: "_Sums") -> None:
        """Add the microbatch's share of the gradient. The divisor is the whole step's, so shares add up exactly."""
        logprobs, entropies = target_logprobs(self._model, batch, self._temperature)
        log_ratio = logprobs - batch.rollout_logprobs
        objective = OBJECTIVES[self._config.objective]
        losses = objective(log_ratio, batch.advantages, batch.sequence_ids, self._config)
        loss = losses.sum() / num_tokens
        loss.backward()
        with torch.no_grad():
            sums.loss += loss.item()
            sums.tokens += len(log_ratio)
            # k3 of Schulman (2020): unbiased for KL(rollout || policy) and never negative.
            sums.kl += (log_ratio.exp() - 1 - log_ratio).sum().item()
            sums.entropy += entropies.sum().item()
            sums.clipped += clipped(log_ratio, batch.advantages, batch.sequence_ids, self._config).sum().item()

    @torch.no_grad()
    def _score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        by_length = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))  # the microbatches' own order
        rows = [_row_to_score(sequences[i]) for i in by_length]
        shares = microbatches(rows, self._config.tokens_per_microbatch, self._device)
        logprobs = torch.cat([target_logprobs(self._model, share)[0] for share in shares])
        scores = logprobs.split([len(row.targets) for row in rows])
        return [scores[by_length.index(i)].tolist() for i in range(len(sequences))]


@dataclass(slots=True)
class _Sums:
    """Over the tokens of the step that carry a signal."""

    loss: float = 0.0
    tokens: int = 0
    kl: float = 0.0
    entropy: float = 0.0
    clipped: float = 0.0

    def metrics(self) -> dict[str, float]:
        return {
            "update/loss": self.loss,
            "update/kl_sampler_learner": self.kl / self.tokens,
            "update/entropy": self.entropy / self.tokens,
            "update/clip_fraction": self.clipped / self.tokens,
            "update/tokens": float(self.tokens),
            "update/skipped": 0.0,
        }


def _row_to_score(sequence: Sequence[int]) -> Row:
    """A row whose 'prompt' is the first token and whose 'completion' is all the rest."""
    rest = torch.tensor(sequence[1:])
    return Row(
        token_ids=torch.tensor(sequence[:-1]),
        position_ids=torch.arange(len(sequence) - 1),
        segment_ids=torch.zeros(len(sequence) - 1, dtype=torch.long),
        predictors=torch.arange(len(rest)),
        targets=rest,
        sequence_ids=torch.zeros_like(rest),
        rollout_logprobs=torch.zeros(len(rest)),
        advantages=torch.zeros(len(rest)),
    )


def _adam(layers: LoraLayers, config: LearnerConfig) -> torch.optim.Adam:
    parameters: list[Tensor] = list(layers.tensors().values())
    return torch.optim.Adam(parameters, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps)
