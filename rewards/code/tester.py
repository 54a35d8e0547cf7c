"""Runs in a sandbox of its own with a data set's tests, and asks the program in the other one (`host`).

So the program never sees what is expected, its objects never take part in a comparison, and its end says nothing: the
verdicts, a ``1`` or ``0`` a test, leave on a pipe that it does not have.
"""

import builtins
import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from rewards.code.names import TRUSTED, modules_in, names_in, names_of_program
from rewards.code.wire import decode, encode


class Remote:
    """An object of the program's. It can be called, asked and changed, but decides nothing: it equals nothing."""

    def __init__(self, channel: "Channel", number: int) -> None:
        object.__setattr__(self, "_channel", channel)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **names: Any) -> Any:
        return _ask(self, "call", *args, **names)

    def __getattr__(self, name: str) -> Any:
        return _ask(self, "get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return _ask(self, "item", key)

    def __iter__(self) -> Any:
        return iter(_plain(_ask(self, "iter"), Iterator))

    def __len__(self) -> int:
        return _plain(_ask(self, "len"), int)

    def __str__(self) -> str:
        return _plain(_ask(self, "str"), str)

    def __repr__(self) -> str:
        return _plain(_ask(self, "repr"), str)

    def _undecided(self, *others: Any) -> NoReturn:
        raise TypeError("objects of the program cannot be compared, nor be true or false")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __hash__ = __contains__ = _undecided  # type: ignore[assignment]


def _ask(remote: Remote, operation: str, *args: Any, **names: Any) -> Any:
    channel, number = object.__getattribute__(remote, "_channel"), object.__getattribute__(remote, "_number")
    return channel.ask(operation, number, args, names)


def _plain(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError("not what it should be")
    return value


class Channel:
    """The pipes to the program."""

    def __init__(self, answers: int, requests: int) -> None:
        self._answers = os.fdopen(answers, "r")
        self._requests = os.fdopen(requests, "w")

    def names(self, names: Sequence[str]) -> dict[str, Any]:
        """Return those of the names that the program has, and what they stand for."""
        data = self._exchange(list(names))
        return {name: decode(data[name], self._remote) for name in names if name in data}

    def ask(self, operation: str, number: int, args: Sequence[Any], names: Mapping[str, Any]) -> Any:
        """Have something done with an object, and return its value. What it changed in an argument changes here too."""
        given = [encode(a, _number_of) for a in args]
        answer = self._exchange([operation, number, given, {k: encode(v, _number_of) for k, v in names.items()}])
        if "error" in answer:
            raise _error(answer["error"], answer.get("message"))
        for arg, after in zip(args, answer["args"], strict=True):
            _change(arg, decode(after, self._remote))
        return decode(answer["value"], self._remote)

    def _remote(self, number: int) -> Remote:
        return Remote(self, number)

    def _exchange(self, request: Any) -> Any:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return json.loads(self._answers.readline(2**24))


def _number_of(value: Any) -> int:
    if type(value) is Remote:
        return object.__getattribute__(value, "_number")
    raise TypeError(f"{type(value).__name__} cannot be passed to the program")


def _error(name: Any, message: Any) -> Exception:
    """Return the program's exception, but for those that end a loop of a test's: ``all(map(f, data))`` would hold."""
    kind = getattr(builtins, str(name), None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, (StopIteration, ExceptionGroup)):
        return kind(str(message))
    return RuntimeError(str(name))


def _change(arg: Any, after: Any) -> None:
    if isinstance(arg, list) and isinstance(after, list):
        arg[:] = after
    elif (isinstance(arg, dict) and isinstance(after, dict)) or (isinstance(arg, set) and isinstance(after, set)):
        arg.clear()
        arg.update(after)


def fits(value: Any, expected: Sequence[Any]) -> bool:
    """Return True if a value is one of those expected, with lists for tuples, as JSON has them."""
    return any(_as_json(value) == each for each in expected)


def _as_json(value: Any) -> Any:
    return [_as_json(v) for v in value] if isinstance(value, list | tuple) else value


def _missing(name: str) -> Callable[..., NoReturn]:
    """Return what stands for a function that the program lacks, lest Python's own of that name pass its tests."""

    def call(*args: Any, **names: Any) -> NoReturn:
        raise NameError(f"the program has no {name}")

    return call


def run(channel: Channel, setup: str, target: str, tests: Sequence[str], verdicts: int) -> None:
    """Run the tests one by one, each in what the ones before it have left, as in a file.

    ``target`` is the function that tests know as ``_target``, perhaps a method of a class ``Solution``; or nothing.
    """
    codes = [setup, *tests]
    trusted = {name: importlib.import_module(name) for name in modules_in(codes)}
    trusted |= {name: TRUSTED[name] for name in names_in(codes) & set(TRUSTED)}
    asked = names_of_program(codes)
    program = channel.names(sorted(asked | {target, "Solution"}))

    def call_target(*args: Any) -> Any:
        return (getattr(program["Solution"](), target) if "Solution" in program else program[target])(*args)

    own = {name: program.get(name, _missing(name)) for name in asked if name in program or hasattr(builtins, name)}
    namespace = {**own, **trusted, "__name__": "tests", "_fits": fits, "_target": call_target}
    exec(compile(setup, "setup", "exec"), namespace)
    for test in tests:
        try:
            exec(compile(test, "test", "exec"), namespace)
        except BaseException:
            os.write(verdicts, b"0")
        else:
            os.write(verdicts, b"1")


def main() -> None:
    """Read ``/box/tests.json``, and write the verdicts to what was stderr."""
    channel, verdicts = Channel(os.dup(0), os.dup(1)), os.dup(2)
    for descriptor in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    with open("/box/tests.json", encoding="utf-8") as file:  # noqa: PTH123
        content = json.load(file)
    run(channel, content["setup"], content["target"], content["tests"], verdicts)


if __name__ == "__main__":
    main()
