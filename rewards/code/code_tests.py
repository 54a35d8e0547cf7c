"""Rewards a program for passing a problem's tests. It runs in a sandbox, and the tests where it cannot reach them."""

import json
import math
import subprocess
import tempfile
import time
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Literal

from rewards.code.cases import Cases, Exchange, read_cases
from rewards.code.sandbox import START_S, Limits, Room, check_room, read_part, read_within
from rewards.rules import STRICT, Rules
from rewards.types import Outcome, Problem, Reward

_MODULES = ("wire", "names", "host", "tester")
_OUTPUT_SLACK = 2**16
"""Bytes that a program may write beyond those expected."""


@dataclass(frozen=True, slots=True)
class CodeTests:
    """A reward function: the share of the tests in ``column`` that the program passes, or 1 for all and else 0."""

    column: str
    credit: Literal["all", "share"]
    seconds: float
    memory_mb: int

    def __call__(self, problem: Problem, completion: str, finish_reason: str = "stop", rules: Rules = STRICT) -> Reward:
        """Run the completion's last fenced block. Raises ValueError for unreadable tests, RuntimeError without room."""
        cases = read_cases(problem, self.column)
        check_room()
        if finish_reason == "length" and rules.truncated == "refuse":
            return Reward(0.0, Outcome.TRUNCATED)
        program = last_block(completion)
        if program is None:
            return Reward(0.0, Outcome.NO_ANSWER)
        passed = self._passed(program, cases)
        value = passed / len(cases) if self.credit == "share" else float(passed == len(cases))
        return Reward(value, Outcome.CORRECT if passed == len(cases) else Outcome.WRONG)

    def _passed(self, program: str, cases: Cases) -> int:
        """Return how many tests it passes; where only all count, those before the first that it does not."""
        if cases.tests:
            return self._passed_tests(program, cases)
        passes = (self._answers(program, exchange) for exchange in cases.exchanges)
        return sum(passes) if self.credit == "share" else len(list(takewhile(bool, passes)))

    @property
    def _limits(self) -> Limits:
        return Limits(math.ceil(self.seconds), self.memory_mb)

    def _answers(self, program: str, exchange: Exchange) -> bool:
        most = _OUTPUT_SLACK + 2 * len(exchange.expected.encode("utf-8", "replace"))
        with tempfile.TemporaryFile() as given:
            given.write(exchange.given.encode("utf-8", "replace"))
            given.seek(0)
            with Room({"main.py": program}, ["/box/main.py"], self._limits, stdin=given) as room:
                assert room.pipes.stdout is not None
                room.require_begun()
                until = time.monotonic() + self.seconds + START_S
                written = read_within(room.pipes.stdout, until, most)
                try:
                    ended_well = written is not None and room.wait(max(0.0, until - time.monotonic())) == 0
                except subprocess.TimeoutExpired:
                    return False
        return ended_well and same_output((written or b"").decode(errors="replace"), exchange.expected)

    def _passed_tests(self, program: str, cases: Cases) -> int:
        content = json.dumps({"setup": cases.setup, "target": cases.target, "tests": cases.tests})
        with Room({**_library(), "main.py": program}, _start("host"), self._limits, stdin=subprocess.PIPE) as host:
            assert host.pipes.stdin is not None
            assert host.pipes.stdout is not None
            with Room(
                {**_library(), "tests.json": content}, _start("tester"), self._tester_limits(len(cases)),
                stdin=host.pipes.stdout, stdout=host.pipes.stdin, stderr=subprocess.PIPE,
            ) as tester:  # fmt: skip
                host.pipes.stdin.close()  # each side sees the other's end
                host.pipes.stdout.close()
                for room in (host, tester):
                    room.require_begun()
                verdicts = self._verdicts(tester, len(cases))
        return 0 if verdicts.strip(b"01") else verdicts.count(b"1")  # or they are its interpreter's last words

    def _tester_limits(self, tests: int) -> Limits:
        return Limits(math.ceil(self.seconds) * tests, self.memory_mb)

    def _verdicts(self, tester: Room, count: int) -> bytes:
        """Return a byte a test that came to its end, each within its own time."""
        assert tester.pipes.stderr is not None
        verdicts, until = b"", time.monotonic() + self.seconds + START_S
        while len(verdicts) < count and (part := read_part(tester.pipes.stderr, until)):
            verdicts += part
            until = time.monotonic() + self.seconds
            if self.credit == "all" and b"0" in part:
                break
        return verdicts[:count]


def last_block(completion: str) -> str | None:
    """Return the last complete fenced block of a completion; None if it has none."""
    block, last, fence = list[str](), None, ""
    for line in completion.splitlines():
        text = line.strip()
        if not fence and text.startswith("```"):
            fence, block = "`" * (len(text) - len(text.lstrip("`"))), []
        elif fence and text.startswith(fence) and not text.strip("`"):
            last, fence = "\n".join(block) + "\n", ""
        elif fence:
            block.append(line)
    return last


def same_output(written: str, expected: str) -> bool:
    """Return True if the lines are the same but for space around them; numbers may be written in other ways."""
    produced, required = (text.strip().splitlines() for text in (written, expected))
    return len(produced) == len(required) and all(map(_same_line, produced, required))


def _same_line(written: str, expected: str) -> bool:
    produced, required = written.split(), expected.split()
    return produced == required or (len(produced) == len(required) and all(map(_same_word, produced, required)))


def _same_word(written: str, expected: str) -> bool:
    if written == expected:
        return True
    try:
        return Decimal(written) == Decimal(expected)
    except InvalidOperation:
        return False


@cache
def _library() -> dict[str, str]:
    """Return the files of ours that both sandboxes need."""
    here = Path(__file__).parent
    packages = {"rewards/__init__.py": "", "rewards/code/__init__.py": ""}
    return packages | {f"rewards/code/{m}.py": (here / f"{m}.py").read_text() for m in _MODULES}


def _start(module: str) -> list[str]:
    return ["-c", f"import sys; sys.path.insert(0, '/box'); from rewards.code.{module} import main; main()"]
