"""Additions made by the program: a task that a small model learns in minutes, with as many problems as one likes."""

from random import Random

from rewards.types import Problem
from rl.config import Addition
from rl.data.split import Split


def load_addition(config: Addition, seed: int) -> Split:
    """Make different sums of two numbers. `a + b` is never trained on where `b + a` is held out.

    Raises:
        ValueError: there are too few numbers of that many digits.
    """
    pairs = _pairs(config, seed)
    held_out = _different(pairs, config.num_held_out)
    train = [(a, b) for a, b in pairs if _twins(a, b) not in held_out][: config.num_train]
    if len(held_out) < config.num_held_out or len(train) < config.num_train:
        raise ValueError(_too_few(config))
    return Split(
        train=tuple(_problem(a, b) for a, b in train),
        held_out=tuple(_problem(a, b) for a, b in held_out.values()),
    )


def _different(pairs: list[tuple[int, int]], count: int) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the first `count` pairs of which none is another's twin, by what twins have in common."""
    by_twins: dict[tuple[int, int], tuple[int, int]] = {}
    for a, b in pairs:
        if len(by_twins) == count:
            break
        by_twins.setdefault(_twins(a, b), (a, b))
    return by_twins


def _twins(a: int, b: int) -> tuple[int, int]:
    return min(a, b), max(a, b)


def _pairs(config: Addition, seed: int) -> list[tuple[int, int]]:
    """Return different pairs in random order, enough of them if there are enough at all."""
    numbers = _numbers(config.digits)
    total = len(numbers) ** 2
    # A held-out pair takes at most itself and its twin away from training.
    enough = min(total, config.num_train + 2 * config.num_held_out)
    drawn = Random(f"addition/{config.digits}/{seed}").sample(range(total), enough)
    return [(numbers[i // len(numbers)], numbers[i % len(numbers)]) for i in drawn]


def _numbers(digits: int) -> range:
    return range(0 if digits == 1 else 10 ** (digits - 1), 10**digits)


def _problem(a: int, b: int) -> Problem:
    return Problem(id=f"addition/{a}+{b}", question=f"{a} + {b} =", answer=str(a + b), metadata={"a": a, "b": b})


def _too_few(config: Addition) -> str:
    total = len(_numbers(config.digits)) ** 2
    return (
        f"data.digits = {config.digits} gives {total} sums, too few for data.num_train = {config.num_train} and "
        f"data.num_held_out = {config.num_held_out} without a sum and its swapped twin on both sides: "
        "lower these numbers or raise data.digits"
    )
