"""Try a reward on a few completions of known worth before any model is loaded, in the process that will run it."""

from collections.abc import Sequence
from dataclasses import dataclass

from rewards.grading.messages import Graded
from rewards.grading.pool import GraderPool
from rewards.mathematics.extract.final_answer import reference_answer
from rewards.types import Outcome, Problem, Reward

MAX_PROBLEMS = 3
_REASONING = "First I write down what is given. Then I combine the quantities one after the other. "


@dataclass(frozen=True, slots=True)
class Trial:
    """A completion made up for a problem. ``kind`` says what it is, for the report."""

    kind: str
    text: str


def trials(problem: Problem) -> list[Trial]:
    """Right and wrong completions, short and long, with and without tags: a reward that tells them apart is of use."""
    right = reference_answer(problem.answer)
    wrong = str(int(right) + 1) if right.lstrip("-").isdecimal() and len(right) < 18 else f"{right} + 1"
    return [
        Trial("right", f"The answer is \\boxed{{{right}}}."),
        Trial("right, long", f"{_REASONING * 8}\n\nThe answer is \\boxed{{{right}}}."),
        Trial("right, in tags", f"<think>\n{_REASONING}\n</think>\n<answer>{right}</answer>"),
        Trial("wrong", f"The answer is \\boxed{{{wrong}}}."),
        Trial("no answer", "I do not know."),
    ]


async def preflight(pool: GraderPool, problems: Sequence[Problem], *, teaches: bool = True) -> str:
    """A printable report of what the reward returned. One that only measures, and ``teaches`` nothing, may be constant.

    Raises ValueError, with the function's own traceback and line, when it raises, returns NaN or the wrong length,
    takes too long, or returns the same for everything.
    """
    if not problems:
        raise ValueError("the preflight needs at least one problem; is the data set empty?")
    chosen = list(problems[:MAX_PROBLEMS])
    tried = [trials(p) for p in chosen]
    items = [i for p, ts in zip(chosen, tried, strict=True) for i in pool.items(p, [t.text for t in ts])]
    graded = await pool.grade_items(items[:1], logs=False)  # alone: one that hangs costs one deadline, not fifteen
    _check_ran(pool, graded)
    graded += await pool.grade_items(items[1:], logs=False)
    _check_ran(pool, graded)
    rewards = [r for g in graded for r in g.rewards]
    _check_judges(rewards)
    if teaches and pool.is_of_functions:
        _check_tells_apart(rewards, [t for ts in tried for t in ts], pool.sources)
    return report(chosen, tried, rewards, sum(g.seconds for g in graded) / len(rewards))


def _check_ran(pool: GraderPool, graded: Sequence[Graded]) -> None:
    for each in graded:
        if each.failure is not None and any(r.outcome is Outcome.TIMEOUT for r in each.rewards):
            raise ValueError(
                f"on a trial completion the reward function {each.failure[1]}\nmake it faster or raise the limit"
            )
        if each.failure is not None:
            raise ValueError(f"the reward function failed on a trial completion:\n{each.failure[1]}")
        if any(r.outcome is Outcome.TIMEOUT for r in each.rewards):
            raise ValueError(
                f"the reward function took more than deadline_s = {pool.config.deadline_s} s, or more than memory_mb = "
                f"{pool.config.memory_mb}, on a trial completion; make it faster or raise the limit"
            )


def _check_judges(rewards: Sequence[Reward]) -> None:
    if not any(r.is_valid for r in rewards):
        raise ValueError("the reward function returned None for every trial completion; it would judge nothing")


def _check_tells_apart(rewards: Sequence[Reward], tried: Sequence[Trial], sources: Sequence[str]) -> None:
    values = [r.value for r in rewards if r.is_valid]
    if len(set(values)) == 1:
        kinds = ", ".join(dict.fromkeys(t.kind for t in tried))
        raise ValueError(
            f"the reward is {values[0]:g} for every trial completion ({kinds}); a constant reward teaches nothing\n"
            + "\n".join(f"  {source}" for source in sources)
        )


def report(
    problems: Sequence[Problem], tried: Sequence[Sequence[Trial]], rewards: Sequence[Reward], seconds: float
) -> str:
    """One line a completion, in columns."""
    lines = [f"{'problem':<20} {'completion':<16} {'value':>8}  outcome"]
    left = iter(rewards)
    for problem, each in zip(problems, tried, strict=True):
        for trial in each:
            reward = next(left)
            lines.append(f"{problem.id[:20]:<20} {trial.kind:<16} {reward.value:>8.3g}  {reward.outcome}")
    lines.append(f"{len(rewards)} completions, {seconds * 1000:.2f} ms each")
    return "\n".join(lines)
