"""rankone: reinforcement-learning fine-tuning of language models through rank-1 to rank-8 LoRA adapters.

This is the public Python API (docs/python.md); what it names is loaded when it is first used. `train`, `sft` and
`sweep` are modules of this package, too, with what their functions are made of. Each of these modules is callable, so
it does not matter which of `from rl import train` and `import rl.train` comes first.
"""

import importlib
import inspect
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rl.shadowing import load_own_packages

load_own_packages()

if TYPE_CHECKING:
    from rewards.config import RewardConfig as RewardConfig
    from rewards.types import Reward as Reward
    from rl.algorithm.evaluation.held_out import Evaluation as Evaluation
    from rl.api import evaluate as evaluate
    from rl.api import grade as grade
    from rl.api import sft as sft
    from rl.api import sweep as sweep
    from rl.api import train as train
    from rl.config import RunConfig as RunConfig
    from rl.launch.run_result import RunResult as RunResult
    from rl.settings.toml import load_config as load_config
    from rl.sweep.config import SweepConfig as SweepConfig
    from rl.sweep.session import SweepResult as SweepResult

__all__ = [
    "Evaluation",
    "Reward",
    "RewardConfig",
    "RunConfig",
    "RunResult",
    "SweepConfig",
    "SweepResult",
    "evaluate",
    "grade",
    "load_config",
    "sft",
    "sweep",
    "train",
]

_HOMES = {
    "Evaluation": "rl.algorithm.evaluation.held_out",
    "Reward": "rewards.types",
    "RewardConfig": "rewards.config",
    "RunConfig": "rl.config",
    "RunResult": "rl.launch.run_result",
    "SweepConfig": "rl.sweep.config",
    "SweepResult": "rl.sweep.session",
    "evaluate": "rl.api",
    "grade": "rl.api",
    "load_config": "rl.settings.toml",
}
_CALLABLE = ("train", "sft", "sweep")
"""Functions of the API that have the name of a module."""


def __getattr__(name: str) -> Any:
    """Load a name of the API at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _let_threads_sleep()
    if name in _CALLABLE:
        return importlib.import_module(f"rl.{name}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _let_threads_sleep() -> None:
    """Let waiting threads of OpenMP leave the cores to others, as the command does; read when torch is loaded."""
    from rollout.environment import OPENMP

    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)


class _CallableModule(ModuleType):
    """A module that is also the API's function of its name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return _function(self)(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature that `help` and editors show."""
        return inspect.signature(_function(self))


def _function(module: ModuleType) -> Any:
    return getattr(importlib.import_module("rl.api"), module.__name__.rpartition(".")[2])


class _Package(ModuleType):
    """This package."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Make a module callable when Python binds it here, which it does at the end of the module's import."""
        if name in _CALLABLE and isinstance(value, ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
