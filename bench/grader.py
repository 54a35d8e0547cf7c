"""How right and how fast the default reward is, beside `math-verify` alone on the same cases in one run.

    python bench/grader.py                 the table, from the data under ../shared/data
    python bench/grader.py --fuzz 100000   generated texts: none may crash, hang or write

Cases are the data sets' own answers, written in other ways (which must pass) and as near misses (which must not), each as
``The answer is \\boxed{...}``; and cases from formulas (`independent`), as models write them. Both graders run in the same
killable processes with the same deadline; `math-verify` keeps its own time-outs. How a case was made decides what is equal,
not either grader.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from independent import drawn_cases

from rewards.config import RewardConfig
from rewards.math_answer import unreadable
from rewards.pool import GraderPool
from rewards.types import Outcome, Problem, Reward

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DEADLINE_S = 12.0
"""Past math-verify's own time-outs of 5 s for parsing and 5 s for comparing."""


@dataclass(frozen=True, slots=True)
class Case:
    """A reference, an answer to it, and whether that is right."""

    kind: str
    reference: str
    answer: str
    right: bool
    question: str = ""
    completion: str = ""
    """The whole text, where the answer does not simply stand in a box."""

    @property
    def text(self) -> str:
        return self.completion or f"The answer is \\boxed{{{self.answer}}}"


def math_verify_alone(problem: Problem, completion: str) -> Reward:
    """`math-verify` as its documentation uses it."""
    import math_verify

    library = cast(Any, math_verify)
    reference = library.parse(f"\\boxed{{{problem.answer}}}")
    right = bool(library.verify(reference, library.parse(completion)))
    return Reward(float(right), Outcome.CORRECT if right else Outcome.WRONG)


# Cases from the data sets


def gsm8k(count: int) -> Iterator[Case]:
    rows = (DATA / "gsm8k" / "test.jsonl").read_text().splitlines()[:count]
    for row in rows:
        answer = json.loads(row)["answer"].split("####")[1].strip().replace(",", "")
        yield from _integer("gsm8k", int(answer))


def math500() -> Iterator[Case]:
    answers = [json.loads(r)["answer"] for r in (DATA / "math500" / "test.jsonl").read_text().splitlines()]
    for at, answer in enumerate(answers):
        yield Case("math500", answer, answer, True)
        yield Case("math500", answer, _respelt(answer), True)
        yield from _of_shape(answer)
        yield from _digit_changed(answer)
        other = answers[(at * 7 + 3) % len(answers)]
        if not _digits(other) or _digits(other) != _digits(answer):
            yield Case("math500", answer, other, False)


def public() -> Iterator[Case]:
    """Cases of public graders' bug reports and of attacks, with their right verdicts."""
    for row in (DATA / "grader" / "cases.jsonl").read_text().splitlines():
        case = json.loads(row)
        yield Case("public cases", case["answer"], "", case["correct"], case.get("question", ""), case["completion"])


def references() -> Iterator[Case]:
    """The readable references of ASDiv and college_math: each answers its question, and that of another row does not."""
    for name in ("asdiv", "college_math"):
        rows = [json.loads(r) for r in (DATA / "references" / f"{name}.jsonl").read_text().splitlines()]
        readable = [r for r in rows if unreadable(r["answer"]) is None]
        for at, row in enumerate(readable):
            yield Case(name, row["answer"], _undressed(row["answer"]), True, row["question"])
            other = readable[(at * 7 + 3) % len(readable)]["answer"]
            if (
                _digits(other) != _digits(row["answer"])
                and all(map(_digits, (other, row["answer"])))
                and "=" not in other
            ):
                yield Case(name, row["answer"], _undressed(other), False, row["question"])


def _undressed(answer: str) -> str:
    """An answer as it would stand in a box: without the dollar signs around it, and without what is in brackets behind."""
    answer = re.sub(r"^([\d.,/]+) ?\([A-Za-z][^()]*\)$", r"\1", answer.strip())
    return answer[1:-1] if answer.count("$") == 2 and answer[0] == answer[-1] == "$" else answer


