"""Reward files of every accepted convention, and what is said about the ones that cannot work."""

import math
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rewards.config import RewardConfig, RewardTerm
from rewards.functions.call import score
from rewards.functions.convention import Convention
from rewards.functions.scores import RewardFunctionError, combine
from rewards.functions.term import load_term, load_terms, pack
from rewards.types import Outcome, Problem, Reward

PROBLEM = Problem("p1", "What is 2 + 3?", "5", {"level": 2, "data_source": "toy"})
TEXTS = ["The answer is 5", "no"]

CONVENTIONS = {
    "def f(problem, completion): return float(problem.answer in completion)": Convention.OURS,
    "async def f(problem, completion): return float(problem.answer in completion)": Convention.OURS,
    "def f(problems, completions): return [float(p.answer in c) for p, c in zip(problems, completions)]": Convention.OURS_BATCH,
    "def f(prompts, completions, **kwargs): return [float('5' in c) for c in completions]": Convention.TRL,
    "def f(completions, answer, level, **kwargs): return [float(a in c) for a, c in zip(answer, completions)]": Convention.TRL,
    "def f(completions, ground_truth): return [float(a in c) for a, c in zip(ground_truth, completions)]": Convention.TRL,
    "async def f(prompts, completions): return [float('5' in c) for c in completions]": Convention.TRL,
    "def f(completions: 'list[list[dict]]', **kw): return [float('5' in c[0]['content']) for c in completions]": Convention.TRL,
    "def f(data_source, solution_str, ground_truth, extra_info=None): return float(ground_truth in solution_str)": Convention.VERL,
    "def f(data_source, solution_str, ground_truth, extra_info):\n"
    "    assert (data_source, extra_info['level']) == ('toy', 2)\n"
    "    return {'score': float(ground_truth in solution_str), 'other': 1}": Convention.VERL,
    "def f(data_sources, solution_strs, ground_truths, extra_infos):\n"
    "    return [float(g in s) for s, g in zip(solution_strs, ground_truths)]": Convention.VERL_BATCH,
    "class F:\n    def __call__(self, problem, completion): return '5' in completion\nf = F()": Convention.OURS,
    "import numpy as np\ndef f(problems, completions): return np.array([float('5' in c) for c in completions])": Convention.OURS_BATCH,
}  # fmt: skip


def write(folder: Path, source: str, name: str = "my_rewards.py") -> str:
    file = folder / name
    file.write_text(source)
    return f"{file}:f"


