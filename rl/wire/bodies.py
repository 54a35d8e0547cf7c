"""Bodies of requests in JSON. Fields that are not known are left out, so that newer SDKs are served too."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field

from rl.wire.tensors import dense, from_json

MOST_SAMPLES = 4096
MOST_TOP = 128
"""Most top logprobs of one token."""
HOUR_S, TEN_YEARS_S = 3600, 10 * 366 * 24 * 3600
Name = Annotated[str, Field(min_length=1, max_length=255)]
MOST_METADATA = 2**16
"""Most characters of a client's notes on a session or a model, as JSON."""


def _storable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return notes that every database takes, and that can be sent back."""
    text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)  # PostgreSQL has no NaN in JSON
    if len(text) > MOST_METADATA:
        raise ValueError(f"user_metadata has {len(text)} characters as JSON: send at most {MOST_METADATA}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("user_metadata has half of a surrogate pair, which is no character: leave it out") from None
    return metadata


Metadata = Annotated[dict[str, Any], AfterValidator(_storable)]
Number = Annotated[int, Field(ge=0, lt=2**63)]
"""A client's number for a model or a sampler of its session."""
Ttl = Annotated[int, Field(ge=HOUR_S, le=TEN_YEARS_S)]


class Body(BaseModel):
    """A request."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class CreateSession(Body):
    tags: tuple[str, ...] = ()
    user_metadata: Metadata | None = None
    sdk_version: str = ""
    project_id: str | None = None
    display_name: str | None = Field(default=None, max_length=500)


class SessionHeartbeat(Body):
    session_id: str


class FinishReason(Body):
    type: str = Field(default="success", max_length=100)


class FinishSession(Body):
    reason: FinishReason = FinishReason()
    detail: str | None = None


class LoraRequest(Body):
    rank: int
    seed: int | None = None
    train_unembed: bool = True
    train_mlp: bool = True
    train_attn: bool = True


class OptimizerRequest(Body):
    type: str = "adamw"


class CreateModel(Body):
    session_id: str
    model_seq_id: Number
    base_model: str
    lora_config: LoraRequest | None = None
    optimizer_config: OptimizerRequest = OptimizerRequest()
    user_metadata: Metadata | None = None


class ModelRequest(Body):
    """A request to a model, in its place among them."""

    model_id: str
    seq_id: int | None = None


class AdamParams(Body):
    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0


class OptimStep(ModelRequest):
    adam_params: AdamParams | None = None
    optimizer_params: dict[str, Any] | None = None
    """Another optimizer's, which is refused."""


class SaveWeights(ModelRequest):
    path: str | None = None
    ttl_seconds: Ttl | None = None
    overwrite: bool = False
    user_metadata: Annotated[dict[str, str], AfterValidator(_storable)] | None = None


class SaveWeightsForSampler(SaveWeights):
    kind: Literal["snapshot", "inflight"] = "snapshot"
    sampling_session_seq_id: Number | None = None


class SaveWeightsExternal(SaveWeights):
    age_encryption_recipients: tuple[str, ...] = ()


class LoadWeights(Body):
    path: str
    optimizer: bool = False
    model_id: str | None = None
    seq_id: int | None = None
    session_id: str | None = None
    model_seq_id: Number | None = None
    base_model: str | None = None
    optimizer_config: OptimizerRequest | None = None
    user_metadata: Metadata | None = None
    weights_access_token: str | None = None


class CreateSamplingSession(Body):
    session_id: str
    sampling_session_seq_id: Number
    base_model: str | None = None
    model_path: str | None = None


class Chunk(Body):
    type: str = "encoded_text"
    tokens: tuple[int, ...] | None = None


class ModelInput(Body):
    chunks: tuple[Chunk, ...]

    def token_ids(self) -> list[int]:
        """Return the tokens of all chunks. Raises ValueError for a chunk that is no text."""
        for chunk in self.chunks:
            if chunk.type != "encoded_text" or chunk.tokens is None:
                raise ValueError(f"the prompt has a chunk of kind {chunk.type!r}; this server reads encoded_text only")
        return [token for chunk in self.chunks for token in chunk.tokens or ()]


class SamplingParams(Body):
    max_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    stop: str | tuple[str | int, ...] | None = None
    temperature: float = Field(default=1.0, ge=0)
    top_k: int = -1
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, lt=1)


class TensorData(Body):
    data: tuple[float, ...]
    dtype: str
    shape: tuple[int, ...] | None = None
    sparse_crow_indices: tuple[int, ...] | None = None
    sparse_col_indices: tuple[int, ...] | None = None

    def rows(self, count: int, name: str) -> tuple[tuple[int, ...], ...]:
        """Return whole numbers in `count` rows, -1 where none is given. Raises ValueError if they do not fit."""
        data: Sequence[Any] = self.data
        raw = from_json(data, self.dtype, self.shape, self.sparse_crow_indices, self.sparse_col_indices)
        if raw.values.dtype != np.int64:
            raise ValueError(f"{name} must hold token ids as int64")
        table = dense(raw, name, rows=count, fill=-1)
        return tuple(tuple(row) for row in table.reshape(count, -1).tolist())


class Sample(Body):
    prompt: ModelInput
    sampling_params: SamplingParams
    num_samples: int = Field(default=1, ge=1, le=MOST_SAMPLES)
    base_model: str | None = None
    model_path: str | None = None
    sampling_session_id: str | None = None
    seq_id: int | None = None
    prompt_logprobs: bool | None = None
    topk_prompt_logprobs: int = Field(default=0, ge=0, le=MOST_TOP)
    topk_sample_logprobs: int = Field(default=0, ge=0, le=MOST_TOP)
    target_prompt_logprobs: TensorData | None = None
    prompt_alt_tokens_k: int = Field(default=0, ge=0, le=MOST_SAMPLES)
    prompt_logprobs_last_n: int | None = Field(default=None, ge=1)
    record_stability_info: bool | None = None


class RetrieveFuture(Body):
    request_id: str = Field(validation_alias=AliasChoices("request_id", "future_id"))
    allow_metadata_only: bool = False


class CancelFuture(Body):
    request_id: str


class CancelFutures(Body):
    request_ids: tuple[str, ...] = ()


class WeightsInfo(Body):
    tinker_path: str


class SetTtl(Body):
    ttl_seconds: Ttl | None = None
