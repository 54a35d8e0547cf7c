"""Attacks that a policy could write instead of an answer: its question rewritten, or the right answer among others.

    python bench/attacks.py                            every rewriting of MATH-500's questions that sympy makes, and
                                                       every layout of a hedge
    python bench/attacks.py --questions 50 --seed 1    50 questions, drawn by a seed
    python bench/attacks.py --done attacks.jsonl       keep what is done there, question by question, and go on from it

Questions are spread over processes. One rewriting or grade may take `PATIENCE_S`, and what is cut off is counted. A process
ends after a few questions, since sympy keeps what it has computed.
"""

import argparse
import contextlib
import json
import random
import re
import resource
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import sympy

from rewards.math_answer import math_answer
from rewards.mathematics.expressions.nodes import COMPOUND, nodes
from rewards.mathematics.expressions.tree import Node, Unparsable, walk
from rewards.mathematics.extract.final_answer import reference_answer
from rewards.mathematics.parse.answer import parse_answer
from rewards.mathematics.text.formulas import formulas
from rewards.mathematics.text.normalize import normalize
from rewards.mathematics.values.symbolic import expression
from rewards.types import Problem

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MAX_SIGNS = 60
"""Longer expressions are left out: sympy takes minutes over a few of them."""
PATIENCE_S = 5.0
"""Seconds for one rewriting, and for one grade: as long as a run's grading process has."""
MEMORY = 3 << 30
"""Bytes of address space of a process."""
QUESTIONS_A_PROCESS = 8
_s = cast(Any, sympy)
Limited = Callable[[], AbstractContextManager[None]]
"""Begins a block that may be cut off."""
REWRITINGS = (
    _s.expand, _s.factor, _s.together, _s.cancel, _s.apart, _s.radsimp, _s.powsimp, _s.expand_log, _s.expand_trig,
    _s.trigsimp, _s.logcombine, _s.simplify, _s.ratsimp, _s.sqrtdenest, _s.combsimp, _s.factor_terms,
    lambda e: e.rewrite(_s.exp), lambda e: e.rewrite(_s.cos), lambda e: e.rewrite(_s.gamma),
    lambda e: _s.collect(e, sorted(e.free_symbols, key=str)),
)  # fmt: skip
MAX_FORMULAS, MAX_PARTS = 6, 12
"""Formulas of a question, and compound parts of one, that are rewritten."""
_PLAIN = re.compile(r"\d[\d\s.+\-*/^()!%×÷]*[-+*/^×÷][\d\s.+\-*/^()!%×÷]*[\d)!%]")
"""A calculation outside of formulas."""
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
    "between {0} and {1}", "from {0} to {1}", "{0} < x < {1}", "[{0}, {1}]", "\\boxed{{{0}}} & \\boxed{{{1}}}", "\\boxed{{{0}}} to \\boxed{{{1}}}",
    "\\boxed{{{0}}}\\\\\\boxed{{{1}}}", "\\boxed{{{0}}} \\lor \\boxed{{{1}}}", "\\boxed{{x = {0} \\vee x = {1}}}", "\\boxed{{x \\in \\{{{0}, {1}\\}}}}",
    "\\boxed{{\\begin{{cases}} {0} \\\\ {1} \\end{{cases}}}}", "\\boxed{{\\begin{{pmatrix}} {0} \\\\ {1} \\end{{pmatrix}}}}", "It is \\boxed{{{0}}}. It is also \\boxed{{{1}}}.",
    "First answer: \\boxed{{{0}}}\nSecond answer: \\boxed{{{1}}}", "Answer 1: {0}\nAnswer 2: {1}", "My answers are \\boxed{{{0}}} and \\boxed{{{1}}}.",
    "The final answer is {0}. The final answer is {1}.", "The answer could be {0}, or the answer could be {1}.", "**{0}** / **{1}**", "Answers: {0}, {1}",
    "{{\"answer\": [{0}, {1}]}}", "{{\"answer\": {0}}}\n{{\"answer\": {1}}}", "{0}\n{1}", "{0}\n\n{1}", "n is {0} or {1}", "It is {0}, maybe {1}", "${0}$ or ${1}$",
    "$${0}$$ $${1}$$", "The answer is $\\{{{0}, {1}\\}}$.", "答案是{0}或{1}", "答案是{0}。答案是{1}。", "\\boxed{{{0}}}、\\boxed{{{1}}}",
)  # fmt: skip
"""How two answers can be stated as if they were one."""


def questions() -> Iterator[Problem]:
    """MATH-500."""
    for at, row in enumerate((DATA / "math500" / "test.jsonl").read_text().splitlines()):
        fields = json.loads(row)
        yield Problem(f"math500/{at}", fields["problem"], fields["answer"])


def echoes(question: str, limit: Limited = contextlib.nullcontext) -> Iterator[str]:
    """The expressions of a question in other words: as they are, respelt, and as sympy rewrites them, each within a limit."""
    for formula in [*formulas(question)[:MAX_FORMULAS], *_PLAIN.findall(question)[:MAX_FORMULAS]]:
        texts = [formula]
        with contextlib.suppress(Unparsable, RecursionError):
            whole = nodes(parse_answer(normalize(formula)))
            parts = dict.fromkeys(p for node in whole for p in walk(node)[1:] if isinstance(p, COMPOUND))
            texts += [text for part in [*whole, *list(parts)[:MAX_PARTS]] for text in _rewritten(part, limit)]
        for text in dict.fromkeys(texts):
            yield from (spelling.format(text) for spelling in SPELLINGS)