def independent() -> Iterator[Case]:
    """Cases from formulas, in the frames that models write, drawn with a fixed seed."""
    for _, question, reference, answer, completion, right in drawn_cases():
        yield Case("independent", reference, answer, right, question, completion)


def _digits(answer: str) -> str:
    return re.sub(r"\D", "", answer)


def _respelt(answer: str) -> str:
    """Other commands and spaces for the same."""
    answer = re.sub(r",\\! ?", "", answer)
    for old, new in (
        ("\\frac", "\\dfrac"),
        ("\\left", ""),
        ("\\right", ""),
        (", ", ","),
        ("pmatrix", "bmatrix"),
        ("\\!", ""),
    ):
        answer = answer.replace(old, new)
    return f" {answer} "


def _of_shape(answer: str) -> Iterator[Case]:
    if re.fullmatch(r"-?\d+", answer):
        yield from _integer("math500", int(answer))
    elif (fraction := re.fullmatch(r"(-?)\\d?frac ?\{?(\d+?)\}? ?\{?(\d+)\}?", answer)) is not None:
        yield from _fraction(answer, int(fraction[1] + fraction[2]), int(fraction[3]))
    elif (root := re.fullmatch(r"(\d+) ?\\sqrt\{?(\d+)\}?", answer)) is not None:
        yield from _radical(answer, int(root[1]), int(root[2]))
    elif (
        answer.startswith(("(", "\\left(", "["))
        and answer.count(",")
        and "\\cup" not in answer
        and "text" not in answer
    ):
        yield from _tuple(answer)
    elif re.fullmatch(r"-?\d+(?:, ?-?\d+)+", answer) and not re.fullmatch(r"\d{1,3}(,\d{3})+", answer):
        yield from _list(answer)
    elif re.fullmatch(r"[-+ \w^]+", answer) and re.search(r"[a-z]", answer) and re.search(r"[-+]", answer):
        yield from _polynomial(answer)
    elif re.search(r"[a-z]", answer) is None or "pi" in answer:
        yield Case("math500", answer, f"-({answer})", False)


def _integer(kind: str, n: int) -> Iterator[Case]:
    text = str(n)
    right = [
        text,
        f"{n}.0",
        f"{n:,}",
        f"x = {n}",
        f"{n}\\text{{ dollars}}",
        f"\\${n}",
        f"{n}.00",
    ]
    wrong = [
        n + 1,
        n - 1,
        -n,
        n * 10,
        n + 10,
        f"{n}.5",
        f"{n}x",
        f"{n}, {n + 1}",
        f"\\frac{{1}}{{{n}}}",
        f"{n} \\text{{ or }} {n + 2}",
    ]
    wrong += [text[::-1]] if text[0] != "-" and int(text[::-1]) != n else []
    for answer in right:
        yield Case(kind, text, answer, True)
    for answer in wrong:
        if n not in (0, 1, -1):
            yield Case(kind, text, str(answer), False)
    if n not in (0, 1, -1):
        yield Case("n and n%", text, f"{n}\\%", False)
        for sum_left in (f"{n - 1} + 1", f"\\frac{{{3 * n}}}{{3}}"):
            yield Case("sums left to do", text, sum_left, False)


def _fraction(answer: str, top: int, bottom: int) -> Iterator[Case]:
    value = Fraction(top, bottom)
    for k in (2, 7):
        yield Case("math500", answer, f"\\frac{{{k * top}}}{{{k * bottom}}}", True)
    yield Case("math500", answer, f"{top}/{bottom}", True)
    yield Case("math500", answer, f"{float(value):.12f}", True)
    yield Case("math500", answer, f"{float(value)!r}", True)
    for a, b in ((bottom, top), (-top, bottom), (top + 1, bottom), (top, bottom + 1)):
        yield Case("math500", answer, f"\\frac{{{a}}}{{{b}}}", False)
    yield Case("math500", answer, f"{float(value) + 0.01:.2f}", False)
    yield Case("math500", answer, f"{float(value) * (1 + 1e-5):.9f}", False)


