"""The pool against hostile text and hostile functions: real processes, really killed."""

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest
from helpers.warm_processes import VARIABLE

from rewards.config import RewardConfig
from rewards.functions.scores import RewardFunctionError
from rewards.functions.term import load_terms, pack
from rewards.grading.pool import GraderPool
from rewards.grading.worker_count import default_workers, most_workers
from rewards.types import Outcome, Problem, Reward

PROBLEM = Problem("p", "How many?", "18")
RIGHT, WRONG = "The answer is \\boxed{18}", "#### 19"
ROOT = Path(__file__).parents[3]


@contextlib.asynccontextmanager
async def pooled(config: RewardConfig) -> AsyncIterator[GraderPool]:
    pool = GraderPool(config)
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture
def cold_graders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start grading processes as users do, not as copies of a warm one, which has loaded more and has other files."""
    monkeypatch.delenv(VARIABLE, raising=False)


def grade(config: RewardConfig, groups: Sequence[Sequence[str]], problem: Problem = PROBLEM) -> list[list[Reward]]:
    async def run() -> list[list[Reward]]:
        async with pooled(config) as pool:
            return await pool.grade([problem] * len(groups), groups)

    return asyncio.run(run())


def outcomes(rewards: list[list[Reward]]) -> list[list[Outcome]]:
    return [[r.outcome for r in group] for group in rewards]


def function(folder: Path, body: str, head: str = "def f(problem, completion):") -> str:
    file = folder / "hostile.py"
    file.write_text(f"{head}\n{textwrap.indent(body, '    ')}\n")
    return f"{file}:f"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_rewards_come_back_in_the_shape_of_the_texts() -> None:
    groups = [[RIGHT, WRONG, ""], [], [WRONG], [RIGHT] * 100]
    rewards = grade(RewardConfig(workers=2), groups)
    assert [[r.value for r in g] for g in rewards] == [[1, 0, 0], [], [0], [1] * 100]
    assert rewards[0][2].outcome is Outcome.NO_ANSWER


def test_completions_graded_one_by_one_share_trips_and_no_fates(tmp_path: Path) -> None:
    """One hangs and one crashes among many that wait together; the others are told apart and paid as ever."""
    body = """
