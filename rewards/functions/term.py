"""A reward function with its weight: loaded by name, and carried to the graders by value."""

import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from rewards.code.code_tests import CodeTests
from rewards.config import RewardConfig, RewardTerm
from rewards.functions.convention import EXTRAS, Convention, parameters_of, recognize, wants_messages
from rewards.functions.find import built_in, find_function
from rewards.rules import STRICT, Rules

_REGISTRY = threading.Lock()
"""Held while modules are in cloudpickle's registry: runs that share a reward pack it at the same time, in threads."""


@dataclass(frozen=True, slots=True)
class Term:
    """A loaded function and its weight. It travels by value: see `pack`."""

    name: str
    weight: float
    function: Callable[..., Any]
    convention: Convention
    is_async: bool
    conversational: bool = False
    """TRL only: completions are ``[{"role": "assistant", "content": text}]`` instead of text."""
    rules: Rules = STRICT
    """The choices of ``[reward]``, for a function that takes ``rules``."""
    extras: frozenset[str] = frozenset()
    """The parameters of `EXTRAS` that the function has."""
    modules: tuple[str, ...] = field(default=(), compare=False)
    """The user's own modules, which no worker can be expected to have."""

    @property
    def is_built_in(self) -> bool:
        return isinstance(self.function, CodeTests) or built_in(self.name) is self.function

    @property
    def is_grouped(self) -> bool:
        """True if one call takes a whole group: batch functions, and async ones, whose waits overlap."""
        return self.is_async or self.convention not in (Convention.OURS, Convention.VERL)


def load_terms(config: RewardConfig) -> tuple[Term, ...]:
    """Load the functions that a configuration names. Raises ValueError of one line for one that cannot be loaded.

    Terms of other kinds are asked for elsewhere (`rewards.grading.panel`), and left out.
    """
    loaded: list[Term] = []
    for t in config.all_terms:
        if t.function is not None:
            term = load_term(t.function, t.weight, conversational=config.conversational, rules=config.rules)
            loaded.append(term)
        elif t.code is not None:
            loaded.append(_code_term(t, config.rules))
    return tuple(loaded)


def _code_term(term: RewardTerm, rules: Rules) -> Term:
    function = CodeTests(term.code or "", term.credit, term.test_s, term.test_memory_mb)
    extras = frozenset(("finish_reason", "rules"))
    return Term(term.name, term.weight, function, Convention.OURS, is_async=False, rules=rules, extras=extras)


def load_term(name: str, weight: float = 1.0, *, conversational: bool | None = None, rules: Rules = STRICT) -> Term:
    """Load ``file.py:name``, ``package.module:name`` or a built-in. Raises ValueError of one line if it cannot."""
    function, modules = find_function(name)
    parameters = parameters_of(name, function)
    convention = recognize(name, parameters)
    messages = wants_messages(function, parameters) if conversational is None else conversational
    return Term(
        name=name,
        weight=weight,
        function=function,
        convention=convention,
        is_async=any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None)))),  # noqa: B004
        conversational=messages and convention is Convention.TRL,
        rules=rules,
        extras=frozenset(n for n in EXTRAS if n in parameters),
        modules=modules,
    )


def pack(terms: Sequence[Term]) -> bytes:
    """Pickle the terms, with the user's own modules by value, for a process on any machine.

    Raises ValueError if they cannot go.
    """
    names = ", ".join(t.name for t in terms)
    return packed_by_value(tuple(terms), [m for t in terms for m in t.modules], f"{names} to the graders")


def packed_by_value(value: object, modules: Sequence[str], what: str) -> bytes:
    """Pickle a value, with the modules of these names by value. Raises ValueError if it cannot go; `what` says what."""
    loaded = {id(module): module for name in modules if (module := sys.modules.get(name)) is not None}
    with _REGISTRY:
        for module in loaded.values():
            cloudpickle.register_pickle_by_value(module)
        try:
            return cloudpickle.dumps(value)
        except Exception as error:
            raise ValueError(
                f"cannot send {what}: {error}; keep open files, locks and connections out of module globals"
            ) from error
        finally:
            for module in loaded.values():
                cloudpickle.unregister_pickle_by_value(module)


def with_source(term: Term, message: str = "") -> str:
    """Return a message, by default the function's name, with the line at which the function is defined."""
    code = getattr(term.function, "__code__", None)
    where = f" (defined at line {code.co_firstlineno} of {code.co_filename})" if code is not None else ""
    return f"{message or term.name}{where}"
