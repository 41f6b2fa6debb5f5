"""Tokens are asked for once, kept as long as they are good, given up when they are refused, and never shown."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import TokenAlreadyExpired, TokenError
from geossl_data.scenes.opening import tokens as tokens_module
from geossl_data.scenes.opening.tokens import (
    BREAK_S,
    PAUSE_S,
    REFUSALS,
    Container,
    ContainerRefusedError,
    Token,
    Tokens,
    digest,
    token_of,
)

OPTICAL, RADAR = ("optical", "s2"), ("radar", "s1")


class Clock:
    """A clock that goes on when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(tokens_module, "time", made)
    return made


class Service:
    """Hands out tokens T1, T2, …, or fails as it is told."""

    def __init__(self, lifetime_s: float = 3600.0) -> None:
        self.lifetime_s = lifetime_s
        self.asked: list[tuple[Container, str]] = []
        self.error: TokenError | None = None

    def __call__(self, container: Container, refused: str) -> Token:
        self.asked.append((container, refused))
        if self.error is not None:
            raise self.error
        return token_of(f"sig=T{len(self.asked)}", self.lifetime_s)


def side_by_side(count: int, act: Callable[[], Any]) -> None:
    start = threading.Barrier(count)

    def run() -> None:
        start.wait()
        act()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_1_04_one_token_serves_32_threads() -> None:
    service = Service()
    tokens, got = Tokens(service), []
    side_by_side(32, lambda: got.append(tokens.token(OPTICAL).value))
    assert got == ["sig=T1"] * 32
    assert service.asked == [(OPTICAL, "")]


def test_a_slow_container_does_not_hold_up_another() -> None:
    is_asked, may_go_on = threading.Event(), threading.Event()

    def ask(container: Container, refused: str) -> Token:
        if container == OPTICAL:
            is_asked.set()
            assert may_go_on.wait(20)
        return token_of(container[0], 3600)

    tokens, got = Tokens(ask), []
    slow = threading.Thread(target=lambda: got.append(tokens.token(OPTICAL).value))
    slow.start()
    assert is_asked.wait(20)
    assert tokens.token(RADAR).value == "radar"
    assert got == []
    may_go_on.set()
    slow.join()
    assert got == ["optical"]


@pytest.mark.parametrize(("lifetime_s", "margin_s"), [(2700.0, 120.0), (100.0, 20.0)])
def test_a_token_is_replaced_before_its_end(clock: Clock, lifetime_s: float, margin_s: float) -> None:
    tokens = Tokens(Service(lifetime_s))
    assert tokens.token(OPTICAL).value == "sig=T1"
    clock.now += lifetime_s - margin_s - 0.01
    assert tokens.token(OPTICAL).value == "sig=T1"
    clock.now += 0.02
    assert tokens.token(OPTICAL).value == "sig=T2"


def test_a_failure_is_remembered_for_half_a_minute(clock: Clock) -> None:
    service = Service()
    tokens, service.error = Tokens(service), TokenAlreadyExpired("no good")
    for _ in range(3):
        with pytest.raises(TokenAlreadyExpired, match="no good"):
            tokens.token(OPTICAL)
    assert len(service.asked) == 1
    assert [container for container, _ in service.asked] == [OPTICAL]
    clock.now += PAUSE_S
    service.error = None
    assert tokens.token(OPTICAL).value == "sig=T2"


def test_a_token_that_is_still_good_bridges_an_outage_of_the_service(clock: Clock) -> None:
    service = Service(600.0)
    tokens = Tokens(service)
    tokens.token(OPTICAL)
    service.error = TokenError("down")
    clock.now += 500
    assert [tokens.token(OPTICAL).value for _ in range(5)] == ["sig=T1"] * 5
    assert len(service.asked) == 2
    clock.now += 100
    with pytest.raises(TokenError, match="down"):
        tokens.token(OPTICAL)


