"""Generated texts for the grader: none may raise, hang or write."""

import os
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from grader_cases import cases

from rewards.config import RewardConfig
from rewards.grading.pool import GraderPool
from rewards.types import Outcome, Problem

PIECES = [
    '0', '1', '2', '7', '18', '3.5', '.5', '1,000', 'x', 'y', 'e', 'i', 'n', 'π', '∞', '+', '-', '*', '/', '^', '_', '!', '%',
    '=', '<', '≤', '≠', '(', ')', '[', ']', '{', '}', '|', ',', ';', ':', '.', '$', '$$', '\\{', '\\}', '\\frac', '\\sqrt',
    '\\boxed{', '\\text{', '\\left', '\\right', '\\pm', '\\cup', '\\in', '\\sin', '\\log', '\\infty', '\\pi', '\\cdot',
    '\\begin{pmatrix}', '\\end{pmatrix}', '&', '\\\\', '\\circ', '\\overline{', '\\binom', '\\sum', '\\int', 'dollars', 'and',
    'or', 'answer', 'is:', '####', '**', '½', '²', '√', '…', 'not', '10', '99', '2004!', '9^9',
    "__import__('os').system('touch\xa0x')", 'eval(', '<think>', '</think>', '<answer>', '</answer>', '\\(', '\\)', '\n', '\x00',
    'é', '数', 'f(', 'g(x)', '\\sigma(', '\\phi(2)', 'f^{-1}(', 'n!', '\\binom{n}{2}', '\\setminus', '\\equiv', '\\pmod{5}',
    '\\begin{cases}', '\\end{cases}', '\\mathbb{R}', '\\boxed{1}', '\\boxed{2},\\ \\boxed{3}', '\\text{ for all }', '25个',
    '^\\circ', '_2', '} or \\boxed{', '\\{1,2\\}', '(1,2)', '\\max', 'dozen', 'thousand', 'x < ', 'at least', 'not ', '<del>',
    '</del>', '~~', '42', 'The final ', '\\iff', '?', '∨', '选', '是', '(approximately)',
    'max at ', 'C(n,2)', '3,75', '63° 45\'', '\\begin{array}{l}', '\\end{array}', 'June 20', 'There are 42 ways to ', ' ft by ', '_{n+1}', 'third', 'A: ',
    ']0,1[', '万', '/-', 'maybe ', '\\begin{bmatrix}1\\\\2\\end{bmatrix}', 'c_1', 'Solution is: ',
]  # fmt: skip
FRAMES = (
    "{}", "\\boxed{{{}}}", "The answer is {}", "#### {}", "**{}**", "x < \\boxed{{{}}}", "\\boxed{{{}}} dozen", "<answer>{}</answer>",
    "\\boxed{{1}} and \\boxed{{{}}}", "{}\n\\boxed{{2}}",
)  # fmt: skip
QUESTIONS = (
    "", "", "How many apples are left?", "Simplify $\\frac{6}{8}$.", "Write 45600 in scientific notation.",
    "Factor $x^2+5x+6$.", "What percent is it?", "Solve $f(x+y) = f(x) + f(y)$ for $x > 0$.",
)  # fmt: skip


def fuzzed(rng: random.Random, seeds: Sequence[str]) -> str:
    """A text of the grammar's pieces, a damaged real answer, or noise."""
    choice = rng.random()
    if choice < 0.5:
        return rng.choice(("", " ")).join(rng.choices(PIECES, k=rng.randint(1, 40)))
    if choice < 0.9:
        text = list(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            text.insert(rng.randint(0, len(text)), rng.choice(PIECES))
        return "".join(text)
    return "".join(chr(rng.choice((rng.randint(0, 127), rng.randint(0, 0x2FFF)))) for _ in range(rng.randint(0, 200)))


async def fuzz(count: int, workers: int, seed: int) -> int:
    """Grades generated pairs; returns how many crashed or passed the deadline, or 1 if anything was written."""
    rng = random.Random(seed)
    seeds = [c.answer for c in cases(50) if len(c.answer) < 500]
    counted: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        pool = GraderPool(RewardConfig(workers=workers))
        try:
            for start in range(0, count, 2_000):
                size = min(2_000, count - start)
                answers = [rng.choice(seeds) if rng.random() < 0.5 else fuzzed(rng, seeds) for _ in range(size)]
                problems = [Problem(str(i), rng.choice(QUESTIONS), a) for i, a in enumerate(answers)]
                texts = [[rng.choice(FRAMES).format(fuzzed(rng, seeds))] for _ in range(size)]
                for problem, group, text in zip(problems, await pool.grade_timed(problems, texts), texts, strict=True):
                    counted[group[0][0].outcome.value] += 1
                    slowest = max(slowest, group[0][1])
                    if group[0][0].outcome in (Outcome.TIMEOUT, Outcome.CRASHED):
                        print(f"{group[0][0].outcome}: {problem.answer!r} and {text[0]!r}")
        finally:
            await pool.close()
        written = [p.name for p in Path(folder).iterdir()]
        os.chdir("/")
    print(f"{count} texts: {dict(counted)}; slowest {slowest:.2f} s; files written: {written or 'none'}")
    return counted["timeout"] + counted["crashed"] + len(written)