@pytest.mark.parametrize("source", CONVENTIONS)
def test_every_convention_is_recognised_and_gives_the_same(source: str, tmp_path: Path) -> None:
    term = load_term(write(tmp_path, source))
    assert term.convention is CONVENTIONS[source]
    assert score(term, PROBLEM, TEXTS) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def f(a, b): return 0", "name its parameters"),
        ("def f(problem, completion, judge): return 0", "needs judge"),
        ("def g(problem, completion): return 0", "it defines: g"),
        ("f = 3", "no function 'f'"),
        ("def f(problem, completion)\n    return 0", "line 1"),
        ("import not_there_at_all\ndef f(problem, completion): return 0", "line 1: ModuleNotFoundError"),
        ("\n\nraise SystemExit('bye')", "line 3"),
    ],
)
def test_a_file_that_cannot_work_is_one_clear_line(source: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        load_term(write(tmp_path, source))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["nowhere.py:f", "math", "not_a_package_at_all:f", "my_rewards.py", ":f", "json:nothing"]
)
def test_a_name_that_leads_nowhere_is_one_clear_line(name: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        load_term(name)
    assert "\n" not in str(caught.value)


def test_a_module_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_rewards").mkdir()
    (tmp_path / "toy_rewards" / "__init__.py").write_text("")
    (tmp_path / "toy_rewards" / "scale.py").write_text("TOP = 2.0")
    (tmp_path / "toy_rewards" / "main.py").write_text(
        "from toy_rewards.scale import TOP\ndef f(problem, completion): return TOP * ('5' in completion)"
    )
    monkeypatch.chdir(tmp_path)
    term = load_term("toy_rewards.main:f")
    assert score(term, PROBLEM, TEXTS) == [2.0, 0.0]


def test_a_module_of_another_directory_is_not_taken_for_the_one_beside_a_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one_of_two.py").write_text(f"def worth(text): return {int(folder == 'a')}\n")
        (tmp_path / folder / f"{folder}.py").write_text(
            "from one_of_two import worth\ndef f(problem, completion): return worth(completion)\n"
        )
    load_term(f"{tmp_path}/a/a.py:f")
    with pytest.raises(ValueError, match=r"imports one_of_two, which is .*/a/one_of_two\.py already and not .*/b/"):
        load_term(f"{tmp_path}/b/b.py:f")


def test_a_function_travels_by_value_with_what_it_imports_from_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("import re\ndef helper(text): return len(re.findall('5', text))")
    name = write(tmp_path, "from beside_it import helper\ndef f(problem, completion): return helper(completion)")
    packed = pack(load_terms(RewardConfig(function=name)))
    for file in tmp_path.glob("*.py"):
        file.unlink()
    (tmp_path / "packed").write_bytes(packed)
    code = (
        "import pickle, sys; from pathlib import Path; from rewards.functions.call import score; from rewards.types import Problem\n"
        f"(term,) = pickle.loads(Path({str(tmp_path / 'packed')!r}).read_bytes())\n"
        "print(score(term, Problem('p', '', '5'), ['5 5', '']))\n"
        "print([m for m in ('torch', 'ray', 'vllm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[2.0, 0.0]", "[]"]


def test_threads_that_pack_the_same_module_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "shared_by_runs.py"
    path.write_text("class Answer:\n    value = 1\n\ndef reward(problem, completion):\n    return Answer.value\n")
    terms = load_terms(RewardConfig(terms=[RewardTerm(function=f"{path}:reward")]))
    with ThreadPoolExecutor(8) as threads:
        packed = set(threads.map(lambda _: pack(terms), range(400)))
    assert len(packed) == 1
    assert b"shared_by_runs.py" in packed.pop()  # the code itself, and not its module's name alone


def test_what_cannot_travel_is_said(tmp_path: Path) -> None:
    name = write(
        tmp_path, "import threading\nLOCK = threading.Lock()\ndef f(problem, completion):\n    with LOCK: return 0"
    )
    with pytest.raises(ValueError, match="module globals"):
        pack(load_terms(RewardConfig(function=name)))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return float('nan')", "returned nan"), ("return -1e31", "returned -1e\\+31, and a reward is at most 1e\\+30"), ("return float('inf')", "returned inf"), ("return 'good'", "returned str"),
        ("return [1, 2]", "returned list"), ("return {'points': 1}", "without 'score'"), ("return 1 / 0", "line 2.*\n.*ZeroDivisionError"),
        ("raise SystemExit", "SystemExit"),
        ("from rewards.types import Outcome, Reward; return Reward(float('nan'), Outcome.CORRECT)", "returned nan"),
    ],
)  # fmt: skip
def test_what_a_function_does_wrong_is_said_with_its_line(body: str, says: str, tmp_path: Path) -> None:
    term = load_term(write(tmp_path, f"def f(problem, completion):\n    {body}"))
    with pytest.raises(RewardFunctionError, match=f"(?s){says}") as caught:
        score(term, PROBLEM, TEXTS)
    assert not re.search(r"call.py|arguments.py|scores.py", str(caught.value))


def test_a_batch_of_the_wrong_length_and_a_missing_column_are_said(tmp_path: Path) -> None:
    with pytest.raises(RewardFunctionError, match="3 rewards for 2"):
        score(load_term(write(tmp_path, "def f(prompts, completions): return [0, 0, 0]")), PROBLEM, TEXTS)
    with pytest.raises(RewardFunctionError, match=r"column 'difficulty'; the data has: .*level"):
        score(load_term(write(tmp_path, "def f(completions, difficulty): return [0, 0]")), PROBLEM, TEXTS)


def test_terms_add_up_with_their_weights_and_none_is_left_out(tmp_path: Path) -> None:
    length = write(tmp_path, "def f(prompts, completions): return [None if len(c) < 5 else 0.5 for c in completions]")
    terms = load_terms(
        RewardConfig(terms=(RewardTerm(function="math_answer"), RewardTerm(function=length, weight=0.2)))
    )
    scores = [score(t, PROBLEM, TEXTS) for t in terms]
    assert combine(terms, [s[0] for s in scores]) == Reward(1.1, Outcome.CORRECT)
    assert combine(terms, [s[1] for s in scores]) == Reward(0.0, Outcome.WRONG)
    alone = combine(terms[1:], [None])
    assert (alone.outcome, alone.is_valid) == (Outcome.NOT_APPLICABLE, False)


def test_the_examples_work() -> None:
    folder = Path(__file__).parents[3] / "examples" / "rewards"
    problem = Problem("p", "2 + 3?", "5")
    texts = ["The answer is \\boxed{5}", "<answer>5</answer>", "6"]
    assert [math.ceil(s) for s in numbers(folder / "brevity.py", "brevity", problem, texts)] == [1, 1, 0]
    assert numbers(folder / "trl_format.py", "has_tags", problem, texts) == [0.0, 0.5, 0.0]
    assert numbers(folder / "trl_format.py", "same_text", problem, [*texts, "so 5"]) == [0.0, 0.0, 0.0, 1.0]
    assert numbers(folder / "verl_score.py", "compute_score", problem, texts) == [1.0, 0.0, 0.0]


def numbers(file: Path, name: str, problem: Problem, texts: list[str]) -> list[Any]:
    return score(load_term(f"{file}:{name}"), problem, texts)


