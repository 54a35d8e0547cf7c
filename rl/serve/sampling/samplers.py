"""Sources that clients sample from: the base model, a snapshot of a model, or saved weights."""

import asyncio
from collections.abc import Sequence

from lora.types import Adapter
from rl.serve.errors import Rejected
from rl.serve.facts import ModelFacts
from rl.serve.sampling.adapters import AdapterCache, AdapterSource, Snapshots
from rl.serve.sampling.alternatives import Alternatives, draw_alternatives
from rl.serve.sampling.draws import Ask, Draws, Sampled
from rl.serve.storage.checkpoints import Checkpoints
from rl.serve.storage.database import Sampler
from rl.serve.storage.registry import Registry
from rl.wire.bodies import Sample, SamplingParams
from rl.wire.tinker_path import parse_path
from rollout.config import SamplingConfig
from rollout.types import PromptQuery

SNAPSHOT = "snapshot:"
"""Begins the path of weights that have no name."""


class Samplers:
    """The sampling sessions of all users."""

    def __init__(
        self, draws: Draws, registry: Registry, checkpoints: Checkpoints, facts: ModelFacts, snapshots: Snapshots,
        base: Adapter,
    ) -> None:  # fmt: skip
        """`base` is an adapter that adds nothing."""
        self._draws = draws
        self._registry = registry
        self._checkpoints = checkpoints
        self._facts = facts
        self._snapshots = snapshots
        self._base = base
        self._cache = AdapterCache()
        self._rows: dict[str, Sampler] = {}
        self._sources: dict[str, AdapterSource] = {}
        """Each sampler's adapter; one of the base model has none."""

    async def create(
        self, user: str, session_id: str, seq_id: int, base_model: str | None, model_path: str | None
    ) -> str:
        """Return the id of a new sampler of the base model or of saved weights. Raises ValueError if there are none."""
        if model_path is None:
            if base_model is None:
                raise ValueError("a sampling session needs base_model or model_path")
            self._facts.require(base_model)
        row = Sampler(
            id=sampler_id(session_id, seq_id),
            user=user,
            session_id=session_id,
            base_model=self._facts.name,
            model_path=model_path,
        )
        known = self._rows.get(row.id) or await asyncio.to_thread(self._registry.sampler, user, row.id)
        if known is not None and known.model_path != model_path:
            raise ValueError(
                f"sampler {row.id} is there already, of other weights: give another sampling_session_seq_id"
            )
        if model_path is not None:
            self._sources[row.id] = await self._saved(user, model_path)
        await self._remember(row)
        return row.id

    async def create_snapshot(self, user: str, session_id: str, seq_id: int, run: str, adapter: Adapter) -> str:
        """Return the id of a new sampler of a policy as it is now."""
        sampler = sampler_id(session_id, seq_id)
        row = Sampler(
            id=sampler,
            user=user,
            session_id=session_id,
            base_model=self._facts.name,
            model_path=f"{SNAPSHOT}{sampler}",
        )
        self._sources[sampler] = await asyncio.to_thread(self._snapshots.add, sampler, run, adapter)
        await self._remember(row)
        return sampler

    def take_up(self) -> set[tuple[str, str]]:
        """Take up the snapshots of an earlier start of the server; return their sessions, with the sessions' users.

        Those of sessions that ended are deleted.
        """
        for sampler, source in self._snapshots.left().items():
            row = self._registry.lasting_sampler(sampler)
            if row is None:
                self._snapshots.drop(sampler)
            else:
                self._rows[sampler], self._sources[sampler] = row, source
        return {(row.user, row.session_id) for row in self._rows.values()}

    async def get(self, user: str, sampler: str) -> Sampler:
        """Return a user's sampler. Raises Rejected if there is none."""
        row = self._rows.get(sampler) or await asyncio.to_thread(self._registry.sampler, user, sampler)
        if row is None or row.user != user:
            raise Rejected(404, f"there is no sampler {sampler[:200]!r}: make a sampling client anew")
        return row

    async def adapter(self, user: str, body: Sample) -> Adapter:
        """Return the adapter that a request samples from. Raises ValueError or Rejected if it is gone."""
        if body.sampling_session_id is None:
            if body.model_path is None:
                self._facts.require(body.base_model or "")
                return self._base
            return await self.read(await self._saved(user, body.model_path))
        row = await self.get(user, body.sampling_session_id)
        if row.model_path is None:
            return self._base
        if row.id not in self._sources:  # of an earlier start of the server
            self._sources[row.id] = await self._saved(user, row.model_path)
            self._rows[row.id] = row
        return await self.read(self._sources[row.id])

    async def sample(self, user: str, body: Sample) -> tuple[Sampled, Alternatives | None]:
        """Return completions, and of the prompt what was asked.

        Raises:
            ValueError: the request is none that can be served.
        """
        prompt = body.prompt.token_ids()
        self._facts.check_prompt(prompt)
        params = body.sampling_params
        query = _prompt_query(body, prompt)
        # How clients ask about a prompt alone. One that fills the context has logprobs, and no room for the token.
        about_prompt = (query is not None or body.prompt_alt_tokens_k > 0) and params.max_tokens == 1
        writes = not about_prompt or len(prompt) != self._facts.max_length
        room = prompt if writes else prompt[:-1]
        sampling = sampling_config(params, body.num_samples, self._facts.max_tokens(room, params.max_tokens))
        adapter = await self.adapter(user, body)
        ask = Ask(prompt, adapter, sampling, params.seed, body.topk_sample_logprobs, query, writes)
        if not body.prompt_alt_tokens_k:
            return await self._draws.draw(user, ask), None
        alternatives = draw_alternatives(self._draws, user, ask, body.prompt_alt_tokens_k)
        return await asyncio.gather(self._draws.draw(user, ask), alternatives)

    def snapshot(self, user: str, run: str, version: str) -> AdapterSource | None:
        """Return where the weights are that a run saved for sampling after so many steps, without a name."""
        for row in self._rows.values():
            source = self._sources.get(row.id)
            if row.user == user and source is not None and source.owner == run and str(source.version) == version:
                return source
        return None

    def drop_session(self, session_id: str) -> None:
        """Delete the snapshots of a session that ended, and forget its other samplers, which the database knows."""
        for row in [row for row in self._rows.values() if row.session_id == session_id]:
            if row.model_path is not None and row.model_path.startswith(SNAPSHOT):
                self._snapshots.drop(row.id)
            self._sources.pop(row.id, None)
            del self._rows[row.id]

    async def _remember(self, row: Sampler) -> None:
        self._rows[row.id] = row
        await asyncio.to_thread(self._registry.add, row)

    async def read(self, source: AdapterSource) -> Adapter:
        """Return an adapter. Raises ValueError if it is gone."""
        try:
            return await asyncio.to_thread(self._cache.get, source)
        except OSError:
            raise ValueError("the weights of this sampler are gone: save them again") from None

    async def _saved(self, user: str, path: str) -> AdapterSource:
        if path.startswith(SNAPSHOT):
            raise Rejected(
                404, "the weights of this sampler ended with their session: save them again, or under a name"
            )
        row = await asyncio.to_thread(self._checkpoints.find, user, parse_path(path))
        return AdapterSource(f"saved-{row.location.replace('/', '-')}", 0, lambda: self._checkpoints.payload(row))