def test_1_01_32_threads_with_one_refused_token_ask_for_one_new_token() -> None:
    service = Service()
    tokens, got = Tokens(service), []
    old = digest(tokens.token(OPTICAL).value)

    def act() -> None:
        tokens.refuse(OPTICAL, old, "blob")
        got.append(tokens.token(OPTICAL).value)

    side_by_side(32, act)
    assert got == ["sig=T2"] * 32
    assert service.asked == [(OPTICAL, ""), (OPTICAL, old)]


def test_a_refusal_of_another_token_or_container_changes_nothing() -> None:
    service = Service()
    tokens = Tokens(service)
    tokens.token(OPTICAL)
    tokens.refuse(OPTICAL, digest("sig=T0"), "blob")
    tokens.refuse(RADAR, digest("sig=T1"), "blob")
    assert tokens.token(OPTICAL).value == "sig=T1"
    assert len(service.asked) == 1


def refuse_current(tokens: Tokens, blob: str) -> None:
    tokens.refuse(OPTICAL, digest(tokens.token(OPTICAL).value), blob)


def test_1_07_a_container_that_refuses_fresh_tokens_is_left_alone(clock: Clock) -> None:
    service = Service()
    tokens = Tokens(service)
    refuse_current(tokens, "a")
    for blob in "abc"[: REFUSALS - 1]:
        refuse_current(tokens, blob)
        assert tokens.token(OPTICAL).value == "sig=T2"
    refuse_current(tokens, "c")
    with pytest.raises(ContainerRefusedError, match="optical/s2: refuses fresh access tokens; try again later"):
        tokens.token(OPTICAL)
    assert tokens.token(RADAR).value == "sig=T3"
    assert len(service.asked) == 3
    clock.now += BREAK_S
    assert tokens.token(OPTICAL).value == "sig=T4"


def test_one_refused_blob_does_not_speak_for_its_container(clock: Clock) -> None:
    service = Service()
    tokens = Tokens(service)
    for _ in range(50):
        refuse_current(tokens, "bad")
    assert tokens.token(OPTICAL).value == "sig=T2"
    tokens.accept(OPTICAL, "sig=T2")
    for number in range(50):
        refuse_current(tokens, f"bad{number}")
    assert tokens.token(OPTICAL).value == "sig=T2"
    clock.now += PAUSE_S
    refuse_current(tokens, "bad")
    assert tokens.token(OPTICAL).value == "sig=T3"


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["token", "refuse", "accept", "fail", "mend"]),
            st.floats(0, 40),
            st.sampled_from("abcd"),
        ),
        max_size=40,
    )
)
def test_however_blobs_answer_two_tokens_in_half_a_minute_are_the_most(acts: list[tuple[str, float, str]]) -> None:
    clock, service, at = Clock(), Service(1e9), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens_module, "time", clock)
        tokens = Tokens(lambda container, refused: (at.append(clock.now), service(container, refused))[1])
        for act, pause, blob in acts:
            clock.now += pause
            if act in ("fail", "mend"):
                service.error = TokenError("down") if act == "fail" else None
                continue
            try:
                held = tokens.token(OPTICAL).value
            except TokenError:
                continue
            if act == "refuse":
                tokens.refuse(OPTICAL, digest(held), blob)
            elif act == "accept":
                tokens.accept(OPTICAL, held)
    assert all(third - first >= PAUSE_S for first, third in zip(at, at[2:], strict=False))


def test_a_token_shows_itself_nowhere_and_stays_in_its_process() -> None:
    token = token_of("sig=CANARY", 60)
    tokens = Tokens(lambda container, refused: token)
    assert tokens.token(OPTICAL) is token
    assert "CANARY" not in f"{token!r}{token}{tokens!r}{tokens.__dict__}"
    with pytest.raises(TypeError, match="a token stays in its process"):
        pickle.dumps(token)
    with pytest.raises(TypeError, match="a token stays in its process"):
        copy.copy(token)
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(Tokens(print))
