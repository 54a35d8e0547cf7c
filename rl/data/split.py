"""The sets of problems of a run, and the promise that they share none."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from lora.messages import shortened, single_line
from rewards.types import Problem


@dataclass(frozen=True, slots=True)
class Split:
    """Problems to learn from, problems to measure with, and problems to measure with once, at the end.

    Example: ``Split(train=(Problem("addition/2+3", "2 + 3 =", "5"),), held_out=(Problem("addition/4+5", ...),))``
    """

    train: tuple[Problem, ...]
    held_out: tuple[Problem, ...]
    test: tuple[Problem, ...] = ()
    sets: tuple[tuple[str, tuple[Problem, ...]], ...] = ()
    """Other problems to measure with, by name."""


def question_key(question: str) -> str:
    """Return a key that two questions share if they differ in case and white space alone."""
    return single_line(question).casefold()


def check_disjoint(split: Split, remedy: str = "take the shared ones out of one of the two") -> None:
    """Refuse a split whose held-out problems are trained on: its accuracy would measure memory.

    `remedy` says what to do.

    Raises:
        ValueError: questions are shared; it names one, and how many there are.
    """
    trained = {question_key(problem.question): problem for problem in split.train}
    shared = [problem for problem in split.held_out if question_key(problem.question) in trained]
    if not shared:
        return
    twin = trained[question_key(shared[0].question)]
    raise ValueError(
        f"{len(shared)} of {len(split.held_out)} held-out problems are also in the training set, such as "
        f"{shared[0].id} (the same as {twin.id}): {shortened(single_line(shared[0].question), 80)!r}; {remedy}"
    )


def set_apart(problems: Sequence[Problem], count: int, seed: int, origin: str) -> Split:
    """Take `count` problems with different questions out of `problems`, each with all its duplicates.

    `origin` names where the problems are from.

    Raises:
        ValueError: that leaves nothing to train on.
    """
    rows_by_question: dict[str, list[int]] = {}
    for row, problem in enumerate(problems):
        rows_by_question.setdefault(question_key(problem.question), []).append(row)
    if len(rows_by_question) <= count:
        raise ValueError(
            f"{origin} has {len(rows_by_question)} different problems, so {count} cannot be held out of it: "
            "lower data.num_held_out or name a held-out set"
        )
    chosen = Random(f"held out/{seed}").sample(sorted(rows_by_question), count)
    removed = {row for question in chosen for row in rows_by_question[question]}
    first = sorted(rows_by_question[question][0] for question in chosen)
    return Split(
        train=tuple(problem for row, problem in enumerate(problems) if row not in removed),
        held_out=tuple(problems[row] for row in first),
    )


def set_test_apart(split: Split, count: int, seed: int) -> Split:
    """Take `count` problems with different questions out of those that are held out, each with all its duplicates.

    Raises:
        ValueError: that leaves nothing to choose the best policy by.
    """
    different = len({question_key(problem.question) for problem in split.held_out})
    if count >= different:
        raise ValueError(
            f"evaluate.num_test = {count} leaves nothing of {different} held-out problems to choose the best policy "
            "by: lower it, or hold out more"
        )
    apart = set_apart(split.held_out, count, seed, "the held-out set")
    return Split(split.train, held_out=apart.train, test=apart.held_out)
