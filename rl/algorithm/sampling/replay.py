"""Rare successes are kept, and learned from again when the policy fails at their problem.

A group whose completions are all wrong has no advantages, so it teaches nothing. A success that was rare when it was
sampled then takes the place of its last completion. An older policy sampled it: what its tokens' probabilities were is
kept with them, and the objective corrects by them as for any lag, so one that has become unlikely counts for less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from rewards.types import Outcome, Reward
from rl.types import Group
from rollout.types import Completion

RARE = 0.25
"""Most of a group's graded completions that may be right where a success is rare."""


@dataclass(frozen=True, slots=True)
class Success:
    """A right completion of a prompt."""

    prompt: list[int]
    completion: Completion
    reward: Reward


_SUCCESSES = TypeAdapter(dict[str, Success])


class Replay:
    """The newest rare success of each of so many problems. A function of the groups that were observed, in their order.

    Example: ``Replay(256).fill(groups)``
    """

    def __init__(self, size: int, kept: Mapping[str, Any] | None = None) -> None:
        """Keep those of at most `size` problems; `kept` is what `state` returned."""
        self._size = size
        self._successes = _SUCCESSES.validate_python(kept or {})
        """By the problem's id, the one that was kept longest first."""
        self._trim()

    def fill(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups; where none of a group's completions is right, a kept one is its last, if there is one."""
        return [self._filled(group) for group in groups]

    def observe(self, groups: Sequence[Group]) -> None:
        """Keep the rare successes among what a step sampled; those whose problems have become easy are dropped."""
        if not self._size:
            return
        for group in groups:
            graded = [reward for reward in group.rewards if reward.is_valid]
            right = [place for place, reward in enumerate(group.rewards) if reward.outcome is Outcome.CORRECT]
            if not right:
                continue
            self._successes.pop(group.problem.id, None)
            if len(right) <= RARE * len(graded):
                place = right[-1]
                success = Success(group.prompt, _plain(group.completions[place]), group.rewards[place])
                self._successes[group.problem.id] = success
        self._trim()

    def state(self) -> dict[str, Any]:
        """Return what is kept, of JSON's kinds."""
        return _SUCCESSES.dump_python(self._successes, mode="json")

    def metrics(self, drawn: Sequence[Group], learned: Sequence[Group]) -> dict[str, float]:
        """Return how many groups of a step got a kept success, and how many are kept; nothing if none may be."""
        if not self._size:
            return {}
        replayed = sum(group is not taught for group, taught in zip(drawn, learned, strict=True))
        return {"curriculum/replayed": float(replayed), "curriculum/kept": float(len(self._successes))}

    def _filled(self, group: Group) -> Group:
        success = self._successes.get(group.problem.id)
        if success is None or success.prompt != group.prompt:  # the prompt's settings changed when the run was resumed
            return group
        if any(reward.outcome is Outcome.CORRECT for reward in group.rewards):
            return group
        completions, rewards = [*group.completions[:-1], success.completion], [*group.rewards[:-1], success.reward]
        return replace(group, completions=completions, rewards=rewards)

    def _trim(self) -> None:
        for problem in list(self._successes)[: max(0, len(self._successes) - self._size)]:
            del self._successes[problem]


def _plain(completion: Completion) -> Completion:
    """Return what is learned from: an episode's turns, for one, are not."""
    return Completion(
        completion.token_ids, completion.logprobs, completion.text, completion.finish_reason,
        completion.policy_version, loss_mask=completion.loss_mask,
    )  # fmt: skip
