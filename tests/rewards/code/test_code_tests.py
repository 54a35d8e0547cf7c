"""Programs against their tests: the layouts of public data sets, and what a hostile program can try."""

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from rewards.code.cases import read_cases
from rewards.code.code_tests import CodeTests, last_block, same_output
from rewards.config import RewardConfig, RewardTerm
from rewards.grading.pool import GraderPool
from rewards.grading.preflight import preflight
from rewards.rules import Rules
from rewards.types import Outcome, Problem, Reward
from rl.jobs.package import write_job
from rl.settings.toml import load_config

ALL, SHARE = (CodeTests("tests", credit, 1.0, 256) for credit in ("all", "share"))
RIGHT = "def triple(n):\n    return 3 * n"


def problem(tests: Any, **columns: Any) -> Problem:
    return Problem("p", "Triple it.", "-", {"tests": tests, **columns})


def answer(program: str) -> str:
    return f"I think:\n```\nnonsense\n```\nso\n```python\n{program}\n```\nDone."


ASSERTS = problem(
    ["assert triple(1) == 3", "assert sorted([triple(5), triple(2)]) == [6, 15]", "assert triple(14) == 42"]
)
EXCHANGES = problem({"inputs": ["1\n", "14\n"], "outputs": ["3\n", "42"]})


@pytest.mark.parametrize(
    ("asked", "program"),
    [
        (ASSERTS, RIGHT),
        (problem(json.dumps(["assert triple(1) == 3"])), RIGHT),
        (
            problem(
                ["assert depth(root) == 2", "assert str(root) == 'a'", "assert math.isclose(root.weight(), 0.5)"],
                test_setup_code="root = Node('a')\nroot.left = Node('b')",
                test_imports=["import math"],
            ),
            "class Node:\n    def __init__(self, name): self.name, self.left = name, None\n    __str__ = lambda s: s.name\n"
            "    def weight(self): return .5\ndef depth(n): return 1 + depth(n.left) if n else 0",
        ),
        (
            problem(
                "def check(candidate):\n    a = [3, 1]\n    assert candidate(a) is None and a == [1, 3]\n"
                "    try:\n        candidate(None)\n        assert False\n    except TypeError:\n        pass\n"
                "    assert list(map(candidate, [[2]])) == [None]",
                entry_point="put",
            ),
            "def put(a): a.sort() if a is not None else 1 + None",
        ),
        (problem(["assert set(f(3)) == {0, 1, 2}", "assert f(2) != (1, 2)", "assert isinstance(g(), dict)"]),
         "f = lambda n: (i for i in range(n))\nfrom collections import Counter\ndef g(): return Counter('ab')"),
        (problem(["assert sum(10, 15) == 6", "assert sum(100, 150) == 93"]),
         "def sum(a, b): return len([0]) * __builtins__['sum'](i for i in range(1, a + 1) if not a % i and not b % i)"),
        (problem("def check(candidate):\n    assert candidate(2) == 6\n    assert max(candidate(1), 2) == 3", entry_point="pow"),
         "def pow(n): return 3 * n"),
        (EXCHANGES, "print(' ', 3 * int(input()), '\\n')"),
        (problem([{"input": "1", "output": "3.0", "testtype": "stdin"}]), "print(3 * int(input()))"),
        (problem(json.dumps({"fn_name": "f", "inputs": [[1, [2]]], "outputs": [[[1, 2]]]})), "f = lambda a, b: (a, *b)"),
        (
            problem([{"input": '2\n"a"', "output": '["a", "a"]', "testtype": "functional"}], metadata='{"func_name": "max"}'),
            "class Solution:\n    def max(self, n, s): return [s] * n",
        ),
    ],
)  # fmt: skip
def test_a_right_program_passes_in_every_layout(asked: Problem, program: str) -> None:
    assert ALL(asked, answer(program)) == Reward(1.0, Outcome.CORRECT)


