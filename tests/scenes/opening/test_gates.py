"""Requests take turns, a complaint halves them once, and who gives up leaves no place taken."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.scenes.opening.gates import RAISE_AFTER, Gate


async def come_round() -> None:
    """Let all that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


@given(most=st.integers(1, 8), n=st.integers(0, 30), choices=st.lists(st.sampled_from(["leave", "cancel", "complain"])))
def test_never_more_than_allowed_and_in_order(most: int, n: int, choices: list[str]) -> None:
    async def act() -> None:
        gate, entered = Gate(most), []
        leaving = [asyncio.Event() for _ in range(n)]

        async def request(number: int) -> None:
            await gate.enter()
            entered.append(number)
            try:
                await leaving[number].wait()
            finally:
                gate.leave()

        tasks = [asyncio.ensure_future(request(number)) for number in range(n)]
        await come_round()
        assert entered == list(range(min(n, most)))
        for number, choice in enumerate(choices[:n]):
            if choice == "leave":
                leaving[number].set()
            elif choice == "cancel":
                tasks[number].cancel()
            else:
                gate.complained(gate._era)
            before = len(entered)
            await come_round()
            under_way = sum(not tasks[n].done() for n in entered)
            assert len(entered) == before or under_way <= gate.allowed
        assert entered == sorted(entered)
        for event in leaving:
            event.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gate._under_way == 0

    asyncio.run(act())


def test_requests_that_were_under_way_together_complain_once() -> None:
    async def act() -> None:
        gate = Gate(64)
        eras = [await gate.enter() for _ in range(64)]
        for era in eras:
            gate.leave()
            gate.complained(era)
        assert gate.allowed == 32
        for _ in range(10):
            gate.complained(await gate.enter())
            gate.leave()
        assert gate.allowed == 1

    asyncio.run(act())


def test_good_answers_raise_what_is_allowed_one_by_one() -> None:
    gate = Gate(4)
    gate.complained(0)
    gate.complained(1)
    assert gate.allowed == 1
    for _ in range(RAISE_AFTER - 1):
        gate.answered()
    assert gate.allowed == 1
    gate.answered()
    assert gate.allowed == 2
    for _ in range(10 * RAISE_AFTER):
        gate.answered()
    assert gate.allowed == 4


def test_a_turn_that_comes_with_the_cancellation_is_passed_on() -> None:
    async def act() -> None:
        gate = Gate(1)
        await gate.enter()
        second, third = (asyncio.ensure_future(gate.enter()) for _ in range(2))
        await come_round()
        gate.leave()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await asyncio.wait_for(third, 10)

    asyncio.run(act())
