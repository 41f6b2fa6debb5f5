"""The client waits as it is told, gives up in time, counts what it asks, and stays on its host."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from geossl_data.errors import BudgetError
from geossl_data.scenes import http as http_module
from geossl_data.scenes.http import Answer, Http, HttpError
from geossl_data.scenes.limits import Budget, Limiter


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them."""
    made: list[float] = []

    def pause(self: Http, seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(Http, "pause", pause)
    return made


@pytest.fixture
def client(loopback: Any) -> Iterator[Http]:
    with Http(loopback.url, budget=Budget(50), per_second=1000.0) as opened:
        yield opened


def answers(loopback: Any, *given: tuple[int, dict[str, str], str]) -> None:
    """Let the server give these answers, the last one again and again."""
    loopback.answer = lambda method, path, body, number: given[min(number, len(given)) - 1]


OK = (200, {}, '{"fine": true}')


def test_1_10_retry_after_in_seconds(loopback: Any, client: Http, waits: list[float]) -> None:
    answers(loopback, (429, {"Retry-After": "2"}, ""), (429, {"Retry-After": "2"}, ""), OK)
    assert client.request("POST", loopback.url, json={"a": 1}).content == b'{"fine": true}'
    assert waits == [2.0, 2.0]
    assert [body for _, _, body, _ in loopback.requests] == [{"a": 1}] * 3


def test_1_10_retry_after_as_a_date(loopback: Any, client: Http, waits: list[float]) -> None:
    until = datetime.now(UTC) + timedelta(seconds=30)
    answers(loopback, (503, {"Retry-After": format_datetime(until, usegmt=True)}, ""), OK)
    client.request("GET", loopback.url)
    assert len(waits) == 1
    assert 25 <= waits[0] <= 31


def test_a_date_is_taken_by_the_servers_own_clock() -> None:
    theirs = datetime(2020, 1, 1, tzinfo=UTC)
    headers = {"Date": format_datetime(theirs), "Retry-After": format_datetime(theirs + timedelta(seconds=7))}
    assert http_module.wait_asked_for(Answer(503, headers, b"")) == 7.0
    assert http_module.wait_asked_for(Answer(503, headers | {"Retry-After": "soon"}, b"")) is None
    assert http_module.wait_asked_for(Answer(503, headers | {"Date": "?"}, b"")) == 0.0


def test_1_10_a_wait_in_words(loopback: Any, client: Http, waits: list[float]) -> None:
    answers(loopback, (429, {}, "Rate limit is exceeded. Try again in 12 seconds."), OK)
    client.request("POST", loopback.url)
    assert waits == [12.0]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_1_10_pauses_grow_where_the_server_names_none(
    loopback: Any, client: Http, waits: list[float], status: int
) -> None:
    answers(loopback, (status, {}, "CANARY"))
    with pytest.raises(HttpError, match=rf"refused the request \(HTTP {status}\); try again later") as caught:
        client.request("POST", loopback.url)
    assert (caught.value.status, caught.value.kind) == (status, "status")
    assert "CANARY" not in str(caught.value)
    assert len(waits) == len(loopback.requests) - 1 == 6
    assert all(0.5 * 0.5 * 2**k <= pause <= 0.5 * 2**k for k, pause in enumerate(waits))


def test_a_wait_longer_than_the_deadline_is_not_waited_for(loopback: Any, client: Http, waits: list[float]) -> None:
    answers(loopback, (503, {"Retry-After": "100"}, ""))
    with pytest.raises(HttpError, match="HTTP 503"):
        client.request("GET", loopback.url, deadline_s=5.0)
    assert waits == []
    answers(loopback, (503, {"Retry-After": "86400"}, ""))
    with pytest.raises(HttpError, match="HTTP 503"):
        client.request("GET", loopback.url, deadline_s=1e6)
    assert waits == []


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_what_will_not_change_is_asked_for_once(loopback: Any, client: Http, status: int) -> None:
    answers(loopback, (status, {}, ""))
    with pytest.raises(HttpError, match=f"HTTP {status}"):
        client.request("GET", loopback.url)
    assert len(loopback.requests) == 1


def test_1_24_a_firewall_that_says_forbidden(loopback: Any, waits: list[float]) -> None:
    answers(loopback, (403, {}, ""), (403, {}, ""), OK)
    with Http(loopback.url, budget=Budget(9), patient=True) as patient:
        assert patient.request("GET", loopback.url).status == 200
    assert len(waits) == 2
    with Http(loopback.url, budget=Budget(9)) as other:
        loopback.requests.clear()
        with pytest.raises(HttpError, match="HTTP 403"):
            other.request("GET", loopback.url)
    assert len(loopback.requests) == 1


def test_1_12_a_server_that_never_answers(
    loopback: Any, client: Http, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "READ_S", 0.05)
    loopback.answer = lambda *_: (time.sleep(0.2), OK)[1]
    with pytest.raises(HttpError, match="no answer in time") as caught:
        client.request("GET", loopback.url)
    assert caught.value.kind == "overloaded"
    assert len(loopback.requests) == 2


def test_nobody_at_home(waits: list[float]) -> None:
    with Http("http://127.0.0.1:1", budget=Budget(9)) as http, pytest.raises(HttpError, match="cannot be reached"):
        http.request("GET", "http://127.0.0.1:1/x")
    assert len(waits) == 2


@pytest.mark.parametrize("elsewhere", ["http://127.0.0.2:1/", "http://169.254.169.254/x?sig=CANARY", "file:///etc"])
def test_6_04_redirects_to_another_host_are_refused(loopback: Any, client: Http, elsewhere: str) -> None:
    answers(loopback, (302, {"Location": elsewhere}, ""))
    with pytest.raises(HttpError, match="sends us to another host") as caught:
        client.request("GET", loopback.url)
    assert "CANARY" not in str(caught.value)
    assert caught.value.kind == "redirect"


def test_redirects_that_do_not_end(loopback: Any, client: Http) -> None:
    answers(loopback, (302, {"Location": "/again"}, ""))
    with pytest.raises(HttpError, match="redirects more than 3 times"):
        client.request("GET", loopback.url)
    assert len(loopback.requests) == 4


def test_6_12_an_answer_that_unpacks_to_too_much(loopback: Any, client: Http) -> None:
    answers(loopback, (200, {}, " " * 5000))
    with pytest.raises(HttpError, match="an answer of more than 4000 bytes"):
        client.request("GET", loopback.url, max_nbytes=4000)


def test_6_13_neither_netrc_nor_cookies_are_sent(
    loopback: Any, client: Http, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password CANARY\n")
    monkeypatch.setenv("NETRC", str(netrc))
    answers(loopback, (200, {"Set-Cookie": "session=CANARY"}, "{}"))
    client.request("GET", loopback.url)
    client.request("GET", loopback.url)
    assert all({"Authorization", "Cookie"}.isdisjoint(headers) for _, _, _, headers in loopback.requests)


def test_the_budget_ends_it(loopback: Any, waits: list[float]) -> None:
    answers(loopback, (500, {}, ""))
    budget = Budget(3)
    with Http(loopback.url, budget=budget) as http, pytest.raises(BudgetError, match="all 3 requests of the budget"):
        http.request("GET", loopback.url)
    assert budget.spent == len(loopback.requests) == 3


def test_a_stopped_client_does_not_wait_on(loopback: Any) -> None:
    answers(loopback, (503, {"Retry-After": "60"}, ""))
    http = Http(loopback.url, budget=Budget(9))
    threading.Timer(0.2, http.stop).start()
    with pytest.raises(HttpError, match="stopped"):
        http.request("GET", loopback.url)
    assert len(loopback.requests) == 1


# ---------------------------------------------------------------------------------------------------- limits


def run_side_by_side(count: int, act: Callable[[], None]) -> None:
    threads = [threading.Thread(target=act) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_no_more_requests_than_allowed_are_under_way() -> None:
    limiter, under_way, most = Limiter(3, 1e6), 0, 0
    lock = threading.Lock()

    def act() -> None:
        nonlocal under_way, most
        with limiter.slot():
            with lock:
                under_way += 1
                most = max(most, under_way)
            time.sleep(0.005)
            with lock:
                under_way -= 1

    run_side_by_side(20, act)
    assert most == 3


def test_1_11_a_complaint_halves_and_content_answers_raise_again() -> None:
    limiter = Limiter(8, 1e6)
    limiter.complained()
    limiter.complained()
    assert limiter.allowed == 2
    for _ in range(20):
        limiter.answered()
    assert limiter.allowed == 3
    for _ in range(5):
        limiter.complained()
    assert limiter.allowed == 1


def test_1_23_starts_are_spread_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    limiter = Limiter(5, 4.0)
    for _ in range(4):
        with limiter.slot():
            pass
    assert slept == [0.25, 0.5, 0.75]


def test_a_budget_is_kept_over_threads() -> None:
    budget, refused = Budget(50), []

    def act() -> None:
        for _ in range(10):
            try:
                budget.spend()
            except BudgetError:
                refused.append(1)

    run_side_by_side(8, act)
    assert (budget.spent, len(refused)) == (50, 30)


def test_what_one_command_may_ask_is_not_taken_from_the_next() -> None:
    budget = Budget(5)
    budget.spend()
    with budget.granting(1):
        budget.spend()
        with pytest.raises(BudgetError, match="all 1 requests"):
            budget.spend()
    with budget.granting(None):
        budget.spend()
    assert budget.spent == 3