HOSTILE = {
    "exits early": "import os, sys\ntriple = lambda n: os._exit(0)",
    "exits when loaded": "raise SystemExit(0)",
    "equals everything": "class E(int):\n    __eq__ = __le__ = __lt__ = __ge__ = lambda *a: True\n    __hash__ = int.__hash__\ndef triple(n): return E(7)",
    "is everything": "class E:\n    __eq__ = lambda *a: True\n    __hash__ = None\ndef triple(n): return E()",
    "patches builtins": "import builtins\nbuiltins.sorted = lambda *a: [6, 15]\nbuiltins.AssertionError = KeyError\nsorted = lambda a: [6, 15]\ntriple = len",
    "forges answers": "import os, json\nfor fd in range(2, 30):\n    try: os.write(fd, b'111' + json.dumps({'value': 3, 'args': []}).encode() + b'\\n')\n    except OSError: pass\ntriple = None",
    "replaces the host": "import json, sys\njson.dumps = lambda *a: '{\"value\": 3, \"args\": [1]}'\ntriple = lambda n: 3",
    "looks for the tests": "import gc, os, sys\ndef triple(n):\n    seen = repr([open(os.path.join(d, f), errors='replace').read() for d, _, fs in os.walk('/box') for f in fs])\n    seen += repr([o for o in gc.get_objects() if isinstance(o, (list, dict))])\n    return [int(w) for w in ('42', '15') if 'triple(14) == ' + w in seen and 'gc' not in w] or 0",
    "kills its parent": "import os, signal\nfor p in (os.getppid(), 1, -1, 0):\n    try: os.kill(p, 9)\n    except OSError: pass\ntriple = None",
    "leaves a daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\ntriple = None",
    "forks": "import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(9)",
    "fills memory": "a = [' ' * 10**6 for _ in range(10**5)]\ntriple = 3",
    "loops": "def triple(n):\n    while True: pass",
    "recurses": "def triple(n): return triple(n)",
    "never ends its list": "def triple(n):\n    while True: yield n",
    "returns a nest": "def triple(n):\n    a = []\n    for _ in range(900): a = [a]\n    return a",
    "raises an assertion": "def triple(n): raise AssertionError",
    "outlives its parent": "import ctypes, time\nctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\ntime.sleep(1000)",
    "outlives it by a thread": "import os, sys, threading, time\nagain = 'import time; time.sleep(1000) # /box/main.py'\nthreading.Thread(target=lambda: os.execv(sys.executable, ['python', '-c', again])).start()\ntime.sleep(1000)",
}  # fmt: skip


