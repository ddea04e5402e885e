"""One portal alone is probed: where that can be ordered, what is said, and what the pages of details show of it."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator

import pytest

from initiator import inventory
from initiator.engine.prober import Found
from initiator.fabric import EMPTY
from initiator.judgement import Verdict
from initiator.model import Session, SessionState, Snapshot, Source
from initiator.practice import faults
from initiator.practice.target import Target
from initiator.probing import wanted
from initiator.ways import Way, way_of, why_no_probe
from tests.host.kerneltree import KernelTree, naa
from tests.practice.conftest import OPEN, target
from tests.tui import samples
from tests.tui.fakes import Bench, dashboard
from tests.tui.test_judging import silent
from tests.until import until
from tui import detail, explain, orders, replaying
from tui.actions import BY_ID, Context, around, why_not
from tui.app import AppOptions
from tui.backends import HostSource
from tui.config import Config, Probes
from tui.feed import Judged, Probed
from tui.judging import Judge
from tui.policy import Policy
from tui.screens.main import MainScreen
from tui.screens.menu import MenuScreen
from tui.screens.order import OrderScreen
from tui.store import Store
from tui.views.view import row
from tui.words import UNICODE
from tui.world import Item, Kind, World

__all__ = ["target"]

CARRYING, IDLE, PATH, ENGINE, LINK = "kernel:s:1", "kernel:s:2", "kernel:p:1", "engine:s:vault-127.0.0.1", "link:lo"
ACTION = BY_ID["probe_one"]


@pytest.fixture
def switch() -> Iterator[HostSource]:
    """The probes of this host; nothing reads it here, so none begins."""
    source = HostSource()
    yield source
    source.close()


def context(key: str | None, switch: HostSource | None, snapshot: Snapshot | None = None) -> Context:
    world = World(snapshot or samples.kernel())
    item = world.index.get(key) if key else None
    chosen = row(Kind.SESSION, item) if item is not None else None  # type: ignore[arg-type]
    return around(Context(chosen, "", stale=False, paused=False, age_s=0.5), world, switch)


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (CARRYING, ""),
        (PATH, ""),
        (LINK, ""),
        (ENGINE, "pings its target several times a second itself"),
        ("engine:p:vault-127.0.0.1", "pings its target several times a second itself"),
        ("link:eth0", "No session goes over this link"),
        ("kernel:d:data", "Move the cursor to a session, a path or a link"),
        (None, "Move the cursor to a session, a path or a link"),
    ],
)
def test_where_a_portal_can_be_probed(switch: HostSource, key: str | None, word: str) -> None:
    reason = why_not(ACTION, context(key, switch))
    assert word in reason
    assert bool(word) == bool(reason)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"state": SessionState.LOGGED_OUT}, "logged out"),
        ({"initiator": None}, "initiator name"),
        ({"details": {"transport": "qla4xxx"}}, "made by a card"),
        ({"source": Source.ENGINE}, "own engine"),
        ({"state": SessionState.FAILED}, ""),
    ],
)
def test_beside_what_no_probe_can_stand(changes: dict[str, object], word: str) -> None:
    session = dataclasses.replace(samples.kernel().sessions[0], **changes)  # type: ignore[arg-type]
    assert word in why_no_probe(session)
    assert bool(word) == bool(why_no_probe(session))
    snapshot = dataclasses.replace(samples.kernel(), sessions=(session,))
    assert len(wanted(snapshot)) == (not word)


def test_where_all_are_probed_one_is_not_switched(switch: HostSource) -> None:
    switch.turn(True)
    assert "P ends that" in why_not(ACTION, context(IDLE, switch))
    switch.turn(False)
    assert why_not(ACTION, context(IDLE, switch)) == ""


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"read_only": "Read-only: you are not root."}, "not root"),
        ({"paused": True}, "paused"),
        ({"stale": True, "age_s": 9.0}, "9 s old"),
        ({"policy": Policy({"login": "Ask the network team."})}, "Ask the network team."),
        ({"policy": Policy({"everything": "A museum."})}, "A museum."),
        ({"policy": Policy({"remove": "Not today."})}, ""),
    ],
)
@pytest.mark.parametrize("name", ["probe", "probe_one"])
def test_what_forbids_probes_forbids_one_too(
    switch: HostSource, name: str, changes: dict[str, object], word: str
) -> None:
    given = dataclasses.replace(context(IDLE, switch), **changes)  # type: ignore[arg-type]
    assert word in why_not(BY_ID[name], given)
    assert bool(word) == bool(why_not(BY_ID[name], given))


def test_in_a_replay_nothing_probes() -> None:
    past = replaying.backends(None)  # type: ignore[arg-type]  # what is replayed does not matter
    world = World(samples.kernel())
    chosen = row(Kind.SESSION, samples.kernel().sessions[0])
    base = Context(chosen, "", stale=False, paused=False, age_s=0.5)
    assert "not a host as it is now" in why_not(ACTION, around(base, world, past.probes))


def test_a_way_outlives_its_session_and_tells_interfaces_apart() -> None:
    session = samples.kernel().sessions[0]
    again = dataclasses.replace(session, id="kernel:s:77", name="other")
    assert way_of(again) == way_of(session)
    bound = dataclasses.replace(session, details={**session.details, "interface": "iface0"})
    assert way_of(bound) != way_of(session)
    two = dataclasses.replace(samples.kernel(), sessions=(session, dataclasses.replace(bound, id="kernel:s:3")))
    assert [each.session for each in wanted(two, only={way_of(bound)})] == ["kernel:s:3"]
    assert len(wanted(two)) == 2
    assert wanted(two, only=()) == ()


def test_orders_switch_what_they_say(switch: HostSource) -> None:
    first, second = samples.kernel().sessions[:2]
    one = orders.probe_some((first,), switch)
    assert [choice.label for choice in one.choices] == ["Probe"]
    assert str(first.portal) in one.choices[0].run()
    assert switch.portals == {way_of(first)}
    both = orders.probe_some((first, second), switch)
    assert [choice.label for choice in both.choices] == ["Probe", "Stop"]
    both.choices[0].run()
    assert switch.portals == {way_of(first), way_of(second)}
    last = orders.probe_some((second,), switch)
    assert ([choice.label for choice in last.choices], last.title) == (["Stop"], f"Probe {second.portal} (on)")
    assert "Not probed any more" in last.choices[0].run()
    assert switch.portals == {way_of(first)}
    every = orders.probe(switch, 2)
    assert (every.title, [choice.label for choice in every.choices]) == (
        "Probes are on for 1 portal only",
        ["Switch on", "Switch off"],
    )
    every.choices[1].run()
    assert (switch.on, switch.portals) == (False, frozenset())


# --- on the dashboard ---------------------------------------------------------------------------------------------


async def press(bench: Bench, key: str, pressed: str = "b") -> None:
    bench.app.store.open_all(True)
    bench.app.main.table.update(bench.app.store.rows)
    bench.app.main.table.cursor = key
    await bench.pilot.press(pressed)


async def choose(bench: Bench, word: str) -> None:
    """Presses the button behind Cancel in the order that is asked about, and closes what it answers."""
    await until(lambda: isinstance(bench.app.screen, OrderScreen))
    await bench.pilot.pause()
    await bench.listen()
    await bench.pilot.press("right", "enter")
    await until(lambda: word in bench.flow())
    await bench.listen()
    await bench.pilot.press("enter")
    await until(lambda: isinstance(bench.app.screen, MainScreen))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_same_key_begins_and_ends_it(
    tmp_path: pathlib.Path, switch: HostSource, size: tuple[int, int]
) -> None:
    way = way_of(samples.kernel().sessions[0])
    async with dashboard(tmp_path, samples.kernel(), size=size) as bench:
        bench.app.backends = dataclasses.replace(bench.app.backends, probes=switch)
        await press(bench, CARRYING)
        await choose(bench, "Probed from now on")
        assert switch.portals == {way}
        assert not switch.on
        await press(bench, CARRYING)
        await choose(bench, "Not probed any more")
        assert switch.portals == frozenset()


async def test_a_policy_keeps_the_key_and_the_menu_from_it(tmp_path: pathlib.Path, switch: HostSource) -> None:
    options = AppOptions(practice=True, policy=Policy({"login": "Ask the network team."}))
    async with dashboard(tmp_path, samples.kernel(), options=options) as bench:
        bench.app.backends = dataclasses.replace(bench.app.backends, probes=switch)
        await press(bench, CARRYING)
        await until(lambda: "Ask the network team." in bench.toasts())
        assert isinstance(bench.app.screen, MainScreen)
        await bench.pilot.press("space")
        await until(lambda: isinstance(bench.app.screen, MenuScreen))
        await until(lambda: "probe this" in bench.flow())
        assert switch.portals == frozenset()


# --- pages of details ---------------------------------------------------------------------------------------------


def found(state: str = "ok", at: float = 0.0, rtt: float | None = 210.0, **more: object) -> Found:
    base = Found(samples.NOW + at, CARRYING, "127.0.0.1:3260", state, rtt_us=rtt, ready_us=330.0, access="standby")
    return dataclasses.replace(base, **more)  # type: ignore[arg-type]


def page_of(key: str, probed: dict[str, Probed], width: int = 60) -> list[str]:
    store = Store()
    store.apply(samples.kernel(), (), 0.0)
    store.open_all(True)
    chosen = store.row(key)
    assert chosen is not None, key
    assert store.world is not None
    page = detail.Page(store.world, {}, UNICODE, width, samples.NOW, Judged(probed=probed))
    lines = detail.lines(chosen, page)
    assert [field.name for field in explain.fields(lines, chosen.kind) if not field.text] == []
    return ["".join(piece.text for piece in line) for line in lines]


ANSWERS = (found(at=-1.0, rtt=900.0), found("silent", -0.5, None, reason="silent for 0.6 s"), found())


@pytest.mark.parametrize("key", [CARRYING, PATH])
def test_a_session_and_its_path_show_the_last_answers(key: str) -> None:
    text = "\n".join(page_of(key, {CARRYING: Probed(ANSWERS, alone=True)}))
    for told in (
        "Probe ─", "this portal by itself", "✓ answers", "210 µs · at most 900 µs", "after 330 µs",
        "standby", "Fault     11:06:39  silent: silent for 0.6 s", "✓ answers  900 µs · ready 330 µs",
    ):  # fmt: skip
        assert told in text, told
    assert text.index("Probe ─") < text.index("TCP ─")


def test_bad_news_come_with_their_reason_and_none_is_no_answer_yet() -> None:
    text = "\n".join(page_of(CARRYING, {CARRYING: Probed(ANSWERS[:2])}))
    assert "Answer    ✗ silent" in text
    assert "Why       silent for 0.6 s" in text
    assert "with every session of the kernel" in text
    assert "Fault" not in text, "that is the newest answer"
    assert "no answer yet" in "\n".join(page_of(CARRYING, {CARRYING: Probed(alone=True)}))


def test_a_link_shows_each_portal_that_is_probed_over_it() -> None:
    both = {CARRYING: Probed(ANSWERS), IDLE: Probed((found("lost", 0.0, None, reason="reset"),))}
    text = "\n".join(page_of(LINK, both))
    assert "Probes 2 ─" in text
    assert "127.0.0.1:3260  ✓ answers  210 µs" in text
    assert "127.0.0.2:3260  ✗ lost  reset" in text
    assert "this portal by itself" in "\n".join(page_of(LINK, {IDLE: Probed(ANSWERS, alone=True)}))


@pytest.mark.parametrize("key", [CARRYING, PATH, LINK, "kernel:d:data"])
def test_what_is_not_probed_says_nothing_of_it(key: str) -> None:
    assert "Probe" not in "\n".join(page_of(key, {}))


def test_every_state_of_a_probe_can_be_shown() -> None:
    for state in ("ok", "silent", "lost", "refused", "not-ready", "waiting"):
        said = found(state, 0.0, None, reason="no word of it " * 9, ready_us=None, access=None)
        lines = page_of(CARRYING, {CARRYING: Probed((said, said))}, 40)
        assert max(len(line) for line in lines if "no word" in line) <= 40, "a long reason is wrapped"


# --- from the key to the wire -------------------------------------------------------------------------------------


@pytest.fixture
def host(target: Target, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A host whose kernel has a session, with a disk, to each portal of a target that is really there."""
    tree = KernelTree(tmp_path / "host")
    for sid, portal in enumerate(target.config.portals, 7):
        tree.session(sid, target=OPEN, address=portal.host, local="127.0.0.1")
        for name in ("port", "persistent_port"):
            tree.attribute(f"iscsi_connection/connection{sid}:0/{name}", str(portal.port))
        tree.lun(sid, 0, kname=f"sd{'ab'[sid - 7]}", dev=f"8:{sid * 16}", digits=naa(1))
    monkeypatch.setattr("initiator.probing.wanted", functools.partial(wanted, root=tree.root))
    return tree.root


