"""Liveness and readiness from the progress of the loops, also over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from structlog.testing import capture_logs

from daemon.errors import SettingsError
from daemon.operate.health import Health
from daemon.operate.metrics import Metrics
from daemon.operate.server import OperateServer


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def manual() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def health(manual: Clock) -> Health:
    """No loops yet; a loop stalls after 10 s."""
    return Health(stall_secs=10, clock=manual)


@pytest.fixture
def metrics() -> Metrics:
    """A registry of its own."""
    return Metrics()


@pytest.fixture
def client(health: Health, metrics: Metrics) -> Iterator[httpx.Client]:
    """Speaks to a real server over `health` and `metrics`."""
    server = OperateServer.start("127.0.0.1", 0, metrics, health)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as opened:
        yield opened
    server.stop()
    server.stop()


def test_a_process_without_loops_is_alive_and_not_ready(health: Health) -> None:
    """While it starts, a probe must neither end it nor send it traffic."""
    assert health.live(1000) == (True, {})
    assert health.ready(1000) == (False, {})


def test_a_loop_that_turns_is_alive_whatever_it_waits_for(health: Health, manual: Clock) -> None:
    """An upstream that is down makes a loop unready and never ends the pod."""
    loop = health.loop("delivery")
    for _ in range(5):
        manual.now += 9
        loop.turned()
        loop.set_ready(False, "Postgres does not answer")
    assert health.live(manual.now)[0]
    ready, report = health.ready(manual.now)
    assert not ready
    assert report["delivery"]["reason"] == "Postgres does not answer"


def test_a_stalled_loop_is_named(health: Health, manual: Clock) -> None:
    """One stalled loop fails liveness, and the report says which and since when; the other is left alone."""
    stalled, turning = health.loop("ingest"), health.loop("delivery")
    stalled.set_ready(True)
    manual.now += 11
    turning.turned()
    live, report = health.live(manual.now)
    assert not live
    assert report["ingest"] == {
        "live": False,
        "ready": False,
        "turned_secs_ago": 11.0,
        "reason": "has not turned for 11 s (operate.stall_secs: 10)",
    }
    assert report["delivery"]["live"]


def test_ready_means_all_loops(health: Health, manual: Clock) -> None:
    """Each loop has its say; a reason given with ready is dropped."""
    one, other = health.loop("ingest"), health.loop("delivery")
    one.set_ready(True, "no reason")
    assert not health.ready(manual.now)[0]
    other.set_ready(True)
    ready, report = health.ready(manual.now)
    assert ready
    assert "reason" not in report["ingest"]


def test_a_loop_that_stopped_on_purpose_stays_alive(health: Health, manual: Clock) -> None:
    """While the others drain, the end of one loop must not look like a stall."""
    loop = health.loop("ingest")
    loop.set_ready(True)
    loop.stopped()
    manual.now += 100
    assert health.live(manual.now)[0]
    assert not health.ready(manual.now)[0]


def test_the_same_name_is_the_same_loop(health: Health) -> None:
    """A loop may be asked for again."""
    assert health.loop("ingest") is health.loop("ingest")


def test_probes_answer_over_http(client: httpx.Client, health: Health, manual: Clock) -> None:
    """200 or 503, and a JSON body that names each loop and its reason."""
    loop = health.loop("ingest")
    assert (client.get("/livez").status_code, client.get("/readyz").status_code) == (200, 503)
    assert client.get("/readyz").json()["loops"]["ingest"]["reason"] == "starting"
    loop.set_ready(True)
    answer = client.get("/readyz?verbose")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    manual.now += 60
    stalled = client.get("/livez")
    assert stalled.status_code == 503
    assert json.loads(stalled.content)["live"] is False


def test_metrics_are_served(client: httpx.Client, metrics: Metrics) -> None:
    """The scrape is the exposition of the process's own registry."""
    metrics.ingest_paused.set(1)
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "order_sync_ingest_paused 1.0" in answer.text
    assert client.head("/metrics").content == b""


@pytest.mark.parametrize(("error", "events"), [(BrokenPipeError, []), (ValueError, ["answer failed"])])
def test_who_does_not_wait_for_the_answer_is_no_event(
    client: httpx.Client,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: type[Exception],
    events: list[str],
) -> None:
    """A scrape that is given up leaves no trace; what is wrong with us is told, as an event."""

    def failing() -> bytes:
        raise error

    monkeypatch.setattr(metrics, "exposition", failing)
    with capture_logs() as logged, pytest.raises(httpx.RemoteProtocolError):
        client.get("/metrics")
    assert [event["event"] for event in logged] == events
    assert capfd.readouterr().err == ""


def test_other_paths_are_unknown(client: httpx.Client) -> None:
    """A wrong path says which ones there are."""
    answer = client.get("/")
    assert answer.status_code == 404
    assert answer.text == "/metrics /livez /readyz\n"


def test_a_taken_port_names_the_settings(health: Health, metrics: Metrics, client: httpx.Client) -> None:
    """The cure is another port; nothing is left behind by the failed start."""
    port = client.base_url.port or 0
    with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}.*operate.listen_port"):
        OperateServer.start("127.0.0.1", port, metrics, health)