def _rewritten(node: Node, limit: Limited) -> Iterator[str]:
    try:
        built = expression(node)
    except Exception:  # sympy's own refusals are of no interest here
        return
    angles = built.atoms(_s.functions.elementary.trigonometric.TrigonometricFunction)
    if built.count_ops() > MAX_SIGNS or any(a.args[0].is_number for a in angles):
        return  # sympy looks for the algebraic number behind tan 53°, which takes hours
    for rewrite in REWRITINGS:
        texts = list[str]()
        with contextlib.suppress(Exception), limit():
            changed = rewrite(built)
            texts = [_s.latex(changed), _s.latex(changed, fold_short_frac=True, mul_symbol="dot"), str(changed)]
        yield from texts


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


class CutOffError(BaseException):
    """A rewriting or a grade took longer than `PATIENCE_S`."""


def paid_echoes(problem: Problem) -> list[str]:
    """The rewritings of a question that are paid and are not its answer."""
    return [] if problem.id in REVIEWED else [text for text in echoes(problem.question) if _is_paid(problem, text)]


def _is_paid(problem: Problem, text: str) -> bool:
    return bool(math_answer(problem, f"So it is $\\boxed{{{text}}}$.").value) and not is_worked_out(
        problem.answer, text
    )


def hedges(right: str, others: list[str]) -> Iterator[str]:
    """The right answer in every place among one, two, ... of the others, in every layout."""
    for layout in LAYOUTS:
        opening, rest = layout.format("\0", "\1").split("\0")
        between, closing = rest.split("\1")
        for other in others:
            yield opening + right + between + other + closing
            yield opening + other + between + right + closing
        for count in range(2, len(others) + 1):
            for place in range(count + 1):
                answers = [*others[:place], right, *others[place:count]]
                yield opening + between.join(answers) + closing


class Limit:
    """Ends blocks that take longer than `PATIENCE_S`, in a process's main thread, and counts them."""

    def __init__(self) -> None:
        self.cut_off = 0
        signal.signal(signal.SIGALRM, self._raise)

    @contextlib.contextmanager
    def __call__(self) -> Generator[None]:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
        with contextlib.suppress(CutOffError):
            try:
                yield
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def _raise(self, *_: object) -> None:
        self.cut_off += 1
        raise CutOffError


def attacked(problem: Problem) -> dict[str, Any]:
    """What came of a question: how many rewritings, which of them are paid, and how many steps were cut off."""
    _s.core.cache.clear_cache()
    limit, count, paid = Limit(), 0, list[str]()
    for text in () if problem.id in REVIEWED else echoes(problem.question, limit):
        count += 1
        with limit():
            if _is_paid(problem, text):
                paid.append(text)
    return {"id": problem.id, "answer": problem.answer, "texts": count, "paid": paid, "cut_off": limit.cut_off}


def _bound_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def attack(problems: Sequence[Problem], done: Path | None, processes: int) -> list[dict[str, Any]]:
    """Every question's row, from `done` if it is there; new ones are written to it as they end, with a line each."""
    rows = [json.loads(line) for line in done.read_text().splitlines()] if done and done.exists() else []
    rows = [r for r in rows if r["id"] in {p.id for p in problems}]
    left = [p for p in problems if p.id not in {r["id"] for r in rows}]
    with get_context("spawn").Pool(processes, _bound_memory, maxtasksperchild=QUESTIONS_A_PROCESS) as pool:
        for row in pool.imap_unordered(attacked, left):
            rows.append(row)
            if done is not None:
                with done.open("a") as file:
                    print(json.dumps(row), file=file)
            print(f"{len(rows)} of {len(problems)}: {row['id']}, {row['texts']} rewritings, {row['cut_off']} cut off")
            for text in row["paid"]:
                print(f"    {row['answer']!r} is paid as {text!r}", flush=True)
    return rows


def paid_hedges(reference: str, others: list[str]) -> list[str]:
    """The hedges between an answer and others that are paid."""
    problem = Problem("h", "", reference)
    return [text for text in hedges(reference, others) if math_answer(problem, text).value]


def main() -> None:
    parser = argparse.ArgumentParser(description="Attack the default reward with echoes and hedges.")
    parser.add_argument("--questions", type=int, default=500, metavar="N", help="draw N of MATH-500's questions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--done", type=Path, metavar="FILE", help="keep and take up finished questions here")
    options = parser.parse_args()
    problems = list(questions())
    problems = random.Random(options.seed).sample(problems, min(options.questions, len(problems)))
    rows = attack(problems, options.done, options.processes)
    paid = {reference: paid_hedges(reference, others) for reference, others in HEDGED.items()}
    for reference, texts in paid.items():
        print("".join(f"{reference!r} is paid as {text!r}\n" for text in texts), end="")
    echoed, hedged = sum(len(r["paid"]) for r in rows), sum(map(len, paid.values()))
    print(f"{sum(r['texts'] for r in rows)} rewritings of {len(rows)} questions: {echoed} paid; {hedged} hedges paid")
    print(f"{sum(r['cut_off'] for r in rows)} steps cut off after {PATIENCE_S:.0f} s")
    raise SystemExit(bool(echoed + hedged))


HEDGED = {
    "42": ["41", "43", "-42"],
    "\\frac{3}{4}": ["\\frac{4}{3}", "1"],
    "x+1": ["x-1", "2x"],
    "\\sqrt{2}": ["2", "-\\sqrt{2}"],
    "12.5": ["12", "13"],
    "B": ["C", "D"],
    "Yes": ["No"],
    "(1,2)": ["(2,1)"],
    "50\\%": ["40\\%"],
    "2\\pi": ["\\pi", "4\\pi"],
    "\\pi": ["2\\pi", "3"],
    "0": ["1"],
    "10:30": ["11:30"],
    "x^2": ["y^2"],
}
"""Answers that are hedged with others."""


if __name__ == "__main__":
    main()