async def looked(judge: Judge, enough: Callable[[Snapshot, Judged], bool]) -> tuple[Snapshot, Judged]:
    """Looks again and again until it is enough."""
    async with asyncio.timeout(60):
        while True:
            snapshot, judged, _ = await asyncio.to_thread(judge.look)
            if enough(snapshot, judged):
                return snapshot, judged


def state_of(judged: Judged, session: str) -> str | None:
    probed = judged.probed.get(session)
    return probed.answers[-1].state if probed is not None and probed.answers else None


def verdict_of(judged: Judged, path: str) -> Verdict | None:
    return judged.health.judgements[path].verdict if judged.health is not None else None


async def test_one_portal_is_probed_judged_and_left_again(target: Target, host: pathlib.Path) -> None:
    settings = Config(probes=Probes(on=False, interval_s=0.05))
    judge = Judge(lambda: inventory.read(host), settings, lambda _: EMPTY, silent())
    try:
        snapshot, judged = await looked(judge, lambda *_: True)
        assert judged.probed == {}
        sessions: list[Session] = [each for each in snapshot.sessions if each.source is Source.KERNEL]
        assert len(sessions) == 2
        chosen = sessions[0]
        path = next(each for each in snapshot.paths if each.session == chosen.id)
        judge.portals = frozenset({way_of(chosen)})
        _, judged = await looked(judge, lambda _, judged: state_of(judged, chosen.id) == "ok")
        assert set(judged.probed) == {chosen.id}
        assert judged.probed[chosen.id].alone
        assert len(target.server.sessions) == 1
        portal = str(chosen.portal)
        target.board.apply(faults.parse("cut", [portal], target.config.portals, ()))
        _, judged = await looked(judge, lambda _, judged: verdict_of(judged, path.id) is Verdict.AT_RISK)
        assert judged.health is not None
        assert "a probe " in judged.health.judgements[path.id].reason
        assert state_of(judged, chosen.id) in ("silent", "lost"), "which of them depends on how late this looks"
        target.board.apply(faults.parse("plug", [portal], target.config.portals, ()))
        await looked(judge, lambda _, judged: state_of(judged, chosen.id) == "ok")
        judge.portals = frozenset()
        _, judged = await looked(judge, lambda *_: True)
        assert judged.probed == {}
        await until(lambda: not target.server.sessions, seconds=30)
    finally:
        judge.close()


