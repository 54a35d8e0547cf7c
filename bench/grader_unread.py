"""The references that the grader cannot read, by kind.

    python bench/grader_unread.py             counts
    python bench/grader_unread.py --show 5    with examples

A problem with such a reference is only ever answered by its exact spelling; leave it out of a run.
"""

import argparse
import json
import re
from collections import defaultdict

from grader_cases import DATA

from rewards.math_answer import unreadable

_FORMULA = re.compile(r"\$[^$]*\$|\\[A-Za-z]+")
KINDS = (
    ("sums and products with a sign", re.compile(r"\\(?:sum|prod)(?![a-z])")),
    ("series with an ellipsis", re.compile(r"\\[cl]?dots|…")),
    ("unions over all integers", re.compile(r"\\bigcup")),
    ("limits and integrals", re.compile(r"\\(?:lim|int)(?![a-z])")),
    ("where a curve is concave", re.compile(r"\bconcave\b")),
    (
        "eigenvectors, bases and other lists of vectors in prose",
        re.compile(r"[A-Za-z]{4}[^$]{10,}\\begin\{array\}", re.DOTALL),
    ),
    ("matrices that are multiplied or worked out", re.compile(r"\\begin\{(?:array|align|[pb]?matrix)")),
    ("several parts with names of their own", re.compile(r"otherwise|;|@|\bdomain\b|\brange\b|^(?:Yes|No)\b|\n")),
)


def kind(answer: str) -> str:
    """The first kind that a reference is of; what has four words outside of formulas is prose."""
    for name, pattern in KINDS:
        if pattern.search(answer):
            return name
    return (
        "prose" if len(re.findall(r"[A-Za-z]{3,}", _FORMULA.sub(" ", answer))) > 3 else "others, and slips of the book"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the references that the grader cannot read.")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N of each kind")
    options = parser.parse_args()
    for name in ("asdiv", "college_math"):
        rows = [json.loads(r)["answer"] for r in (DATA / "references" / f"{name}.jsonl").read_text().splitlines()]
        unread = [a for a in rows if unreadable(a) is not None]
        print(f"{name}: {len(unread)} of {len(rows)}")
        kinds = defaultdict[str, list[str]](list)
        for answer in unread:
            kinds[kind(answer)].append(answer)
        for each, answers in sorted(kinds.items(), key=lambda k: -len(k[1])):
            print(f"    {len(answers):3} {each}")
            for answer in answers[: options.show]:
                print(f"          {' '.join(answer.split())[:110]}")


if __name__ == "__main__":
    main()
