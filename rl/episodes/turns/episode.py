"""One episode while it grows: tokens in, tokens out, each said to be the policy's or not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards.types import Outcome, Reward
from rl.episodes.environment import Message, Observation
from rl.types import Ending, Episode
from rollout.types import Completion

FAILED: dict[Ending, Outcome] = {"timeout": Outcome.TIMEOUT, "crashed": Outcome.CRASHED}
"""Outcomes of episodes that a step ended: one that hung counts, one that failed is left out, as in grading."""
MISSED: dict[Ending, Outcome] = {"turns": Outcome.TRUNCATED, "tokens": Outcome.TRUNCATED}
"""Outcomes of episodes that a budget ended before they earned anything."""


@dataclass(slots=True)
class GrowingEpisode:
    """Tokens and messages behind a prompt, so far."""

    messages: list[Message]
    """Every message; the first ones are the prompt's."""
    policy_version: int = 0
    """The policy's, for an episode that ends before it has a turn."""
    token_ids: list[int] = field(default_factory=list[int])
    _logprobs: list[float] = field(default_factory=list[float])
    _loss_mask: list[bool] = field(default_factory=list[bool])
    _turns: list[Message] = field(default_factory=list[Message])
    _rewards: list[float] = field(default_factory=list[float])
    _completions: list[Completion] = field(default_factory=list[Completion])

    def add_turn(self, turn: Completion, **more: Any) -> None:
        """Append what the policy wrote; `more` is told of it besides, such as the calls of tools in it."""
        self._append(turn.token_ids, turn.logprobs, own=True)
        self._completions.append(turn)
        self._say([{"role": "assistant", "content": turn.text, **more}])

    def add_observation(self, observation: Observation) -> None:
        """Take in an environment's answer, whose tokens come by `add_tokens` if another turn does."""
        self._say(observation.listed())
        if observation.reward is not None:
            self._rewards.append(observation.reward)

    def add_tokens(self, ids: Sequence[int]) -> None:
        """Append tokens that are not the policy's."""
        self._append(ids, [0.0] * len(ids), own=False)

    def ended(self, ending: Ending) -> Episode:
        """Return the episode."""
        if not self._completions:
            return Episode(
                (), (), "", "stop", self.policy_version, ending=ending, num_turns=0, reward=self._reward(ending)
            )
        last = self._completions[-1]
        return Episode(
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self._logprobs),
            text=last.text,
            finish_reason="length" if ending in ("turns", "tokens") else last.finish_reason,
            policy_version=last.policy_version,
            loss_mask=None if all(self._loss_mask) else tuple(self._loss_mask),
            turns=tuple(self._turns),
            ending=ending,
            num_turns=len(self._completions),
            reward=self._reward(ending),
        )

    def _reward(self, ending: Ending) -> Reward | None:
        """Return the environment's reward, if it gave one; above zero is correct, as with reward functions.

        One that a budget ended without is truncated, as a completion is that the token limit cut off. An episode that
        a step ended has none above zero, and keeps one below: else it would pay to have steps hang.
        """
        value = sum(self._rewards)
        if ending in FAILED:
            return Reward(min(0.0, value), FAILED[ending])
        if not self._rewards:
            return None
        return Reward(value, Outcome.CORRECT if value > 0 else MISSED.get(ending, Outcome.WRONG))

    def _append(self, ids: Sequence[int], logprobs: Sequence[float], *, own: bool) -> None:
        self.token_ids += ids
        self._logprobs += logprobs
        self._loss_mask += [own] * len(ids)

    def _say(self, messages: Sequence[Message]) -> None:
        self.messages += messages
        self._turns += messages