def sampler_id(session_id: str, seq_id: int) -> str:
    """Return the id of a session's sampler."""
    return f"{session_id}:sample:{seq_id}"


def sampling_config(params: SamplingParams, count: int, max_tokens: int) -> SamplingConfig:
    """Return the way in which completions are drawn. Raises ValueError if they cannot be drawn so."""
    stop: Sequence[str | int] = (params.stop,) if isinstance(params.stop, str) else params.stop or ()
    texts = tuple(part for part in stop if isinstance(part, str))
    if not all(texts):
        raise ValueError("stop holds an empty text, at which everything would end: leave it out")
    return SamplingConfig(
        group_size=count,
        max_tokens=max_tokens,
        temperature=params.temperature,
        top_k=max(0, params.top_k),
        top_p=params.top_p,
        min_p=params.min_p,
        stop=texts,
        stop_token_ids=tuple(part for part in stop if isinstance(part, int)),
        ignore_eos=params.stop is not None and not stop,
    )


def _prompt_query(body: Sample, prompt: list[int]) -> PromptQuery | None:
    """Return what is asked of the prompt, if anything is. Raises ValueError if it does not fit the prompt."""
    last = body.prompt_logprobs_last_n
    if last is not None and not (body.prompt_logprobs and 1 <= last < len(prompt)):
        raise ValueError(f"prompt_logprobs_last_n must be 1 to {len(prompt) - 1} here, and needs prompt_logprobs")
    if not body.prompt_logprobs and not body.topk_prompt_logprobs and body.target_prompt_logprobs is None:
        return None
    targets = body.target_prompt_logprobs
    if targets is not None and len(prompt) < 2:
        raise ValueError(
            "target_prompt_logprobs needs a prompt of at least two tokens: nothing is before the first one"
        )
    rows = () if targets is None else targets.rows(len(prompt) - 1, "target_prompt_logprobs")
    return PromptQuery(top_k=body.topk_prompt_logprobs, last_n=last, targets=rows)
