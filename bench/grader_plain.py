"""How the grader reads texts that mark no answer: people's own solutions, and sentences about something else.

    python bench/grader_plain.py

GSM8K's worked solutions without their ``####``, and those of MATH-500 without their boxes, answer their questions; the last
sentence of another problem's solution answers nothing, even if its number is the right one.
"""

import json
import re
from collections.abc import Iterator

from grader_cases import DATA

from rewards.math_answer import math_answer
from rewards.types import Problem


def gsm8k() -> list[tuple[Problem, str]]:
    """Problems, each with its worked solution."""
    rows = [json.loads(r) for r in (DATA / "gsm8k" / "test.jsonl").read_text().splitlines()]
    halves = [(r["question"], *r["answer"].split("####")) for r in rows]
    return [
        (Problem(str(at), question, answer.strip().replace(",", "")), solution.strip())
        for at, (question, solution, answer) in enumerate(halves)
    ]


def others() -> Iterator[tuple[Problem, str]]:
    """The last sentence of another problem's solution, for a problem whose answer happens to be its number."""
    pairs = gsm8k()
    for at, (problem, solution) in enumerate(pairs):
        question = pairs[(at * 7 + 13) % len(pairs)][0].question
        yield Problem(problem.id, question, problem.answer), re.sub(r"<<.*?>>", "", solution.splitlines()[-1])


def math500() -> Iterator[tuple[Problem, str]]:
    for row in (DATA / "math500" / "test.jsonl").read_text().splitlines():
        fields = json.loads(row)
        yield Problem("", fields["problem"], fields["answer"]), unboxed(fields["solution"])


def unboxed(text: str) -> str:
    """The text with the contents of its boxes in their place."""
    while (start := text.find("\\boxed{")) >= 0:
        depth, end = 0, start + 6
        for end in range(start + 6, len(text)):
            depth += (text[end] == "{") - (text[end] == "}")
            if depth == 0:
                break
        text = text[:start] + text[start + 7 : end] + text[end + 1 :]
    return text


def main() -> None:
    for name, pairs in (
        ("GSM8K's solutions", gsm8k()),
        ("last sentences of other solutions", list(others())),
        ("MATH-500's solutions", list(math500())),
    ):
        paid = sum(math_answer(problem, text).value == 1 for problem, text in pairs)
        print(f"{name}: {paid} of {len(pairs)} paid")


if __name__ == "__main__":
    main()
