"""Settings of the server: what `SERVE.toml` holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator

from lora.base.load import load_skeleton
from lora.config import MOST_RANK, LoraConfig, ModelConfig
from lora.messages import shortened
from rl.config import WEEK_S, LearnerConfig, LivenessConfig, PlacementConfig, RunConfig, Strict, replaced
from rl.settings.paths import get, put
from rl.settings.toml import read_table
from rl.settings.toml_text import NotToml, parse_toml
from rollout.config import RolloutConfig

HUB_NAMES = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Names under which clients find the tokenizers of built-in models on a hub."""
LOOPBACK = "127.0.0.1"
GIB = 2**30
MANY = 1_000_000
"""Restarts of a worker in a row: a server goes on trying, at most once a minute, however long memory is short."""
CONTEXT = 4096
"""Longest context of a server that is told nothing else."""


class LimitsConfig(Strict):
    """Most that one user may have at once."""

    models: int = Field(default=64, ge=1)
    """Models that a user trains; those that were not used for longest make room."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens a minute that are trained on and sampled; more of them wait."""
    queued_requests: int = Field(default=4096, ge=1)
    """Requests of a user that wait; one beyond them is answered 429, after which the SDK sends it again."""
    queued_bytes: int = Field(default=GIB, ge=2**20)
    """Bytes of requests that wait."""
    body_bytes: int = Field(default=64 * 2**20, ge=2**16)
    """Bytes of one request, after it is unpacked."""


class ServeConfig(Strict):
    """One server, whole."""

    host: str = LOOPBACK
    """Address to listen at; `0.0.0.0` lets other machines in, and then TLS should be on."""
    port: int = Field(default=8000, ge=0, le=65_535)
    """Port to listen at; 0 takes a free one."""
    tls_certificate: str | None = None
    """File of the certificate, and of those above it; with it the server speaks HTTPS."""
    tls_key: str | None = None
    """File of the certificate's key."""
    database: str | None = None
    """SQLAlchemy URL of the database, such as `postgresql+psycopg://user@host/rankone`; by default SQLite in `out`."""
    weights: str | None = None
    """Directory or fsspec URL (`s3://bucket/path`) for saved weights; by default below `out`."""
    aliases: tuple[str, ...] = ()
    """More names under which clients may ask for the model."""
    tool_parser: str | None = "hermes"
    """Name of vLLM's parser that finds tool calls in the model's text, for OpenAI's clients."""
    max_rank: int = Field(default=32, ge=1, le=MOST_RANK)
    """Largest rank of an adapter. The Tinker SDK asks for 32 unless it is told otherwise."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seeds the sampling engine; requests have seeds of their own."""
    runtime: Literal["ray", "local"] = "ray"
    """`local` runs everything in this process, with the torch engine: for tiny models, and for debugging."""
    client_flags: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Flags that the Tinker SDK is told at its start, such as `{ fwdbwd_max_chunk_len = 128 }`."""
    tokens_per_part: int = Field(default=8192, ge=1)
    """Most tokens of one request in one pass of the learner: a longer one takes turns with others."""
    resident_policies: int = Field(default=16, ge=2)
    """Policies that the learner holds at once. Others are put away, and come back when they are asked for."""
    kept_state_mib: int = Field(default=64, ge=0)
    """Largest state of a policy, in MiB, that is fetched after every step, so that a dead learner costs no step."""
    patience: float = Field(default=120.0, gt=0, le=WEEK_S)
    """Seconds that requests wait for one of a lower number that did not come."""
    model: ModelConfig = ModelConfig()
    learner: LearnerConfig = LearnerConfig()
    rollout: RolloutConfig = RolloutConfig(adapters_in_flight=8, max_restarts=MANY)
    liveness: LivenessConfig = LivenessConfig()
    placement: PlacementConfig = PlacementConfig()
    limits: LimitsConfig = LimitsConfig()

    @field_validator("learner")
    @classmethod
    def _serves_adapters(cls, learner: LearnerConfig) -> LearnerConfig:
        if learner.weights != "lora":
            raise ValueError('learner.weights must be "lora": a server trains adapters')
        return learner

    @model_validator(mode="after")
    def _replays_no_experts(self) -> Self:
        if self.learner.router_replay or self.rollout.return_routed_experts:
            raise ValueError(
                "learner.router_replay and rollout.return_routed_experts have no place in clients' requests: set both "
                "to false"
            )
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: give both, or none")
        return self

    @property
    def model_name(self) -> str:
        """The name that clients are told."""
        return HUB_NAMES.get(self.model.name, self.model.name)

    @property
    def model_names(self) -> set[str]:
        """Names under which clients may ask for the model."""
        return {self.model_name, self.model.name, *self.aliases}

    @property
    def largest_adapter(self) -> LoraConfig:
        """The adapter that learner and engines must have room for."""
        return LoraConfig(rank=self.max_rank, lm_head=True, allow_large_rank=True)

    def run_config(self) -> RunConfig:
        """Return the configuration of a run on the same model, learner and engines."""
        engine: dict[str, Any] = {"engine": "torch"} if self.runtime == "local" else {}
        return RunConfig(
            name="serve",
            seed=self.seed,
            runtime=self.runtime,
            model=self.model,
            lora=self.largest_adapter,
            learner=self.learner,
            rollout=replaced(self.rollout, **engine),
            placement=self.placement,
            liveness=self.liveness,
            sampling={"max_tokens": max(1, min(256, self.model.max_length - 1))},  # pyright: ignore[reportArgumentType]
        )


def load_serve_config(
    path: Path | None, overrides: Sequence[str] = (), options: Mapping[str, Any] | None = None
) -> ServeConfig:
    """Return the configuration in a TOML file, or the defaults, changed by `a.b=value` overrides and by options.

    A model's context is as long as the model allows, up to `CONTEXT`, and where there is no GPU its type is float32, in
    which sampler and learner agree to about 1e-5 nats; `model.max_length` and `model.dtype` say otherwise.

    Raises:
        ValueError: something is wrong with it, in one line.
    """
    table = {} if path is None else read_table(path)
    for override in overrides:
        name, value = parse_override(override)
        put(table, name, value)
    for name, value in (options or {}).items():
        put(table, name, value)
    try:
        config = replaced(ServeConfig(), **table)
    except ValueError as error:
        raise ValueError(f"{'' if path is None else f'{path}: '}{error}") from None
    defaults: dict[str, Any] = {}
    if get(table, "model.max_length") is None:
        defaults["max_length"] = min(CONTEXT, most_positions(config.model))
    if get(table, "model.dtype") in (None, "auto"):
        defaults["dtype"] = "bfloat16" if torch.cuda.is_available() else "float32"
    return replaced(config, model=defaults)


def parse_override(override: str) -> tuple[str, Any]:
    """Return a key's name and its value. Raises ValueError if it is no KEY=VALUE."""
    name, equals, text = override.partition("=")
    if not equals or not all(name.strip().split(".")):
        raise ValueError(f"--set takes KEY=VALUE, such as max_rank=8, and got {shortened(repr(override), 120)}")
    try:
        values = parse_toml(f"value = {text}", "--set")
    except NotToml:
        return name.strip(), text
    return name.strip(), values["value"] if set(values) == {"value"} else text


def most_positions(model: ModelConfig) -> int:
    """Return the longest context that the model was made for. Raises ValueError if there is no such model."""
    skeleton: Any = load_skeleton(replaced(model, max_length=8))
    return int(getattr(skeleton.config.get_text_config(), "max_position_embeddings", None) or CONTEXT)