while completion == "hang": pass
if completion == "crash": raise OSError
return float(completion)
"""
    config = RewardConfig(function=function(tmp_path, body.strip()), workers=1, deadline_s=1, max_failed_fraction=1.0)
    texts = ["0.5", "hang", "0.25", "crash", *(f"0.{i:03}" for i in range(60))]

    async def run() -> list[list[Reward]]:
        async with pooled(config) as pool:
            return await asyncio.gather(*(pool.grade_part(PROBLEM, [text], ["stop"]) for text in texts))

    rewards = [reward for (reward,) in asyncio.run(run())]
    assert [rewards[1].outcome, rewards[3].outcome] == [Outcome.TIMEOUT, Outcome.CRASHED]
    assert [r.value for r in rewards] == [0.0 if text in {"hang", "crash"} else float(text) for text in texts]


def test_it_works_from_a_loop_off_the_main_thread() -> None:
    found: list[list[list[Reward]]] = []
    thread = threading.Thread(target=lambda: found.append(grade(RewardConfig(workers=1), [[RIGHT]])))
    thread.start()
    thread.join(60)
    assert found == [[[Reward(1.0, Outcome.CORRECT)]]]


def test_two_loops_can_share_a_pool() -> None:
    pool = GraderPool(RewardConfig(workers=1))
    for _ in range(2):
        assert asyncio.run(pool.grade([PROBLEM], [[RIGHT]]))[0][0].value == 1
    asyncio.run(pool.close())


def test_a_hanging_function_is_killed_and_replaced_and_costs_only_its_own(tmp_path: Path) -> None:
    name = function(tmp_path, "while 'bomb' in completion: pass\nreturn 1.0")
    texts = ["bomb" if i % 10 == 0 else "fine" for i in range(40)]
    (rewards,) = grade(RewardConfig(function=name, workers=2, deadline_s=0.3), [texts])
    assert [r.outcome for r in rewards] == [Outcome.TIMEOUT if t == "bomb" else Outcome.CORRECT for t in texts]


def test_a_process_that_is_killed_from_outside_costs_no_completion(tmp_path: Path) -> None:
    """A machine that is short of memory kills whom it likes: only an item that it happens to twice is to blame."""
    named = function(tmp_path, f"time.sleep(0.3); open({str(tmp_path / 'seen')!r}, 'a').write('x'); return 1.0")
    file = tmp_path / "hostile.py"
    file.write_text("import time\n" + file.read_text())

    async def run() -> list[list[Reward]]:
        async with pooled(RewardConfig(function=named, workers=1)) as pool:
            grading = asyncio.create_task(pool.grade([PROBLEM], [["a", "b", "c"]]))
            for done in range(3):  # while it starts, and then in the middle of its work
                while not pool.pids or (
                    done and (not (seen := tmp_path / "seen").exists() or len(seen.read_text()) < done)
                ):
                    await asyncio.sleep(0.01)
                if done:
                    await asyncio.sleep(0.1)  # the item's answer is on its way, and the next one has begun
                os.kill(pool.pids[0], signal.SIGKILL)
                await asyncio.sleep(0.2)
            return await grading

    assert outcomes(asyncio.run(run())) == [[Outcome.CORRECT] * 3]


def test_a_function_that_kills_its_own_process_is_found_out(tmp_path: Path) -> None:
    named = function(tmp_path, "import os\nif completion == 'b': os.kill(os.getpid(), 9)\nreturn 1.0")
    got = outcomes(grade(RewardConfig(function=named, workers=1, max_failed_fraction=1.0), [["a", "b", "c"]]))
    assert got == [[Outcome.CORRECT, Outcome.TIMEOUT, Outcome.CORRECT]]


def test_a_sleep_in_c_and_an_ignored_signal_are_killed_too(tmp_path: Path) -> None:
    body = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    name = function(tmp_path, body + "try: time.sleep(60)\nexcept BaseException: time.sleep(60)")
    start = time.monotonic()
    assert outcomes(grade(RewardConfig(function=name, workers=1, deadline_s=0.3), [["x"]])) == [[Outcome.TIMEOUT]]
    assert time.monotonic() - start < 20


def test_memory_is_capped(tmp_path: Path) -> None:
    name = function(tmp_path, "return float(len(bytearray(2**32)) > 0) if completion == 'bomb' else 1.0")
    (rewards,) = grade(RewardConfig(function=name, workers=1, memory_mb=512), [["a", "bomb", "b", "bomb", "c"]])
    assert [r.outcome.value for r in rewards] == ["correct", "timeout", "correct", "timeout", "correct"]


def test_a_function_that_ends_its_process_is_a_crash(tmp_path: Path) -> None:
    name = function(tmp_path, "import os\nif completion == 'bomb': os._exit(3)\nreturn 1.0")
    (rewards,) = grade(RewardConfig(function=name, workers=1, max_failed_fraction=1), [["a", "bomb", "b"]])
    assert [r.outcome.value for r in rewards] == ["correct", "crashed", "correct"]
    assert [r.is_valid for r in rewards] == [True, False, True]


def test_a_process_that_ends_in_the_middle_of_a_message_costs_only_its_own(tmp_path: Path) -> None:
    body = """
import os, stat
if completion == 'torn':
    (connection,) = [fd for fd in range(3, 1024) if os.path.exists(f'/proc/self/fd/{fd}') and stat.S_ISSOCK(os.fstat(fd).st_mode)]
    os.write(connection, bytes([0, 0, 1, 0]) + b'less than it says')
    os._exit(3)
return 1.0"""
    name = function(tmp_path, body)
    (rewards,) = grade(RewardConfig(function=name, workers=1, max_failed_fraction=1), [["a", "torn", "b", "torn"]])
    assert [r.outcome.value for r in rewards] == ["correct", "crashed", "correct", "crashed"]


@pytest.mark.usefixtures("cold_graders")
def test_an_answer_that_cannot_be_read_leaves_none_for_the_next_items(tmp_path: Path) -> None:
    """Each group has its own number as reward; a lane that went on with the old worker would be one answer behind."""
    body = """