def _radical(answer: str, outside: int, inside: int) -> Iterator[Case]:
    value = outside * inside**0.5
    right = (
        f"\\sqrt{{{outside**2 * inside}}}",
        f"\\sqrt{{{inside}}} \\cdot {outside}",
        f"\\frac{{{outside * inside}}}{{\\sqrt{{{inside}}}}}",
        f"{value:.9f}",
    )
    wrong = (
        f"{inside}\\sqrt{{{outside}}}",
        f"{outside + 1}\\sqrt{{{inside}}}",
        f"{outside}\\sqrt{{{inside + 1}}}",
        f"{value:.1f}",
        f"-{outside}\\sqrt{{{inside}}}",
    )
    for each in right:
        yield Case("math500", answer, each, True)
    for each in wrong:
        yield Case("math500", answer, each, False)


def _tuple(answer: str) -> Iterator[Case]:
    plain = answer.replace("\\left", "").replace("\\right", "").strip()
    items = [i.strip() for i in plain[1:-1].split(",")]
    yield Case("math500", answer, f"{plain[0]} {' , '.join(items)} {plain[-1]}", True)
    if len(set(items)) > 1:
        yield Case("math500", answer, f"{plain[0]}{', '.join(reversed(items))}{plain[-1]}", False)
    yield Case("math500", answer, f"{plain[0]}{', '.join(items[:-1])}{plain[-1]}", False)
    yield Case("math500", answer, f"{plain[0]}{', '.join([*items, '1'])}{plain[-1]}", False)
    flipped = {"(": "[", "[": "("}[plain[0]]
    yield Case("math500", answer, f"{flipped}{', '.join(items)}{plain[-1]}", False)


def _list(answer: str) -> Iterator[Case]:
    items = [i.strip() for i in answer.split(",")]
    yield Case("math500", answer, ", ".join(reversed(items)), True)
    yield Case("math500", answer, " and ".join(items) if len(items) == 2 else f"\\{{{','.join(items)}\\}}", True)
    yield Case("math500", answer, ", ".join(items[:-1]), False)
    yield Case("math500", answer, ", ".join([*items, "99"]), False)
    yield Case("math500", answer, ", ".join([*items[:-1], str(int(items[-1]) + 1)]), False)


def _polynomial(answer: str) -> Iterator[Case]:
    terms = re.findall(r"[-+]?[^-+]+", answer.replace(" ", ""))
    turned = "".join(t if t[0] in "-+" else f"+{t}" for t in reversed(terms)).lstrip("+")
    yield Case("math500", answer, turned, True)
    yield Case("math500", answer, f"\\frac{{2({answer})}}{{2}}", True)
    yield Case("math500", answer, "".join(terms[:-1]), False)
    yield Case("math500", answer, f"{answer} + 1", False)
    yield Case("math500", answer, f"-({answer})", False)


def _digit_changed(answer: str) -> Iterator[Case]:
    """One digit of the last number is another."""
    digits = list(re.finditer(r"\d", answer))
    if digits:
        at = digits[-1].start()
        yield Case("math500", answer, f"{answer[:at]}{(int(answer[at]) + 1) % 9 + 1}{answer[at + 1 :]}", False)


TRAPS = [
    ("1/2004!", "1/2006!"), ("1/2^{99}", "1/2^{98}"), ("1-1/\\mathrm{e}", "1+1/\\mathrm{e}"), ("1,2,\\ldots,10", "1,2,\\ldots,11"),
    ("1,3,\\ldots,99", "1,2,\\ldots,99"), ("x+1=3", "x+5=3"), ("2x=7", "3x=7"), ("2516_8", "2516"), ("10", "10\\%"), ("0", "10^{-12}"),
    ("0.1", "0.1000000004"), ("1", "1-2^{-99}"), ("5", "5+\\frac{1}{2004!}"), ("3R^2", "3r^2"), ("x=5", "2x=10"), ("0.0000001", "0.0000002"),
    ("12345678", "12345678.0000001"), ("\\sqrt{10^{12}+1}", "1000000.0"), ("x > 5", "2x > 10"), ("5050", "\\sum_{k=1}^{100} k"),
]  # fmt: skip
BOMBS = [
    "5^(5^(5^(5^5)))", "9^{9^{9^9}}", "1000000!", "((9!)!)!", "\\binom{1000000}{500000}", "e^{e^{e^{e^{10}}}}", "x^{10^9}", "(a+b+c+d+e+f)^{300}",
    "\\sqrt{" + "7" * 900 + "}", "(" * 400 + "1" + ")" * 400, "+".join(["x"] * 20_000), "9" * 1_000_000, "\\sum_{n=1}^{10^{10}} n^n", "\\tan(\\tan(\\tan(10^{30})))",
]  # fmt: skip


