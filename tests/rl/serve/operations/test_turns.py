"""The order of one model's requests."""

import asyncio

import pytest

from rl.serve.errors import ServerFault
from rl.serve.operations.turns import Turns


async def test_numbers_come_in_their_order_whatever_came_first() -> None:
    turns, done = Turns(), list[int]()

    async def work(number: int) -> int:
        await asyncio.sleep(0.001)
        done.append(number)
        return number

    numbers = [3, 1, 4, 2, 5]
    results = await asyncio.gather(*(turns.take(number, lambda number=number: work(number)) for number in numbers))
    assert (done, list(results)) == ([1, 2, 3, 4, 5], numbers)


async def test_requests_without_a_number_come_one_behind_the_other() -> None:
    turns, done = Turns(patience_s=0.5), list[int]()

    async def work(number: int) -> None:
        await asyncio.sleep(0.001)
        done.append(number)

    await asyncio.gather(*(turns.take(None, lambda number=number: work(number)) for number in range(4)))
    await turns.take(5, lambda: work(4))
    assert done == [0, 1, 2, 3, 4]


async def test_a_failure_is_its_own_and_the_next_is_served() -> None:
    turns = Turns()

    async def fail() -> None:
        raise ValueError("no")

    async def work() -> str:
        return "done"

    with pytest.raises(ValueError, match="no"):
        await turns.take(1, fail)
    assert await turns.take(2, work) == "done"
    with pytest.raises(ValueError, match="too late"):
        await turns.take(2, work)


async def test_a_number_that_stays_away_fails_those_behind_it_and_later_ones_are_served() -> None:
    turns = Turns(patience_s=0.1)

    async def work() -> str:
        return "done"

    behind = await asyncio.gather(*(turns.take(number, work) for number in (3, 2)), return_exceptions=True)
    assert all(isinstance(error, ServerFault) and "request 1 " in str(error) for error in behind)
    assert await turns.take(4, work) == "done"
    with pytest.raises(ValueError, match="too late"):
        await turns.take(1, work)


async def test_a_pause_before_a_burst_costs_nothing() -> None:
    turns = Turns(patience_s=0.3)

    async def work() -> str:
        return "done"

    await turns.take(1, work)
    await asyncio.sleep(0.5)
    third = asyncio.ensure_future(turns.take(3, work))
    await asyncio.sleep(0.1)
    assert await turns.take(2, work) == "done"
    assert await third == "done"


async def test_work_that_takes_longer_than_the_patience_is_waited_for() -> None:
    turns = Turns(patience_s=0.1)

    async def slow() -> str:
        await asyncio.sleep(0.4)
        return "slow"

    async def work() -> str:
        return "done"

    assert await asyncio.gather(turns.take(1, slow), turns.take(2, work)) == ["slow", "done"]