async def test_a_way_whose_session_is_gone_waits_for_it(target: Target, host: pathlib.Path) -> None:
    settings = Config(probes=Probes(on=False, interval_s=0.05))
    judge = Judge(lambda: inventory.read(host), settings, lambda _: EMPTY, silent())
    try:
        judge.portals = frozenset({Way("iqn.2026-11.x:gone", "192.0.2.1:3260", "default")})
        _, judged = await looked(judge, lambda *_: True)
        assert judged.probed == {}
        assert not target.server.sessions
    finally:
        judge.close()


def test_what_the_policy_forbids_the_settings_do_not_begin() -> None:
    settings = Config(probes=Probes(on=True))
    judge = Judge(samples.kernel, settings, lambda _: EMPTY, silent(), no_probes="Ask the network team.")
    _, judged, events = judge.look()
    assert not judge.probing
    assert judged.probed == {}
    assert [event.text for event in events] == ["The settings want probes, but: Ask the network team."]
    judge.close()


def test_the_item_of_a_row_is_all_that_counts() -> None:
    from tui.beside import sessions_at

    world = World(samples.kernel())
    items: list[Item] = [*samples.kernel().disks, *samples.kernel().volumes]
    assert [sessions_at(item, world) for item in items] == [()] * len(items)
    assert len(sessions_at(world.link("link:lo"), world)) >= 2