def cases(count: int) -> list[Case]:
    made = [*gsm8k(count), *math500()]
    made += independent()
    made += public()
    made += references()
    made += [Case("known traps", r, a, False) for r, a in TRAPS]
    made += [Case("bombs", "5", b, False) for b in BOMBS]
    return made


# Running


async def graded(function: str, work: Sequence[Case], workers: int) -> tuple[list[tuple[Reward, float]], float]:
    """Each case's reward and seconds, and the seconds for all."""
    pool = GraderPool(RewardConfig(function=function, workers=workers, deadline_s=DEADLINE_S, max_failed_fraction=1))
    try:
        await pool.grade([Problem("warm", "", "5")], [["5"] * 32])
        start = time.perf_counter()
        problems = [Problem(str(i), c.question, c.reference) for i, c in enumerate(work)]
        groups = await pool.grade_timed(problems, [[c.text] for c in work])
        return [g[0] for g in groups], time.perf_counter() - start
    finally:
        await pool.close()


def table(name: str, work: Sequence[Case], done: Sequence[tuple[Reward, float]]) -> Iterator[str]:
    for kind in dict.fromkeys(c.kind for c in work):
        rows = [(c, r, s) for c, (r, s) in zip(work, done, strict=True) if c.kind == kind]
        false_positives = sum(r.value == 1 and not c.right for c, r, _ in rows)
        false_negatives = sum(r.value == 0 and c.right for c, r, _ in rows)
        hangs = sum(r.outcome is Outcome.TIMEOUT for _, r, _ in rows)
        times = sorted(s * 1000 for _, _, s in rows)
        accuracy = 1 - (false_positives + false_negatives) / len(rows)
        yield (
            f"| {kind} | {name} | {len(rows)} | {accuracy:.2%} | {false_positives} | {false_negatives} | {hangs} "
            f"| {statistics.median(times):.2f} | {times[int(len(times) * 0.99)]:.1f} | {times[-1]:.0f} |"
        )


def compare(count: int, workers: int, show: int) -> None:
    work = cases(count)
    graders = {"rankone": "math_answer", "math-verify": f"{Path(__file__).resolve()}:math_verify_alone"}
    lines, totals = list[str](), list[str]()
    for name, function in graders.items():
        done, seconds = asyncio.run(graded(function, work, workers))
        lines += table(name, work, done)
        totals.append(f"{name}: {len(work) / seconds:,.0f} cases/s over all sets with {workers} processes")
        for wanted, label in ((False, "false positive"), (True, "false negative")):
            missed = [
                c for c, (r, _) in zip(work, done, strict=True) if c.right is wanted and (r.value == 1) is not wanted
            ]
            for case in missed[:show]:
                print(f"{name}, {label}: {case.reference[:60]!r} and {case.answer[:60]!r}")
    print(
        "| set | grader | cases | accuracy | false positives | false negatives | hangs | median ms | 99 % ms | max ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    print(
        "\n".join(
            sorted(lines, key=lambda line: list(dict.fromkeys(c.kind for c in work)).index(line[2:].split(" |")[0]))
        )
    )
    print("\n".join(totals))
    print(asyncio.run(worked(workers, every_bomb=0)))
    print(asyncio.run(worked(workers, every_bomb=10)))


