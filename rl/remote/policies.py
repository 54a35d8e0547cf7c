"""Published policies on a server: by which path each adapter is sampled, and who samples the base model."""

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from lora.types import Adapter
from rl.remote.connection import Connection
from rl.types import LearnerDied

DAY_S = 24 * 3600


@dataclass(slots=True)
class RemotePolicies:
    """Policies that a run has published."""

    connection: Connection
    base_model: str
    _paths: OrderedDict[str, str] = field(default_factory=OrderedDict[str, str])
    _samplers: dict[str, "asyncio.Future[str]"] = field(default_factory=dict[str, "asyncio.Future[str]"])

    async def publish(self, run: str, model_id: str, seq_id: int, version: int) -> Adapter:
        """Save a model's weights for sampling, and return them."""
        name = f"v{version:06d}-{secrets.token_hex(3)}"
        saved = await self.connection.result(
            "save_weights_for_sampler", model_id=model_id, seq_id=seq_id, path=name, ttl_seconds=DAY_S
        )
        links = await self.connection.get(
            f"training_runs/{model_id}/checkpoints/sampler_weights/{name}/external_weights_urls"
        )
        link = links["urls"]["adapter_model.safetensors"]
        adapter = Adapter(run, version, await self.connection.get(link.partition("/api/v1/")[2]))
        self._paths[adapter.name] = saved["path"]
        return adapter

    async def sampler(self, adapter: Adapter | None) -> str:
        """Return the id of a sampler of a published policy or of the base. Raises ValueError for a strange one."""
        name = "" if adapter is None else adapter.name
        if adapter is not None and name not in self._paths:
            raise ValueError(f"version {adapter.version} was not published by this run, so the server does not have it")
        if name not in self._samplers:
            what = {"base_model": self.base_model} if adapter is None else {"model_path": self._paths[name]}
            self._samplers[name] = asyncio.ensure_future(self._create(what))
        try:
            return await asyncio.shield(self._samplers[name])
        except (ValueError, LearnerDied):
            self._samplers.pop(name, None)  # the next one asks again
            raise

    async def _create(self, what: dict[str, str]) -> str:
        created = await self.connection.post(
            "create_sampling_session", session_id=self.connection.session_id,
            sampling_session_seq_id=next(self.connection.numbers), **what,
        )  # fmt: skip
        return created["sampling_session_id"]
