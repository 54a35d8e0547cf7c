"""Attacks that a policy could write instead of an answer: its question rewritten, or the right answer among others.

    python bench/attacks.py      every rewriting of MATH-500's questions that sympy makes, and every layout of a hedge

The tests take a part of both; the whole is for a quarter of an hour of one core.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import sympy

from rewards.answer import parse_answer
from rewards.expression import Node, Unparsable
from rewards.extract import formulas, reference_answer
from rewards.math_answer import math_answer
from rewards.nodes import nodes
from rewards.normalize import normalize
from rewards.symbolic import expression
from rewards.types import Problem

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MAX_SIGNS = 60
"""Longer expressions are left out: sympy takes minutes over a few of them."""
_s = cast(Any, sympy)
REWRITINGS = (
    _s.expand, _s.factor, _s.together, _s.cancel, _s.apart, _s.radsimp, _s.powsimp, _s.expand_log, _s.expand_trig,
    _s.trigsimp, _s.logcombine, _s.simplify,
)  # fmt: skip
SPELLINGS = (
    "{}",
    "{}+0",
    "({})^1",
    "1 \\cdot ({})",
    "\\frac{{{}}}{{1}}",
    "{}\\cdot e^0",
    "x = {}",
    "({})\\frac{{t}}{{t}}",
)
"""Ways to write an expression that change nothing of it."""
LAYOUTS = (
    "\\boxed{{{0}}} or \\boxed{{{1}}}", "\\boxed{{{0}}}, \\boxed{{{1}}}", "$\\boxed{{{0}}}$\n\n$\\boxed{{{1}}}$", "\\boxed{{{0}}} \\boxed{{{1}}}",
    "\\[\\boxed{{{0}}} \\quad \\text{{or}} \\quad \\boxed{{{1}}}\\]", "\\(\\boxed{{{0}}}\\) and perhaps \\(\\boxed{{{1}}}\\)",
    "(a) \\boxed{{{0}}} (b) \\boxed{{{1}}}", "1. \\boxed{{{0}}}\n2. \\boxed{{{1}}}", "\\boxed{{{0}}}; alternatively \\boxed{{{1}}}", "\\boxed{{{0}}} / \\boxed{{{1}}}",
    "\\boxed{{{0} \\text{{ or }} {1}}}", "\\boxed{{{0}, {1}}}", "\\boxed{{\\{{{0}, {1}\\}}}}", "\\boxed{{({0}, {1})}}", "\\boxed{{{0} | {1}}}", "\\boxed{{{0}; {1}}}",
    "The answer is {0} or {1}.", "The answer is {0}. The answer is {1}.", "Answer: {0}\nAnswer: {1}", "#### {0}\n#### {1}", "#### {0} or {1}",
    "<answer>{0}</answer> or <answer>{1}</answer>", "<answer>{0}</answer>\n<answer>{1}</answer>", "<answer>{0}, {1}</answer>", "**{0}** or **{1}**", "**{0}**\n**{1}**",
    "x = {0}\nx = {1}", "{0} or {1}", "{0}, {1}", "{0} {1}", "Either {0} or {1}.", "It is {0}; {1}", "Option 1: {0}\nOption 2: {1}", "(A) {0} (B) {1}", "- {0}\n- {1}",
    "between {0} and {1}", "from {0} to {1}", "{0} < x < {1}", "[{0}, {1}]",
)  # fmt: skip
"""How two answers can be stated as if they were one."""


def questions() -> Iterator[Problem]:
    """MATH-500."""
    for at, row in enumerate((DATA / "math500" / "test.jsonl").read_text().splitlines()):
        fields = json.loads(row)
        yield Problem(f"math500/{at}", fields["problem"], fields["answer"])


def echoes(question: str) -> Iterator[str]:
    """The expressions of a question in other words: as they are, respelt, and as sympy rewrites them."""
    for formula in formulas(question)[:6]:
        texts = [formula]
        with contextlib.suppress(Unparsable, RecursionError):
            texts += [text for node in nodes(parse_answer(normalize(formula))) for text in _rewritten(node)]
        for text in dict.fromkeys(texts):
            yield from (spelling.format(text) for spelling in SPELLINGS)


def _rewritten(node: Node) -> Iterator[str]:
    try:
        built = expression(node)
    except Exception:  # sympy's own refusals are of no interest here
        return
    angles = built.atoms(_s.functions.elementary.trigonometric.TrigonometricFunction)
    if built.count_ops() > MAX_SIGNS or any(a.args[0].is_number for a in angles):
        return  # sympy looks for the algebraic number behind tan 53°, which takes hours
    for rewrite in REWRITINGS:
        with contextlib.suppress(Exception):
            changed = rewrite(built)
            yield from (_s.latex(changed), _s.latex(changed, fold_short_frac=True, mul_symbol="dot"), str(changed))


def is_worked_out(reference: str, text: str) -> bool:
    """Return True if a rewriting is the reference itself: the same numeral, or the same expression to sympy, which collects
    terms and multiplies numbers, but neither expands nor factors."""
    expected, given = normalize(reference_answer(reference)), normalize(text)
    if expected.replace(" ", "") == given.replace(" ", ""):
        return True
    if re.fullmatch(r"[-\d.,]+", expected):
        return re.fullmatch(r"(?:x ?= ?)?[-\d.,]+", given) is not None
    try:
        left, right = (nodes(parse_answer(t)) for t in (expected, given))
        return [expression(n) for n in left] == [expression(n) for n in right]
    except Exception:
        return False


REVIEWED = {"math500/74", "math500/204", "math500/480"}
"""Questions of which sympy finds the answer in another spelling (1/tan x for cot x), or of which a side of an equation
happens to be the answer (a + b + c + d = 0)."""


def paid_echoes(problem: Problem) -> list[str]:
    """The rewritings of a question that are paid and are not its answer."""
    if problem.id in REVIEWED:
        return []
    return [
        text
        for text in echoes(problem.question)
        if math_answer(problem, f"So it is $\\boxed{{{text}}}$.").value and not is_worked_out(problem.answer, text)
    ]


def hedges(right: str, others: list[str]) -> Iterator[str]:
    """The right answer among others, in every layout and every order."""
    for layout in LAYOUTS:
        for other in others:
            yield layout.format(right, other)
            yield layout.format(other, right)
        if len(others) > 1:
            yield layout.format(layout.format(others[0], right), others[1]) if "\\boxed{{{0}" not in layout else ""


def main() -> None:
    for problem in questions():
        for text in paid_echoes(problem):
            print(f"{problem.id}: {problem.answer!r} is paid as {text!r}", flush=True)
    for reference, others in HEDGED.items():
        for text in hedges(reference, others):
            if math_answer(Problem("h", "", reference), text).value:
                print(f"{reference!r} is paid as {text!r}")


HEDGED = {
    "42": ["41", "43", "-42"],
    "\\frac{3}{4}": ["\\frac{4}{3}", "1"],
    "x+1": ["x-1", "2x"],
    "\\sqrt{2}": ["2", "-\\sqrt{2}"],
    "12.5": ["12", "13"],
}
"""Answers that are hedged with others."""


if __name__ == "__main__":
    main()