async def worked(workers: int, every_bomb: int) -> str:
    """GSM8K's own worked answers, 8 times each, every so many of them replaced by a bomb: how many are right, how fast."""
    rows = [json.loads(r) for r in (DATA / "gsm8k" / "test.jsonl").read_text().splitlines()]
    problems = [Problem(str(i), r["question"], r["answer"]) for i, r in enumerate(rows)]
    texts = [[row["answer"]] * 8 for row in rows]
    bombs = list[tuple[int, int]]()
    if every_bomb:
        bombs = [divmod(i, 8) for i in range(0, 8 * len(rows), every_bomb)]
        for i, (group, place) in enumerate(bombs):
            texts[group][place] = f"#### {BOMBS[i % len(BOMBS)]}"
    pool = GraderPool(RewardConfig(workers=workers))
    try:
        await pool.grade(problems[:32], [[r["answer"]] for r in rows[:32]])
        start = time.perf_counter()
        groups = await pool.grade_timed(problems, texts)
        seconds = time.perf_counter() - start
    finally:
        await pool.close()
    at = set(bombs)
    real = [grade for g, group in enumerate(groups) for i, grade in enumerate(group) if (g, i) not in at]
    times = sorted(1000 * s for _, s in real)
    return (
        f"worked GSM8K answers, {len(bombs)} of {8 * len(rows)} replaced by bombs: {8 * len(rows) / seconds:,.0f} grades/s "
        f"with {workers} processes; {sum(r.value == 1 for r, _ in real)} of {len(real)} others right, "
        f"{times[int(0.99 * len(times))]:.1f} ms at the 99th percentile, {times[-1]:.0f} ms at most; "
        f"{sum(groups[g][i][0].value == 1 for g, i in bombs)} bombs accepted"
    )


# Fuzzing

PIECES = [
    "0",
    "1",
    "2",
    "7",
    "18",
    "3.5",
    ".5",
    "1,000",
    "x",
    "y",
    "e",
    "i",
    "n",
    "π",
    "∞",
    "+",
    "-",
    "*",
    "/",
    "^",
    "_",
    "!",
    "%",
    "=",
    "<",
    "≤",
    "≠",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "|",
    ",",
    ";",
    ":",
    ".",
    "$",
    "$$",
    "\\{",
    "\\}",
    "\\frac",
    "\\sqrt",
    "\\boxed{",
    "\\text{",
    "\\left",
    "\\right",
    "\\pm",
    "\\cup",
    "\\in",
    "\\sin",
    "\\log",
    "\\infty",
    "\\pi",
    "\\cdot",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\circ",
    "\\overline{",
    "\\binom",
    "\\sum",
    "\\int",
    "dollars",
    "and",
    "or",
    "answer",
    "is:",
    "####",
    "**",
    "½",
    "²",
    "√",
    "…",
    "not",
    "10",
    "99",
    "2004!",
    "9^9",
    "__import__('os').system('touch\xa0x')",
    "eval(",
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "\\(",
    "\\)",
    "\n",
    "\x00",
    "é",
    "数",
    "f(",
    "g(x)",
    "\\sigma(",
    "\\phi(2)",
    "f^{-1}(",
    "n!",
    "\\binom{n}{2}",
    "\\setminus",
    "\\equiv",
    "\\pmod{5}",
    "\\begin{cases}",
    "\\end{cases}",
    "\\mathbb{R}",
    "\\boxed{1}",
    "\\boxed{2},\\ \\boxed{3}",
    "\\text{ for all }",
    "25个",
    "^\\circ",
    "_2",
]


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
                problems = [Problem(str(i), "", a) for i, a in enumerate(answers)]
                texts = [
                    [rng.choice(("{}", "\\boxed{{{}}}", "The answer is {}", "#### {}")).format(fuzzed(rng, seeds))]
                    for _ in range(size)
                ]
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the default reward with math-verify alone, or fuzz it.")
    parser.add_argument("--fuzz", type=int, metavar="N", help="grade N generated texts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gsm8k", type=int, default=200, metavar="N", help="GSM8K problems to make cases from")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print up to N wrong verdicts of each kind")
    options = parser.parse_args()
    if options.fuzz:
        raise SystemExit(1 if asyncio.run(fuzz(options.fuzz, options.workers, options.seed)) else 0)
    compare(options.gsm8k, options.workers, options.show)


if __name__ == "__main__":
    main()
