"""An objective of the user's own: a function in a file, which goes to the learners as the file's text.

So it needs no file on their nodes, and nothing but what is installed there.
"""

import sys
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from lora.messages import shortened
from rl.algorithm.objective.policy_gradient import Objective, PerToken, SequenceIds
from rl.config import LearnerConfig


@dataclass(frozen=True, slots=True)
class ObjectiveSource:
    """A function's name, and the whole of the file that defines it."""

    file: str
    name: str
    text: str


def split_name(function: str) -> tuple[str, str]:
    """Return the file and the function of `file.py:name`. Raises ValueError if it is none."""
    file, _, name = function.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise ValueError(
            f"learner.objective_function is file.py:name, such as my_loss.py:loss, and not {shortened(function, 200)!r}"
        )
    return file, name


def read_objective(function: str) -> ObjectiveSource:
    """Read the file of `file.py:name`. Raises ValueError if there is none."""
    file, name = split_name(function)
    try:
        return ObjectiveSource(file, name, Path(file).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"learner.objective_function: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"learner.objective_function: {file} is not UTF-8 text") from None


@cache
def load_objective(source: ObjectiveSource) -> Objective:
    """Return the function. Raises ValueError if the file fails, or has no such function."""
    module = ModuleType(f"rankone_objective_{sha256(source.text.encode()).hexdigest()[:12]}")
    sys.modules[module.__name__] = module  # dataclasses look for the module that they are in
    try:
        exec(compile(source.text, source.file, "exec"), module.__dict__)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"learner.objective_function: {source.file} cannot be loaded: {reason}") from error
    function = module.__dict__.get(source.name)
    if not callable(function):
        raise ValueError(f"learner.objective_function: {source.file} has no function {source.name!r}")

    def checked(
        log_ratio: PerToken, advantages: PerToken, sequence_ids: SequenceIds, config: LearnerConfig
    ) -> PerToken:
        losses: object = function(log_ratio, advantages, sequence_ids, config)
        if not isinstance(losses, Tensor) or losses.shape != log_ratio.shape:
            got = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise ValueError(
                f"learner.objective_function: {source.name} must return a loss for each of {len(log_ratio)} tokens, "
                f"and returned {got}"
            )
        return losses

    return checked


def check_objective(source: ObjectiveSource, config: LearnerConfig) -> None:
    """Try the function on two made-up completions.

    Raises:
        ValueError: it fails, has no gradient, or a completion's losses depend on which others are beside it, so that
            microbatches would not add up.
    """
    objective = load_objective(source)
    log_ratio = torch.tensor([0.1, -0.3, 0.05, -0.2, 0.4], requires_grad=True)
    advantages, ids = torch.tensor([1.0, 1.0, 1.0, -0.5, -0.5]), torch.tensor([0, 0, 0, 1, 1])
    try:
        losses = objective(log_ratio, advantages, ids, config)
        parts = [objective(log_ratio[part], advantages[part], ids[part] - ids[part][0], config) for part in _PARTS]
    except ValueError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"learner.objective_function: {source.name} fails: {reason}") from error
    if not losses.requires_grad:
        raise ValueError(
            f"learner.objective_function: what {source.name} returns has no gradient: compute it from log_ratio"
        )
    if not torch.allclose(losses, torch.cat(parts), rtol=1e-4, atol=1e-6):
        raise ValueError(
            f"learner.objective_function: {source.name} gives a completion another loss when others are beside it, so "
            "microbatches would not add up: reduce over the tokens of a sequence alone, by sequence_ids"
        )


_PARTS = (slice(0, 3), slice(3, 5))