import os, stat
if completion == 'unreadable':
    (connection,) = [fd for fd in range(3, 1024) if os.path.exists(f'/proc/self/fd/{fd}') and stat.S_ISSOCK(os.fstat(fd).st_mode)]
    os.write(connection, bytes([0, 0, 0, 4]) + b'what')
return float(len(completion))"""

    async def run() -> list[list[Reward]]:
        async with pooled(RewardConfig(function=function(tmp_path, body), workers=1)) as pool:
            with pytest.raises(pickle.UnpicklingError):
                await pool.grade([PROBLEM], [["unreadable", "a", "ab"]])
            return await pool.grade([PROBLEM], [["abc", "abcd"]])

    assert [[r.value for r in group] for group in asyncio.run(run())] == [[3, 4]]


def test_an_exception_is_left_out_counted_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = function(tmp_path, "return 1 / len(completion)")
    (rewards,) = grade(RewardConfig(function=name, workers=1, max_failed_fraction=1), [["", "a", "", "b", ""]])
    assert [r.is_valid for r in rewards] == [False, True, False, True, False]
    assert len(caplog.records) == 1
    assert "line 2" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_too_many_failures_stop_with_the_functions_own_traceback(tmp_path: Path) -> None:
    name = function(tmp_path, "return 1 / len(completion)")
    with pytest.raises(RewardFunctionError, match=r"(?s)2 of 3 completions.*line 2.*ZeroDivisionError"):
        grade(RewardConfig(function=name, workers=1), [["", "", "a"]])


def test_parts_of_groups_are_graded_as_they_come_and_failures_are_counted_by_who_asks(tmp_path: Path) -> None:
    name = function(tmp_path, "return 1 / len(completion)")

    async def run() -> list[list[Reward]]:
        async with pooled(RewardConfig(function=name, workers=1, max_failed_fraction=0.5)) as pool:
            assert not pool.takes_groups
            texts = ["", "ab", "abcd"]
            parts = await asyncio.gather(*(pool.grade_part(PROBLEM, [text], ["stop"]) for text in texts))
            pool.check(parts)
            with pytest.raises(RewardFunctionError, match=r"(?s)2 of 3 completions.*ZeroDivisionError"):
                pool.check([parts[0], parts[1], parts[0]])
            return parts

    assert [(part[0].value, part[0].is_valid) for part in asyncio.run(run())] == [(0, False), (0.5, True), (0.25, True)]


def test_groups_go_whole_to_a_function_that_takes_them(tmp_path: Path) -> None:
    head = "async def f(prompts, completions, level, **kwargs):"
    name = function(tmp_path, "return [len(completions) * n for n in level]", head)
    problem = Problem("p", "", "", {"level": 2})
    rewards = grade(RewardConfig(function=name, workers=2), [["a", "b", "c"], ["d"], []], problem)
    assert [[r.value for r in g] for g in rewards] == [[6, 6, 6], [2], []]


def test_what_functions_print_does_not_disturb_the_answers(tmp_path: Path) -> None:
    name = function(tmp_path, "import os\nprint('hello')\nos.write(1, b'raw')\nreturn 1.0")
    assert grade(RewardConfig(function=name, workers=1), [["a", "b"]])[0][1].value == 1


def test_more_workers_than_the_machine_holds_are_refused_before_any_is_started() -> None:
    most = most_workers()
    assert 1 <= default_workers() <= most < 100_000
    threads = threading.active_count()
    with pytest.raises(ValueError, match=rf"reward.workers = {most + 1} is more .* set at most {most}$"):
        GraderPool(RewardConfig(workers=most + 1))
    assert threading.active_count() == threads


def test_a_function_its_workers_cannot_load_is_said(tmp_path: Path) -> None:
    file = tmp_path / "picky.py"
    file.write_text(
        f"import os\nclass Picky:\n    def __reduce__(self): return os.open, ({str(tmp_path / 'gone')!r}, 0)\n"
        "P = Picky()\ndef f(problem, completion): return P and 1.0"
    )
    with pytest.raises(ValueError, match=r"(?s)could not load.*FileNotFoundError"):
        grade(RewardConfig(function=f"{file}:f", workers=1), [["a"]])


def test_packed_functions_need_no_file(tmp_path: Path) -> None:
    config = RewardConfig(function=function(tmp_path, "return float(len(completion))"), workers=1)
    packed = pack(load_terms(config))
    (tmp_path / "hostile.py").unlink()

    async def run() -> list[list[Reward]]:
        pool = GraderPool(config, packed)
        try:
            return await pool.grade([PROBLEM], [["abc"]])
        finally:
            await pool.close()

    assert asyncio.run(run())[0][0].value == 3


@pytest.mark.usefixtures("cold_graders")
def test_workers_import_none_of_the_heavy_packages(tmp_path: Path) -> None:
    body = "import sys\nreturn float(any(m in sys.modules for m in ('torch', 'ray', 'vllm', 'transformers', 'sympy')))"
    assert grade(RewardConfig(function=function(tmp_path, body), workers=1), [["a"]])[0][0].value == 0


def test_close_leaves_no_process_and_ends_what_is_under_way(tmp_path: Path) -> None:
    name = function(tmp_path, "while True: pass")

    async def run() -> list[int]:
        pool = GraderPool(RewardConfig(function=name, workers=2, deadline_s=60))
        grading = asyncio.create_task(pool.grade_timed([PROBLEM], [["a", "b", "c"]]))
        while len(pool.pids) < 2:
            await asyncio.sleep(0.05)
        pids = pool.pids
        await pool.close()
        async with asyncio.timeout(10):
            graded = await grading
        assert {r.outcome for r, _ in graded[0]} == {Outcome.TIMEOUT}
        return pids

    assert not any(alive(p) for p in asyncio.run(run()))


DRIVER = """
import asyncio, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from rewards.config import RewardConfig
from rewards.grading.pool import GraderPool
from rewards.types import Problem
print("imported as", __name__, flush=True)
async def run():
    pool = GraderPool(RewardConfig(workers=2))
    await pool.grade([Problem("p", "", "18")], [["18"] * 300])
    print("pids", *pool.pids, flush=True)
    await asyncio.sleep(60)