@pytest.mark.parametrize("program", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_hostile_program_passes_asserts(program: str) -> None:
    assert SHARE(ASSERTS, answer(program)) == Reward(0.0, Outcome.WRONG)
    assert gone()


@pytest.mark.parametrize(
    "program",
    [
        "import os\nprint(3 * int(input()), flush=True)\nos._exit(1)",
        "import os\nfor fd in range(2, 256):\n    try: os.write(fd, b'OSError: no room')\n    except OSError: pass\nos._exit(1)",
        "print(3)\nprint(42)",
        "print('3\\n' * 10**6)",
        "import sys\nwhile True: sys.stdout.write(' ' * 10**6)",
        "open('/box/f', 'w').write('x' * 10**9)\nprint(3 * int(input()))",
        "import os\nprint(3 * int(input()))\nos.write(0, b'3')\nraise SystemExit('x')",
        "",
    ],
)
def test_no_hostile_program_passes_exchanges(program: str) -> None:
    assert SHARE(EXCHANGES, answer(program)) == Reward(0.0, Outcome.WRONG)
    assert gone()


def test_a_program_sees_neither_the_machine_nor_a_network(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("42")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        program = f"""
import os, socket
tried = []
def attempt(f, *args):
    try: tried.append(str(f(*args)))
    except OSError: pass
attempt(open, {str(tmp_path / "secret")!r})
attempt(open, "/usr/forbidden", "w")
attempt(os.listdir, "/proc")
attempt(os.listdir, {str(Path.cwd())!r})
attempt(socket.create_connection, ("127.0.0.1", {listening.getsockname()[1]}), 1)
attempt(os.setuid, 0)
attempt(os.chroot, "/usr")
attempt(os.mkdir, "/box/mine")
print(tried, os.getuid(), os.getpid(), sorted(os.environ))
"""
        expected = "['None'] 65534 1 ['HOME', 'LANG', 'PYTHONHASHSEED', 'TMPDIR']"
        assert ALL(problem({"inputs": [""], "outputs": [expected]}), answer(program)).value == 1


def test_a_room_that_cannot_be_had_is_no_fault_of_the_programs() -> None:
    ALL(ASSERTS, answer(RIGHT))  # there is room now, and later there is none: its files do not fit
    with pytest.raises(RuntimeError, match=r"no room for a hostile program: .*No space left"):
        ALL(problem(["assert triple(1) == 3"], test_setup_code=f"'{' ' * 17 * 2**20}'"), answer(RIGHT))


def test_a_program_gets_no_memory_that_its_limits_do_not_count_and_no_namespaces() -> None:
    program = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
refused = [
    libc.unshare(0x10000000 | 0x20000), libc.shmget(0, ctypes.c_size_t(2**30), 0o1600), libc.msgget(0, 0o1600),
    libc.memfd_create(b"file", 0), libc.ptrace(0, 0, 0, 0),
]
if os.fork() == 0:
    os._exit(7)
print(refused, os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert ALL(problem({"inputs": [""], "outputs": ["[-1, -1, -1, -1, -1] 7"]}), answer(program)).value == 1


@pytest.mark.parametrize(
    ("test", "program"),
    [
        ("assert isclose(f(1), 2)", "f = float\ndef isclose(*a): return True"),
        ("assert math.isclose(f(1), 2)", "f = float\nclass math:\n    isclose = lambda *a: True"),
        ("assert np.allclose(f(1), 2)", "f = float\nclass np:\n    allclose = lambda *a: True"),
        ("assert sum([1, 2]) == 3", "total = sum"),
        ("assert sum([1, 2]) == 3", "class E:\n    __eq__ = lambda *a: True\nsum = lambda a: E()"),
        ("assert set(f(1)) == {2}", "f = lambda n: [3]\nset = lambda a: {2}"),
        ("assert f(1) in (2, 3)", "class E:\n    __eq__ = lambda *a: True\nf = lambda n: E()"),
        ("assert f(1)", "class E: pass\nf = lambda n: E()"),
        ("assert all(map(lambda n: f(n) == n, [1, 2]))", "def f(n): raise StopIteration"),
        ("assert not any(map(f, [1, 2]))", "def f(n): raise StopIteration"),
        ("assert not f(1)", "class E:\n    __len__ = lambda s: 0\nf = lambda n: E()"),
        (
            "assert len(f(1)) == 2",
            "class E:\n    __len__ = lambda s: type('I', (int,), {'__eq__': lambda *a: True})(7)\nf = lambda n: E()",
        ),
    ],
)
def test_a_program_takes_no_part_in_a_comparison(test: str, program: str) -> None:
    assert ALL(problem([test]), answer(program)) == Reward(0.0, Outcome.WRONG)


def test_parts_are_paid_only_where_they_are_to_be() -> None:
    almost = answer("def triple(n):\n    return 3 * n if n < 10 else os")
    assert ALL(ASSERTS, almost) == Reward(0.0, Outcome.WRONG)
    assert SHARE(ASSERTS, almost) == Reward(pytest.approx(2 / 3), Outcome.WRONG)
    assert SHARE(EXCHANGES, answer("print(3)")).value == 0.5


def test_the_program_is_the_last_complete_block() -> None:
    assert last_block("```py\na\n```\n```\nb\n\n```") == "b\n\n"
    assert last_block("````\n```\nx\n```\n````") == "```\nx\n```\n"
    assert last_block("```py\na\n```\n```py\nb") == "a\n"
    assert last_block("a = 1") is None
    assert ALL(ASSERTS, RIGHT).outcome is Outcome.NO_ANSWER
    assert ALL(ASSERTS, answer(RIGHT), "length").outcome is Outcome.TRUNCATED
    assert ALL(ASSERTS, answer(RIGHT), "length", Rules(truncated="grade")).value == 1


@pytest.mark.parametrize(
    ("written", "expected", "same"),
    [
        ("1 2\n", "1  2", True), ("1.0", "1", True), ("\n1\n\n", "1", True), ("yes", "Yes", False), ("1\n2", "1 2", False),
        ("1 2", "1", False), ("nan", "NaN", False), ("1e999999999", "1", False), ("", "", True), ("0x1", "1", False),
    ],
)  # fmt: skip
def test_outputs_are_compared_by_words(written: str, expected: str, same: bool) -> None:
    assert same_output(written, expected) is same


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Problem("p", "", "", {"code": 1}), "no column 'tests' with tests; the data has: code"),
        (problem([]), "holds no tests"),
        (problem([{"in": 1}]), "holds no tests"),
        (problem(["assert f( == 1"]), "a test is no Python"),
        (
            problem(["assert len(sum([1])) == 3"]),
            "the tests call no function of a program's, but of Python's: len, sum",
        ),
    ],
)
def test_unreadable_tests_are_the_data_sets_fault(asked: Problem, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_cases(asked, "tests")


def test_a_killed_grader_takes_its_programs_with_it_and_a_term_is_tried_and_sent(tmp_path: Path) -> None:
    text = '[reward]\nworkers = 1\ndeadline_s = 3\n[[reward.terms]]\ncode = "tests"\ntest_s = 100\n'
    (tmp_path / "run.toml").write_text(text)
    write_job(load_config(tmp_path / "run.toml"), tmp_path, tmp_path)
    config = load_config(tmp_path / "config.toml").reward
    assert config.terms == (RewardTerm(code="tests", test_s=100),)

    async def run(config: RewardConfig) -> list[Reward]:
        pool = GraderPool(config)
        try:
            assert "no_answer" in await preflight(pool, [ASSERTS])
            with pytest.raises(ValueError, match="no column 'tests'"):
                await preflight(pool, [Problem("p", "", "1")])
            return await pool.grade_part(ASSERTS, [answer("import time\ntime.sleep(100)"), answer(RIGHT)], ["stop"] * 2)
        finally:
            await pool.close()

    assert asyncio.run(run(config)) == [Reward(0.0, Outcome.TIMEOUT), Reward(1.0, Outcome.CORRECT)]
    assert gone()


def gone() -> bool:
    """Return True when no process of a sandbox is there any more: the kernel ends them a moment after their first."""
    until = time.monotonic() + 60
    while left() and time.monotonic() < until:
        time.sleep(0.02)
    return not left()


def left() -> list[int]:
    """Processes of a sandbox that are still there."""
    shown = ((p.pid, p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
    return [
        pid for pid, command in shown if any("/box/main.py" in part or "rewards.code.host" in part for part in command)
    ]
