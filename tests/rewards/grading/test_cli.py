"""`rankone grade` and `rankone reward try`, run as a user runs them."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
APP = """
import typer
from rl.cli.reward_commands import grade_command, reward_try_command
app, reward = typer.Typer(), typer.Typer()
app.command("grade")(grade_command)
reward.command("try")(reward_try_command)
app.add_typer(reward, name="reward")
app()
"""


def rankone(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", APP, *arguments]
    return subprocess.run(command, input=given, capture_output=True, cwd=ROOT, timeout=120, check=False)


def test_grading_keeps_every_good_line_in_order_and_names_the_bad_ones() -> None:
    lines = [
        b'{"answer": "18", "completion": "#### 18", "mine": [1, "\xc3\xa4"]}', b"{broken", b'{"answer": 18, "completion": "\\\\boxed{19}"}', b"",
        b"[1, 2]", b'{"completion": "5"}', b'{"answer": "5", "completion": 5}', b"\xff\xfe", b'{"answer": 18.0, "completion": "18"}',
        b'{"answer": "60", "completion": "60%", "question": "What percent?"}',
    ]  # fmt: skip
    done = rankone("grade", given=b"\n".join(lines))
    assert done.returncode == 2
    rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [(r["value"], r["outcome"]) for r in rows] == [(1, "correct"), (0, "wrong"), (1, "correct"), (1, "correct")]
    assert rows[0]["mine"] == [1, "ä"]
    assert all(r["seconds"] >= 0 for r in rows)
    said = done.stderr.decode()
    assert [n for n in range(1, 11) if f"line {n}: " in said] == [2, 5, 6, 7, 8]
    assert "4 graded (3 correct, 1 wrong), 5 malformed" in said
    assert "\x1b" not in said, "no progress bar away from a terminal"


def test_good_input_exits_with_0_and_reads_a_file(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"answer": "1/2", "completion": "The answer is 0.5"}\n')
    done = rankone("grade", str(file))
    assert (done.returncode, json.loads(done.stdout)["value"]) == (0, 1.0)


@pytest.mark.parametrize(
    "arguments", [("grade", "nowhere.jsonl"), ("grade", "--function", "nowhere.py:f"), ("grade", "--deadline", "-1")]
)
def test_a_users_mistake_is_one_line_and_status_2(arguments: tuple[str, ...]) -> None:
    done = rankone(*arguments)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("rankone: ")
    assert done.stderr.count(b"\n") == 1


def test_a_long_stream_is_graded_at_constant_memory(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    line = json.dumps({"answer": "18", "completion": "so\n#### 18", "notes": "x" * 100_000}) + "\n"
    with file.open("w") as out:
        for _ in range(4_000):
            out.write(line)
        out.write('{"answer": "18", "completion": "' + "x" * (17 * 2**20) + '"}\n')
        out.write(line)
    complaints = tmp_path / "complaints"
    with complaints.open("wb") as err:
        command = [sys.executable, "-c", APP, "grade", str(file)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err, cwd=ROOT)
        peak_kib = 0
        while process.poll() is None:
            # Not rusage: its maximum starts from the memory of the process that forked.
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak_kib = max(peak_kib, *map(int, re.findall(r"VmHWM:\s+(\d+)", status)), 0)
            time.sleep(0.05)
    assert process.returncode == 2
    assert b"line 4001: longer than 16 MiB" in complaints.read_bytes()
    assert b"4001 graded" in complaints.read_bytes()
    assert 0 < peak_kib < 300 * 1024, "the file alone is 400 MB"


def test_progress_goes_to_the_terminal_and_the_lines_do_not(tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text(
        '{"answer": "1", "completion": "1"}\n' * 1_000 + "{broken\n" + '{"answer": "1", "completion": "1"}\n' * 1_000
    )
    ours, theirs = pty.openpty()
    with out.open("wb") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-c", APP, "grade", str(file)], stdout=stdout, stderr=theirs, cwd=ROOT
        )
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal's other end is closed
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
    assert process.wait(60) == 2
    assert b"graded 2,001" in shown
    assert b"100%" in shown, "of a file it is known how much there is"
    assert b"\x1b[2Kline 1001: not JSON" in shown, "on a line of its own, not behind the bar"
    assert b"2000 graded" in shown
    assert b"completion" not in shown
    assert out.read_bytes().count(b"\n") == 2_000


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"answer": "1", "completion": "1"}\n' * 20_000)
    app = tmp_path / "app.py"
    app.write_text(APP)
    shell = f"PYTHONPATH={ROOT} {sys.executable} {app} grade {file} | head -n 1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, timeout=120, check=False)
    assert done.stdout.count(b"\n") == 1
    assert b"Traceback" not in done.stderr


def test_a_reward_is_tried_without_a_model(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(
        '{"question": "6 * 3?", "answer": "18"}\n\n{"question": "?", "answer": "5", "completion": "It is 5"}\n \n'
    )
    done = rankone("reward", "try", f"{ROOT}/examples/rewards/brevity.py:brevity", "--data", str(data))
    assert done.returncode == 0, done.stderr
    assert b"right, long" in done.stdout
    assert b"...It is 5" in done.stdout


def test_trying_a_broken_reward_shows_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f(problem, completion):\n    return 1 / 0\n")
    (tmp_path / "data.jsonl").write_text('{"question": "6 * 3?", "answer": "18"}\n')
    done = rankone("reward", "try", f"{tmp_path}/bad.py:f", "--data", f"{tmp_path}/data.jsonl")
    assert done.returncode == 2
    assert done.stderr.count(b'bad.py", line 2, in f') == 1
    assert b"worker.py" not in done.stderr


def test_a_row_that_crashes_the_reward_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f(problem, completion):\n    return 1 / (len(completion) - 4)\n")
    (tmp_path / "data.jsonl").write_text('{"question": "6 * 3?", "answer": "18", "completion": "four"}\n')
    done = rankone("reward", "try", f"{tmp_path}/bad.py:f", "--data", f"{tmp_path}/data.jsonl")
    assert done.returncode == 2
    assert b"crashed" in done.stdout
    assert b"failed on 1 of the rows' own completions" in done.stderr


def test_trying_on_broken_data_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "6 * 3?", "answer": "18"}\n{"question": 1}\n')
    done = rankone("reward", "try", "math_answer", "--data", f"{tmp_path}/data.jsonl")
    assert done.returncode == 2
    assert b"line 2: 'answer' is missing" in done.stderr