asyncio.run(run())
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent_in_silence(ending: signal.Signals, tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    parent = subprocess.Popen([sys.executable, driver], **pipes, text=True, env=environment, start_new_session=True)
    assert parent.stdout is not None
    assert parent.stdout.readline().strip() == "imported as __main__"
    pids = [int(p) for p in parent.stdout.readline().split()[1:]]
    assert pids
    assert all(alive(p) for p in pids)
    os.killpg(parent.pid, ending)
    out, err = parent.communicate(timeout=20)
    assert out == "", "the main module was not run again by a worker"
    assert "grading/worker" not in err, "only the parent may say that it was interrupted"
    end = time.monotonic() + 5
    while any(alive(p) for p in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(alive(p) for p in pids)


def test_two_cores_grade_two_thousand_worked_answers_a_second() -> None:
    texts = [f"She has {i} eggs, so {i} * 2 = {2 * i}.\n#### {2 * i}" for i in range(2000)]

    async def run() -> float:
        async with pooled(RewardConfig(workers=2)) as pool:
            await pool.grade([PROBLEM], [[RIGHT] * 200])
            start = spent(pool)
            await pool.grade([PROBLEM], [texts])
            return (spent(pool) - start) / len(texts)

    def spent(pool: GraderPool) -> float:
        """Core seconds of this process and the workers: on a busy machine a clock would tell of others."""
        workers = [psutil.Process(pid).cpu_times() for pid in pool.pids]
        return time.process_time() + sum(w.user + w.system for w in workers)

    assert 2 / asyncio.run(run()) > 2000
