"""The maker of environments: loaded by name, and carried to the processes that they live in by value."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rewards.functions.find import find_named
from rewards.functions.term import packed_by_value
from rewards.types import Problem


@dataclass(frozen=True, slots=True)
class EnvironmentFactory:
    """A class, or a function, that makes an environment of a problem."""

    name: str
    make: Callable[..., Any]
    modules: tuple[str, ...] = ()
    """The user's own modules, which no other process can be expected to have."""
    sees_answers: bool = True
    """False if its processes are to be given neither a problem's answer nor its other columns."""

    def __call__(self, problem: Problem, seed: int) -> Any:
        """Return an environment of its own for an episode."""
        takes_seed = "seed" in inspect.signature(self.make).parameters
        return self.make(problem, seed=seed) if takes_seed else self.make(problem)

    def pack(self) -> bytes:
        """Pickle this for a process on any machine. Raises ValueError if it cannot go."""
        return packed_by_value(self, self.modules, f"{self.name} to the processes of environments")


def load_environment(name: str) -> EnvironmentFactory:
    """Load ``file.py:Class`` or ``package.module:Class``. Raises ValueError of one line if it is no environment."""
    if name.partition(":")[0].partition(".")[0] == "verifiers":
        raise ValueError(
            f'{name!r}: name a taskset of verifiers, as in "verifiers:NAME", or a class with a method step '
            "(docs/episodes.md)"
        )
    made, module, modules = find_named(name, "environment")
    if not callable(made):
        classes = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__]
        place, _, attribute = name.rpartition(":")
        raise ValueError(f"{place} has no class {attribute!r}; it defines: {', '.join(classes) or 'none'}")
    if inspect.isclass(made) and not callable(getattr(made, "step", None)):
        raise ValueError(f"{name} has no method step(messages), which answers a turn (docs/episodes.md)")
    return EnvironmentFactory(name, cast("Callable[..., Any]", made), modules)


def beside(name: str, base: Path) -> str:
    """Return the name with the absolute path of its file, if that lies beside a configuration in `base`."""
    place, colon, attribute = name.rpartition(":")
    file = base / place
    return f"{file.resolve()}{colon}{attribute}" if place.endswith(".py") and file.is_file() else name
