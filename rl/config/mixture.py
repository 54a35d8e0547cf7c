"""Settings of several sources of problems that a run draws from together: `[[data]]`, a table for each."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, cast

from pydantic import Discriminator, Field, Tag

from rewards.config import RewardConfig
from rl.config.data import Addition, DataConfig, Gsm8k, Hub, JsonLines, Math, ReasoningGym, Verifiers
from rl.config.episodes import EpisodesConfig
from rl.config.strict import Strict

MOST_SOURCES = 1000
"""Most sources of a run."""


class Mixed(Strict):
    """One of several sources: these keys besides those of `[data]` with its `source`."""

    label: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)
    """Its accuracy is `eval/<label>/accuracy`; by default its `source`."""
    weight: float = Field(default=1.0, gt=0, le=1e9)
    """Its share of the problems that steps draw is this, divided by the sum of all weights."""
    reward: RewardConfig | None = None
    """Grading of its completions; by default as `[reward]` says."""
    episodes: EpisodesConfig | None = None
    """Turns of its completions; by default as `[episodes]` says. An empty table gives them one turn."""

    @property
    def key(self) -> str:
        """The name that metrics and problems have for it."""
        return self.label or str(getattr(self, "source", ""))


class MixedAddition(Mixed, Addition):
    """Additions made by the program, among other sources."""


class MixedJsonLines(Mixed, JsonLines):
    """JSON lines of your own, among other sources."""


class MixedGsm8k(Mixed, Gsm8k):
    """A directory in GSM8K's layout, among other sources."""


class MixedMath(Mixed, Math):
    """MATH's layout, among other sources."""


class MixedHub(Mixed, Hub):
    """A data set of a hub, among other sources."""


class MixedReasoningGym(Mixed, ReasoningGym):
    """A task of `reasoning-gym`, among other sources."""


class MixedVerifiers(Mixed, Verifiers):
    """The tasks of an environment of `verifiers`, among other sources."""


MixedConfig = Annotated[
    MixedAddition | MixedJsonLines | MixedGsm8k | MixedMath | MixedHub | MixedReasoningGym | MixedVerifiers,
    Field(discriminator="source"),
]
Mixture = tuple[MixedConfig, ...]


def _kind(value: Any) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


ProblemsConfig = Annotated[
    Annotated[DataConfig, Tag("one")] | Annotated[Mixture, Tag("several")],
    Discriminator(_kind),
]
"""One source, or several."""


def misfits_of_sources(data: Any, sets: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with several sources and their labels; evaluations have `sets` beside them."""
    if not isinstance(data, tuple):
        return
    sources = cast("Mixture", data)
    if not 0 < len(sources) <= MOST_SOURCES:
        yield f"data must be a table, or a list of 1 to {MOST_SOURCES} of them, and has {len(sources)}"
    keys = [source.key for source in sources]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        yield f'two sources of [[data]] are called {twice!r}: give each a label of its own, such as label = "{twice}-2"'
    if shared := next((key for key in keys if key in sets), None):
        yield f"a source of [[data]] and one of evaluate.sets are called {shared!r}: rename one of them"
    if "pass_at" in keys:
        yield "no source of [[data]] may be called 'pass_at', which is a metric's name: give it another label"
