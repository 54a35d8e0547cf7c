"""An episode whose environment asks for turns: messages come in, and what they add goes behind the tokens.

What the policy wrote is never tokenised again. Each request has all messages; those that are known must be as they
were, because a conversation that is told anew, or branches, is no chain of tokens.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from lora.types import Adapter
from rewards.types import MOST_REWARD
from rl.algorithm.sampling.groups import Question
from rl.algorithm.sampling.seeds import environment_seed, turn_seed
from rl.config import EpisodesConfig, PromptConfig, replaced
from rl.episodes.environment import Message, Observation
from rl.episodes.tools.calls import CallReader, ToolCall
from rl.episodes.tools.prompt import knows_tools, words_for
from rl.episodes.turns.episode import GrowingEpisode
from rl.episodes.turns.render import Renderer
from rl.episodes.verifiers.host import Played
from rl.episodes.verifiers.openai_chat import (
    THOUGHT_END,
    BudgetError,
    ChatRequest,
    Table,
    UnplayableError,
    chat_request,
    completion,
    same,
    spoken,
)
from rl.types import Ending, Episode
from rollout.config import SamplingConfig
from rollout.types import Completion, Engine


@dataclass(frozen=True, slots=True)
class Speaker:
    """The engine that writes turns, and the model's own form of chats."""

    config: EpisodesConfig
    prompt: PromptConfig
    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    reader: CallReader
    end_tokens: frozenset[int]
    renderers: dict[bool, Renderer] = field(default_factory=dict[bool, Renderer])
    """By whether there are tools."""

    def renderer(self, *, tools: bool) -> Renderer:
        """Return what writes messages behind a turn. Raises ValueError if the chat template refuses them."""
        if tools not in self.renderers:
            self.renderers[tools] = Renderer(self.tokenizer, self.prompt, tools=tools, end_tokens=self.end_tokens)
        return self.renderers[tools]

    def opening(self, request: ChatRequest) -> list[int]:
        """Return the tokens of a first request. Raises UnplayableError if the chat template refuses it."""
        template: Any = self.tokenizer
        messages, tools = request.messages, request.tools
        try:
            if tools and not knows_tools(self.tokenizer, self.prompt, tools):
                messages, tools = _with_words(messages, words_for(tools)), []
            return template.apply_chat_template(
                messages, tools=tools or None, add_generation_prompt=True, tokenize=True, return_dict=False,
                **self.prompt.template_options,
            )  # fmt: skip
        except Exception as error:  # templates are programs of the model's makers
            raise UnplayableError(f"the model's chat template refuses the first request: {error}") from None