def test_the_default_is_the_built_in() -> None:
    (term,) = pickle.loads(pack(load_terms(RewardConfig())))
    assert term.is_built_in
    assert not term.is_grouped


# Written as the users of the other trainers write them, and without a word for this one.
TRL_FILE = r"""
import re

def _text(completion):
    return completion if isinstance(completion, str) else completion[0]["content"]

def length(completions, **kwargs):
    return [-abs(20 - len(completion)) / 20 for completion in completions]

def chat_format(completions, **kwargs):
    pattern = r"^<think>.*?</think>\s*<answer>.*?</answer>$"
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.match(pattern, content, re.DOTALL) else 0.0 for content in contents]

def chat_accuracy(prompts, completions, solution, **kwargs):
    assert prompts[0][-1]["role"] == "user" and "2 + 3" in prompts[0][-1]["content"]
    return [2.0 if c[0]["content"].endswith(s) else 0.0 for c, s in zip(completions, solution)]

def text_accuracy(completions, ground_truth, **kwargs):
    found = [re.search(r"\\boxed\{(.*?)\}", completion) for completion in completions]
    return [1.0 if m and m.group(1) == g else 0.0 for m, g in zip(found, ground_truth)]

def either_kind(completions, answer, **kwargs):
    return [float(a in _text(c)) for c, a in zip(completions, answer)]

def from_the_columns(completions, **kwargs):
    return [float(s in c) for c, s in zip(completions, kwargs["solution"])]

def one_task_only(prompts, completions, data_source, **kwargs):
    return [1.0 if d == "toy" else None for d in data_source]

def scaled(weight):
    def inner(completions, **kwargs):
        return [weight * ("5" in c[-1]["content"]) for c in completions]
    return inner

made = scaled(0.5)

async def judged(prompts, completions, **kwargs):
    return [float("5" in c) for c in completions]
"""
TRL_TEXTS = ["<think>2 + 3</think> <answer>5</answer>", "\\boxed{5}", "it is 5", "6"]
TRL_WANT = {
    "chat_format": [1, 0, 0, 0], "chat_accuracy": [0, 0, 2, 0], "text_accuracy": [0, 1, 0, 0], "either_kind": [1, 1, 1, 0],
    "from_the_columns": [1, 1, 1, 0], "one_task_only": [1, 1, 1, 1], "made": [0.5, 0.5, 0.5, 0], "judged": [1, 1, 1, 0],
    "length": [-0.95, -0.55, -0.65, -0.95],
}  # fmt: skip
VERL_FILE = r"""
import re

def extract_solution(solution_str, method="strict"):
    found = re.findall(r"#### (\-?[0-9\.\,]+)", solution_str)
    return found[-1].replace(",", "") if found else None

def compute_score(data_source, solution_str, ground_truth, extra_info=None, method="strict", format_score=0.1, score=1.0):
    if data_source not in ("openai/gsm8k", "toy"):
        raise NotImplementedError(data_source)
    answer = extract_solution(solution_str, method)
    return 0 if answer is None else score if answer == ground_truth else format_score

def as_dict(data_source, solution_str, ground_truth, extra_info=None, **kwargs) -> dict:
    return {"score": float(solution_str == f"#### {ground_truth}"), "acc": True, "level": extra_info["level"]}

def with_extras(data_source, solution_str, ground_truth, extra_info):
    return float(ground_truth in solution_str), {"seen": 1}

def batched(data_sources, solution_strs, ground_truths, extra_infos, **kwargs):
    return [compute_score(*row) for row in zip(data_sources, solution_strs, ground_truths, extra_infos, strict=True)]

async def judged(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": float(ground_truth in solution_str)}
"""
VERL_TEXTS = ["2 + 3 = 5\n#### 5", "#### 5", "#### 6", "no 5 here"]
VERL_WANT = {
    "compute_score": [1, 1, 0.1, 0], "as_dict": [0, 1, 0, 0], "with_extras": [1, 1, 0, 1], "batched": [1, 1, 0.1, 0],
    "judged": [1, 1, 0, 1],
}  # fmt: skip


@pytest.mark.parametrize("name", TRL_WANT)
def test_a_trl_users_file_works_unchanged(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TRL_FILE)
    (term,) = pickle.loads(pack(load_terms(RewardConfig(function=f"{tmp_path}/mine.py:{name}"))))
    assert score(term, PROBLEM, TRL_TEXTS) == pytest.approx(TRL_WANT[name])


@pytest.mark.parametrize("name", VERL_WANT)
def test_a_verl_users_file_works_unchanged(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(VERL_FILE)
    (term,) = pickle.loads(pack(load_terms(RewardConfig(function=f"{tmp_path}/mine.py:{name}"))))
    assert score(term, PROBLEM, VERL_TEXTS) == pytest.approx(VERL_WANT[name])


def test_a_function_of_token_ids_is_told_what_to_take(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="let it take completions"):
        load_term(write(tmp_path, "def f(completion_ids, **kwargs): return [len(c) for c in completion_ids]"))
