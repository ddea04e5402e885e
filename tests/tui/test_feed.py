from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from initiator.errors import MooringError
from initiator.model import Event, Snapshot
from tests.tui import samples
from tests.tui.fakes import FakeSource, differ
from tui.feed import EVENT_LIMIT, Delivery, Feed, Mailbox


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Running:
    """A feed on a source, and what it delivered."""

    def __init__(self, source: FakeSource, interval: float) -> None:
        self.source = source
        self.bell = threading.Event()
        self.mailbox = Mailbox(self.bell.set)
        self.feed = Feed(source, self.mailbox, differ, interval=interval, pulse=0.01)
        self.feed.start()

    def next(self) -> Delivery:
        assert self.bell.wait(5)
        self.bell.clear()
        return self.mailbox.take()


@pytest.fixture
def running() -> Iterator[Callable[[FakeSource, float], Running]]:
    started: list[Running] = []

    def start(source: FakeSource, interval: float) -> Running:
        started.append(Running(source, interval))
        return started[-1]

    yield start
    for one in started:
        one.source.held.set()
        one.feed.stop()
        one.feed.join(5)


Start = Callable[[FakeSource, float], Running]


def test_the_first_reading_comes_at_once_with_the_engines_old_messages(running: Start) -> None:
    base = samples.practice()
    delivery = running(FakeSource(base, samples.EVENTS), 60).next()
    assert delivery.snapshot is base
    assert [event.text for event in delivery.events] == [e.text for e in sorted(samples.EVENTS, key=lambda e: e.at)]


def test_a_state_that_changed_is_read_at_once_and_gives_an_event(running: Start) -> None:
    source = FakeSource(samples.practice())
    one = running(source, 60)
    one.next()
    pulled = samples.practice(pulled=samples.PORTALS[1], taken_at=samples.NOW + 1)
    source.tell(pulled)
    delivery = one.next()
    assert delivery.snapshot is pulled
    assert len(delivery.events) == 3
    assert all("failed" in event.text for event in delivery.events)


def test_a_kernel_event_is_a_reason_to_read(running: Start) -> None:
    source = FakeSource(samples.practice())
    one = running(source, 60)
    one.next()
    source.hurry()
    assert one.next().snapshot is source.snapshot
    assert source.reads == 2


def test_it_reads_again_after_the_interval(running: Start) -> None:
    one = running(FakeSource(samples.practice()), 0.02)
    one.next()
    one.next()
    assert one.source.reads >= 2


def test_a_message_of_the_engine_is_told_once(running: Start) -> None:
    source = FakeSource(samples.practice(), samples.EVENTS)
    one = running(source, 60)
    one.next()
    fresh = Event(samples.NOW, "engine", "x", "hello")
    source.events = (*samples.EVENTS, fresh)
    source.hurry()
    assert one.next().events == (fresh,)


def test_a_failure_is_told_and_reading_goes_on(running: Start) -> None:
    source = FakeSource(samples.practice())
    source.failure = MooringError("the engine does not answer")
    one = running(source, 60)
    first = one.next()
    assert (first.snapshot, first.failure) == (None, "the engine does not answer")
    source.failure = None
    source.hurry()
    assert one.next().failure == ""


def test_a_reader_that_dies_says_so(running: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(FakeSource):
        def read(self) -> None:  # type: ignore[override]
            raise ZeroDivisionError

    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    one = running(Broken(samples.practice()), 60)
    assert "has ended" in one.next().failure
    one.feed.join(5)
    assert [args.exc_type for args in told] == [ZeroDivisionError]


def test_a_reading_that_hangs_does_not_keep_anybody_from_ending(running: Start) -> None:
    source = FakeSource(samples.practice())
    source.held.clear()
    one = running(source, 60)
    one.feed.stop()
    assert one.feed.daemon
    assert one.mailbox.take().snapshot is None


def test_a_mailbox_that_nobody_empties_keeps_only_the_newest(running: Start) -> None:
    rings: list[None] = []
    mailbox = Mailbox(lambda: rings.append(None))
    newest = Snapshot("quay", 2.0)
    mailbox.put(Snapshot("quay", 1.0), 1.0, [Event(float(n), "state", "x", str(n)) for n in range(EVENT_LIMIT)])
    mailbox.put(newest, 2.0, [Event(9.0, "state", "x", "last")])
    assert len(rings) == 1, "the screen is told once"
    delivery = mailbox.take()
    assert delivery.snapshot is newest
    assert delivery.read_at == 2.0
    assert len(delivery.events) == EVENT_LIMIT
    assert delivery.events[-1].text == "last"
    mailbox.put(None, 3.0, (), "gone")
    assert len(rings) == 2
    assert mailbox.take() == Delivery(None, 2.0, (), "gone")