class Conversation:
    """One episode while its environment asks for turns."""

    def __init__(
        self, speaker: Speaker, question: Question, place: int, adapter: Adapter, sampling: SamplingConfig
    ) -> None:
        self._speaker, self._question, self._place = speaker, question, place
        self._adapter, self._sampling = adapter, sampling
        self._episode = GrowingEpisode([], adapter.version)
        self._tools: Sequence[Mapping[str, Any]] = ()
        self._turn: Completion | None = None
        self._number = 0
        self._over: Ending | None = None
        self._lock = asyncio.Lock()
        self.fault: Exception | None = None
        """The engine's, which is the run's and not the episode's."""
        self.broken = ""
        """Why the episode could not go on."""

    async def respond(self, body: Table) -> Table:
        """Return the policy's next turn. Raises BudgetError or UnplayableError."""
        try:
            if self.broken or self.fault is not None:
                raise UnplayableError(self.broken or "no turn can be sampled")
            if self._lock.locked():
                raise UnplayableError("it asks for two turns at once, and an episode has one chain of turns")
            async with self._lock:
                return await self._respond(body)
        except UnplayableError as error:
            self.broken = self.broken or str(error)
            raise
        except BudgetError:
            raise
        except Exception as error:
            self.fault = error
            raise

    async def _respond(self, body: Table) -> Table:
        request = chat_request(body)
        behind = self._opening(request) if self._turn is None else self._behind(request, self._turn)
        room = self._room(len(behind))
        known = len(self._episode.messages)
        self._episode.add_tokens(behind)
        if known:
            self._episode.add_observation(Observation(request.messages[known:]))
        else:
            self._episode.messages += request.messages
        turn = await self._sample(min(self._sampling.max_tokens, room))
        self._turn = turn
        return await self._said(turn, request)

    def _opening(self, request: ChatRequest) -> list[int]:
        self._tools = request.tools
        prompt, opening = self._question.prompt, self._speaker.opening(request)
        if opening[: len(prompt)] != prompt:
            raise UnplayableError("the model's chat template begins this chat with other tokens than others")
        return opening[len(prompt) :]

    def _behind(self, request: ChatRequest, turn: Completion) -> list[int]:
        """Return the tokens that a request adds. Raises UnplayableError if it adds none to what has been said."""
        known = self._episode.messages
        if list(request.tools) != list(self._tools):
            raise UnplayableError("its tools change between two turns")
        added = request.messages[len(known) :]
        if not added or not all(map(same, known, request.messages)):
            raise UnplayableError(
                "its request does not go on from the last turn: it branches, shortens what was said, or is another "
                "agent's"
            )
        if any(message["role"] == "assistant" for message in added):
            raise UnplayableError("it puts words into the policy's mouth")
        try:
            return self._speaker.renderer(tools=bool(self._tools)).suffix(turn.token_ids, added)
        except ValueError as error:
            raise UnplayableError(str(error)) from None

    def _room(self, added: int) -> int:
        """Return how many tokens are left behind so many. Raises BudgetError if there are none, or no turn."""
        room = self._speaker.config.max_tokens - len(self._episode.token_ids) - added
        if self._number >= self._speaker.config.max_turns:
            self._over = "turns"
        elif room < 1:
            self._over = "tokens"
        if self._over is not None:
            most = self._speaker.config.max_tokens
            raise BudgetError(f"This model's maximum context length is {most} tokens, or the turns are used up")
        return room

    async def _sample(self, most: int) -> Completion:
        shorter = replaced(self._sampling, group_size=1, max_tokens=most)
        question, number = self._question, self._number
        seed = turn_seed(question.seed, self._place, number) if number else environment_seed(question.seed, self._place)
        prompt = [*question.prompt, *self._episode.token_ids]
        ((turn,),) = await self._speaker.engine.sample([prompt], self._adapter, shorter, seeds=[seed])
        self._number += 1
        return turn

    async def _said(self, turn: Completion, request: ChatRequest) -> Table:
        """Take a turn in, and return it as an answer."""
        prompt_tokens = len(self._question.prompt) + len(self._episode.token_ids)
        self._episode.add_turn(turn)
        try:
            renderer = self._speaker.renderer(tools=bool(request.tools))
            read = await self._speaker.reader.read(renderer.raw_text(turn), request.tools)
        except TimeoutError as error:
            self._over = "timeout"
            raise UnplayableError(f"its calls cannot be found: {error}") from None
        calls = [ToolCall(f"call-{self._number}-{i}", *call) for i, call in enumerate(read.calls)]
        message = spoken(renderer.without_specials(read.content, keep=THOUGHT_END), calls)
        self._episode.messages[-1] = message  # as it will come back
        reason = "tool_calls" if calls and turn.finish_reason == "stop" else turn.finish_reason
        return completion(request.model, message, reason, prompt_tokens, len(turn.token_ids))

    def ended(self, played: Played) -> tuple[Episode, str]:
        """Return the episode, and why it failed if it did."""
        report = played.report
        if self._over == "timeout":
            return self._episode.ended("timeout"), self.broken
        if played.failure == "timeout" and self._turn is not None:
            return self._episode.ended("timeout"), played.message
        if self.broken or played.failure is not None:
            return self._failed(self.broken or played.message)
        ending = self._over or ("turns" if report.get("stop") == "max_turns" else "done")
        if not report.get("ok") and ending == "done":
            if report.get("timeout") and self._turn is not None:
                return self._episode.ended("timeout"), "the environment's own time is up"
            return self._failed(f"{report.get('error')}\n{report.get('traceback', '')}".strip())
        if self._turn is None:
            return self._failed("it ended without asking for a turn")
        if report["traces"] != 1:
            return self._failed(f"it has {report['traces']} agents that learn, and an episode has one")
        if not report["rewards"] and ending == "done":
            return self._failed("it gives no reward")
        reward = float(sum(report["rewards"].values())) if report.get("ok") else 0.0
        if not abs(reward) <= MOST_REWARD:
            return self._failed(f"it gives the reward {reward}")
        self._episode.add_observation(Observation(done=True, reward=reward))
        return self._episode.ended(ending), ""

    def _failed(self, message: str) -> tuple[Episode, str]:
        return self._episode.ended("crashed"), message


def _with_words(messages: Sequence[Message], words: str) -> list[Message]:
    """Return messages with a description of tools in the system text."""
    if messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{words}"}, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]
