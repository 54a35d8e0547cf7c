"""Finds a reward function by name: in a file, in a package, or built in."""

import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, cast

OURS = ("lora", "rewards", "rl", "rollout")
BUILT_IN: Mapping[str, str] = {"math_answer": "rewards.math_answer"}
"""The functions by name, and their modules. These load sympy, which is most of a grading process's start, and which a
function of the user's need not wait for."""

_BY_PATH = "rankone_reward_"
"""Begins the names of modules that were loaded by their file's path, which nothing imports by name."""
_BESIDE: dict[Path, dict[str, None]] = {}
"""By directory, the modules in it that files of it have imported: new to this process when the first of them is loaded,
and needed by whichever comes later."""


def built_in(name: str) -> Callable[..., Any] | None:
    """Return the built-in function of that name, or None if there is none."""
    return getattr(importlib.import_module(BUILT_IN[name]), name) if name in BUILT_IN else None


def find_function(
    name: str, kind: str = "reward", known: Collection[str] = tuple(BUILT_IN)
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """The function that ``file.py:name``, ``package.module:name`` or a built-in's name stands for, and the names of the
    modules that a process elsewhere would lack.

    Raises:
        ValueError: one line that says what there is not, or what the file failed of.
    """
    if (function := built_in(name)) is not None:
        return function, ()
    named, module, modules = find_named(name, kind, known)
    if not callable(named) or inspect.isclass(named):
        place, _, attribute = name.rpartition(":")
        defined = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        raise ValueError(f"{place} has no function {attribute!r}; it defines: {', '.join(defined) or 'none'}")
    return cast(Callable[..., Any], named), modules


def find_named(name: str, kind: str, built_in: Collection[str] = ()) -> tuple[object, ModuleType, tuple[str, ...]]:
    """The object of that name, None if its module has none; the module; and what a process elsewhere would lack.

    `kind` says in messages what it is for. Raises ValueError as `find_function` does.
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        choices = f" or one of: {', '.join(built_in)}" if built_in else ""
        raise ValueError(f"{kind} function {name!r} is not 'file.py:name', 'package.module:name'{choices}")
    before = set(sys.modules)
    module = _from_file(Path(place), kind) if place.endswith(".py") else _from_package(place)
    return getattr(module, attribute, None), module, _own_modules(module, before)


class _FromSource(SourceFileLoader):
    """Reads the file itself: kept bytecode is taken for the same if the file has its size and was written in the same
    second, and would leave its folder in the user's."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _from_file(path: Path, kind: str) -> ModuleType:
    path = path.expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"{kind} file {path} does not exist")
    # Of two files of one name, in different directories, neither is to be taken for the other.
    module_name = f"{_BY_PATH}{path.stem}_{sha256(os.fsencode(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path, loader=_FromSource(module_name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # so that it can import its neighbours, as a script can
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ValueError(f"cannot load {path}: {_one_line(error, str(path))}") from error
    _check_neighbours(module, path.parent)
    return module


def _check_neighbours(module: ModuleType, directory: Path) -> None:
    """Raises ValueError if a module was imported from elsewhere, as Python has one of a name, and lies here too."""
    kinds = (inspect.ismodule, inspect.isroutine, inspect.isclass)
    values = [value for value in vars(module).values() if any(is_kind(value) for is_kind in kinds)]
    names = {v.__name__ if inspect.ismodule(v) else str(v.__module__) for v in values}
    for name in sorted(names - {*OURS}):
        file, here = getattr(sys.modules.get(name), "__file__", None), directory / f"{name}.py"
        if _is_own(sys.modules.get(name)) and here.is_file() and Path(str(file)).resolve() != here.resolve():
            raise ValueError(f"{module.__file__} imports {name}, which is {file} already and not {here}: rename one")


def _from_package(name: str) -> ModuleType:
    here, top = str(Path.cwd()), name.split(".")[0]
    if top in OURS and (own := next((p for p in (Path(f"{top}.py"), Path(top)) if p.exists()), None)):
        raise ValueError(
            f"{name} is looked for in rankone's own package {top!r}, not in {own.absolute()}: name its file "
            "(some/where.py:name), or rename it"
        )
    if here not in sys.path:
        sys.path.append(here)  # a console script does not look there by itself
    try:
        return importlib.import_module(name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ValueError(f"cannot import {name}: {_one_line(error, name.replace('.', '/'))}") from error


def _one_line(error: BaseException, place: str) -> str:
    """The error with the last line of the user's file that it passed through."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if place in f.filename]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}".splitlines()[0]


def _own_modules(module: ModuleType, before: set[str]) -> tuple[str, ...]:
    """The module and what it newly imported from beside it: not installed, so not to be expected on a worker."""
    if not _is_own(module) or module.__name__.split(".")[0] == "rewards":
        return ()
    new = [m for n, m in list(sys.modules.items()) if n not in before and _is_own(m)]
    parent = Path(module.__file__ or ".").parent
    top = module.__name__.split(".")[0]
    _BESIDE.setdefault(parent, {}).update((m.__name__, None) for m in new if _is_beside(parent, m))
    beside = [n for n in _BESIDE[parent] if n in sys.modules]
    package = [n for n, m in list(sys.modules.items()) if (n == top or n.startswith(f"{top}.")) and _is_own(m)]
    return tuple(dict.fromkeys([module.__name__, *beside, *package]))


def _is_beside(directory: Path, module: ModuleType) -> bool:
    return not module.__name__.startswith(_BY_PATH) and Path(module.__file__ or "/").is_relative_to(directory)


def _is_own(module: object) -> bool:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    installed = ("purelib", "platlib", "stdlib", "platstdlib")
    return not any(Path(file).is_relative_to(sysconfig.get_paths()[p]) for p in installed)
