"""The numbers of a step, under the names that log, files and dashboards share."""

import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import get_args

from rewards.types import Outcome
from rl.types import Ending, Episode, Group


def group_metrics(groups: Sequence[Group], advantages_P_G: Sequence[Sequence[float]], version: int) -> dict[str, float]:
    """Return `reward/...`, `group/...`, `completion/...` and `policy/...` of a step; `version` is the learner's."""
    completions = [completion for group in groups for completion in group.completions]
    rewards = [reward for group in groups for reward in group.rewards]
    lags = [version - completion.policy_version for completion in completions]
    counted = [reward.value for reward in rewards if reward.is_valid]
    outcomes = Counter(reward.outcome for reward in rewards)
    return {
        "reward/mean": fmean(counted) if counted else 0.0,
        **{f"reward/outcome/{outcome}": outcomes[outcome] / len(rewards) for outcome in Outcome},
        "group/no_signal_fraction": fmean(not any(advantages) for advantages in advantages_P_G),
        "completion/length_mean": fmean(completion.num_sampled for completion in completions),
        "completion/truncated_fraction": fmean(completion.finish_reason == "length" for completion in completions),
        **episode_metrics([completion for completion in completions if isinstance(completion, Episode)]),
        "policy/version": float(version),
        "policy/version_lag": float(max(lags)),
        "policy/version_lag_mean": fmean(lags),
    }


def source_metrics(groups: Sequence[Group], advantages_P_G: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return `data/<source>/...` of a step: groups drawn of each source, their mean reward, and those without signal.

    There are none where a run has one source.
    """
    by_source: dict[str, list[tuple[Group, Sequence[float]]]] = {}
    for group, advantages in zip(groups, advantages_P_G, strict=True):
        if group.problem.source:
            by_source.setdefault(group.problem.source, []).append((group, advantages))
    metrics: dict[str, float] = {}
    for source, pairs in by_source.items():
        counted = [reward.value for group, _ in pairs for reward in group.rewards if reward.is_valid]
        metrics |= {
            f"data/{source}/groups": float(len(pairs)),
            f"data/{source}/reward_mean": fmean(counted) if counted else 0.0,
            f"data/{source}/no_signal_fraction": fmean(not any(advantages) for _, advantages in pairs),
        }
    return metrics


def episode_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """Return how many turns and tokens episodes had and how they ended; nothing where there were none."""
    if not episodes:
        return {}
    endings = Counter(episode.ending for episode in episodes)
    return {
        "episode/turns_mean": fmean(episode.num_turns for episode in episodes),
        "episode/tokens_mean": fmean(len(episode.token_ids) for episode in episodes),
        "episode/environment_tokens_mean": fmean(len(e.token_ids) - e.num_sampled for e in episodes),
        **{f"episode/ended/{ending}": endings[ending] / len(episodes) for ending in get_args(Ending)},
    }


class Stopwatch:
    """Seconds spent in each phase of a step, and since its beginning."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Add the block's duration to phase `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def metrics(self) -> dict[str, float]:
        """Return `time/<phase>_s`, and `time/step_s` for the whole step.

        Rollouts that ran ahead took their time in earlier steps: `time/wait_s` is how long the loop waited for them.
        """
        whole = {"step": time.perf_counter() - self._began}
        return {f"time/{name}_s": seconds for name, seconds in (self.seconds | whole).items()}


def throughput(sampled_tokens: int, updated_tokens: float, seconds: dict[str, float]) -> dict[str, float]:
    """Return completion tokens a second while sampling, and learned tokens a second while updating."""
    return {
        "throughput/sample_tokens_per_s": sampled_tokens / max(seconds["sample"], 1e-9),
        "throughput/update_tokens_per_s": updated_tokens / max(seconds["update"], 1e-9),
    }
