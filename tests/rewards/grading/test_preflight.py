"""The preflight lets good rewards through and stops bad ones with their own line."""

import asyncio
from pathlib import Path

import pytest

from rewards.config import RewardConfig
from rewards.grading.pool import GraderPool
from rewards.grading.preflight import preflight
from rewards.types import Problem

PROBLEMS = [Problem("gsm8k/1", "How many?", "6 * 3\n#### 18"), Problem("math/2", "Which?", "\\frac{1}{2}")]


def check(function: str, deadline_s: float = 5.0) -> str:
    async def run() -> str:
        pool = GraderPool(RewardConfig(function=function, workers=1, deadline_s=deadline_s))
        try:
            return await preflight(pool, PROBLEMS)
        finally:
            await pool.close()

    return asyncio.run(run())


def test_the_default_tells_right_from_wrong() -> None:
    report = check("math_answer")
    rows = [line for line in report.splitlines() if line.startswith(("gsm8k/1", "math/2"))]
    assert len(rows) == 10
    assert all(("correct" in r.split()) == ("right" in r) for r in rows)
    assert "ms each" in report


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 1 / 0", r"line 2, in f\n    return 1 / 0.*ZeroDivisionError"),
        ("return float('nan')", "returned nan"),
        ("return 0.25", "0.25 for every trial completion.*constant.*line 1 of .*bad.py"),
        ("return problem.metadata['level']", "KeyError: 'level'"),
        ("while True: pass", r"deadline_s = 0.5 s, and was at:\n  File \".*bad.py\", line 2 in f\n"),
        ("import time; time.sleep(60)", r"bad.py\", line 2 in f"),
    ],
)
def test_a_reward_that_cannot_teach_stops(
    body: str, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "bad.py"
    file.write_text(f"def f(problem, completion):\n    {body}\n")
    with pytest.raises(ValueError, match=f"(?s){says}"):
        check(f"{file}:f", 0.5)
    assert not caplog.records, "the traceback is in the error, once"


def test_what_waits_for_ever_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("import asyncio\nasync def f(problem, completion):\n    await asyncio.sleep(60)\n")
    with pytest.raises(ValueError, match=r"waiting for something:\n  .*bad.py:f \(defined at line 2 of"):
        check(f"{file}:f", 0.5)


def test_a_batch_of_the_wrong_length_stops(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def f(prompts, completions, **kwargs):\n    return [1.0]\n")
    with pytest.raises(ValueError, match=r"1 rewards for 5 completions.*line 1"):
        check(f"{file}:f")


def test_rewards_for_form_or_length_pass(tmp_path: Path) -> None:
    file = tmp_path / "form.py"
    file.write_text(
        "def tags(problem, completion): return '<answer>' in completion\ndef short(problem, completion): return -len(completion)"
    )
    assert "right, in tags" in check(f"{file}:tags")
    assert "wrong" in check(f"{file}:short")


def test_no_problem_is_said() -> None:
    async def run() -> None:
        pool = GraderPool(RewardConfig(workers=1))
        try:
            await preflight(pool, [])
        finally:
            await pool.close()

    with pytest.raises(ValueError, match="at least one problem"):
        asyncio.run(run())
