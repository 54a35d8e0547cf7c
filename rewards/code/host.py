"""Runs in a sandbox with the policy's program, and does for the tests (`tester`) what they ask: call it.

Everything here is in the hands of the program, which may replace it. It can answer as it likes; it has nothing to read.
"""

import json
import operator
import os
import sys
from collections.abc import Callable
from typing import Any

from rewards.code.wire import decode, encode

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": operator.call,
    "get": getattr,
    "set": setattr,
    "item": operator.getitem,
    "len": len,
    "str": str,
    "repr": repr,
    "iter": iter,
}


def main() -> None:
    """Load ``/box/main.py`` and answer requests until there are no more."""
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    for descriptor in (0, 1):
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    namespace: dict[str, Any] = {"__name__": "program", "__file__": "/box/main.py"}
    objects: list[Any] = []

    def number_of(thing: Any) -> int:
        objects.append(thing)
        return len(objects) - 1

    def answer(data: Any) -> None:
        answers.write(json.dumps(data) + "\n")
        answers.flush()

    with open("/box/main.py", encoding="utf-8") as file:  # noqa: PTH123
        source = file.read()
    exec(compile(source, "/box/main.py", "exec"), namespace)
    names = json.loads(requests.readline())
    answer({name: encode(namespace[name], number_of) for name in names if name in namespace})
    for line in requests:
        operation, numbered, given, named = json.loads(line)
        try:
            args = [decode(v, objects.__getitem__) for v in given]
            names = {k: decode(v, objects.__getitem__) for k, v in named.items()}
            value = _OPERATIONS[operation](objects[numbered], *args, **names)
            answer({"value": encode(value, number_of), "args": [encode(a, number_of) for a in args]})
        except Exception as error:
            answer({"error": type(error).__name__, "message": str(error)[:1000]})


if __name__ == "__main__":
    sys.exit(main())
