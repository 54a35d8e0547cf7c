"""Cases for the grader's benchmark: a reference, an answer to it, and whether that is right.

They are the data sets' own answers, written in other ways (which must pass) and as near misses (which must not), each as
``The answer is \\boxed{...}``; public cases; and cases from formulas (`independent`), as models write them. How a case was
made decides what is equal, not a grader.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from independent import drawn_cases

from rewards.math_answer import unreadable

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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
