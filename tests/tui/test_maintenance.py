"""Orders around paths and views: a path out and back, probes on and off, an empty session of the engine, a file."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Callable

import pytest

from initiator.errors import MooringError
from initiator.fabric import EMPTY
from initiator.health import assess
from initiator.judgement import Verdict
from initiator.model import Disk, DiskState, Path, PathState, Session, Severity, Snapshot, Source
from safety.journal import Journal, Outcome
from safety.past import Past, Shelf
from safety.plan import _digest
from safety.scope import Reach, Scope
from tests import wiring
from tests.tui import fakes, samples
from tests.tui.fakes import dashboard
from tests.tui.test_judging import silent
from tests.until import until
from tui import exporting, judging, orders
from tui.actions import BY_ID, Context, around, why_not
from tui.config import Config, Probes
from tui.feed import Judged
from tui.judging import Judge
from tui.policy import Policy
from tui.removing import paths_out
from tui.screens.order import OrderScreen
from tui.store import Store
from tui.verdict import troubles, well
from tui.views.catalogue import BY_ID as VIEWS
from tui.views.overview import OVERVIEW, tiles
from tui.views.view import Draw, Sight, listed, row
from tui.words import UNICODE
from tui.world import Item, Kind, World


def context(item: Item | None, world: World, kind: Kind = Kind.PATH, *, probes: bool = True) -> Context:
    chosen = row(kind, item) if item is not None else None
    return around(Context(chosen, "", stale=False, paused=False, age_s=0.5), world, probes)


def two_ways(state: PathState = PathState.ACTIVE) -> Snapshot:
    """A disk of the kernel with two paths; `state` is that of the second."""
    snapshot, _ = wiring.two_links()
    return wiring.changed(snapshot, dataclasses.replace(snapshot.paths[1], state=state))


def reason(name: str, item: Item | None, snapshot: Snapshot, kind: Kind = Kind.PATH) -> str:
    return why_not(BY_ID[name], context(item, World(snapshot), kind))


def test_one_path_of_a_map_can_be_taken_out() -> None:
    snapshot = two_ways()
    assert reason("path_out", snapshot.paths[0], snapshot) == ""


@pytest.mark.parametrize("state", [PathState.FAILED, PathState.OFFLINE, PathState.UNKNOWN])
def test_the_last_path_that_works_is_never_taken_out(state: PathState) -> None:
    snapshot = two_ways(state)
    assert "No other path of its disk works" in reason("path_out", snapshot.paths[0], snapshot)
    assert reason("path_out", snapshot.paths[1], snapshot) == ""


def test_what_is_no_path_of_the_kernel_is_not_taken_out() -> None:
    engine, kernel = samples.practice(), two_ways()
    assert "engine" in reason("path_out", engine.paths[0], engine)
    assert "Move the cursor to a path" in reason("path_out", kernel.disks[0], kernel, Kind.DISK)
    assert "Move the cursor to a path" in reason("path_out", None, kernel)


def test_a_policy_that_forbids_removals_forbids_taking_paths_out_too() -> None:
    snapshot = two_ways()
    base = context(snapshot.paths[0], World(snapshot))
    removals = dataclasses.replace(base, policy=Policy({"remove": "Ask the storage team."}))
    assert "storage team" in why_not(BY_ID["path_out"], removals)
    undo = dataclasses.replace(base, policy=Policy({"undo": "Ask the storage team."}))
    assert why_not(BY_ID["path_out"], undo) == ""
    assert "storage team" in why_not(BY_ID["path_back"], undo)


def past(folder: pathlib.Path, name: str, reach: Reach, outcome: Outcome) -> Past:
    made = fakes.plan(samples.practice())
    scope = Scope(reach, made.scope.subjects, made.scope.name)
    plan = dataclasses.replace(made, scope=scope, digest="")
    plan = dataclasses.replace(plan, digest=_digest(plan))
    with fakes.begin(folder / f"{name}.jsonl", plan) as journal:
        assert isinstance(journal, Journal)
        fakes.run_by(journal, 1)
        fakes.walk(journal, plan)
        fakes.end(journal, outcome, "the end")
    return next(each for each in Shelf(folder).look() if each.path.stem == name)


def test_a_path_is_out_until_it_was_brought_back(tmp_path: pathlib.Path) -> None:
    before = [
        past(tmp_path, "disk", Reach.DISKS, Outcome.DONE),
        past(tmp_path, "back", Reach.PATH, Outcome.UNDONE),
        past(tmp_path, "first", Reach.PATH, Outcome.DONE),
    ]
    out = past(tmp_path, "out", Reach.PATH, Outcome.DONE)
    refused = past(tmp_path, "refused", Reach.PATH, Outcome.REFUSED)
    assert [each.path for each in paths_out([refused, out, *before])] == [out.path]
    back = past(tmp_path, "last", Reach.PATH, Outcome.UNDONE)
    assert paths_out([back, refused, out, *before]) == ()


async def test_a_path_that_is_out_is_offered_to_be_brought_back(tmp_path: pathlib.Path) -> None:
    out = past(tmp_path, "out", Reach.PATH, Outcome.DONE)
    async with dashboard(tmp_path, two_ways()) as bench:
        bench.remover.done = (out,)
        await bench.pilot.press("M")
        await until(lambda: "the end" in bench.flow() and "Undo" in bench.flow())
        assert "Resume" not in bench.flow()
        await bench.listen()
        await bench.pilot.click("#undo")
        await until(lambda: bench.remover.undone == [(out.path,)])


# --- sessions -----------------------------------------------------------------------------------------------------


def test_a_session_of_the_engine_is_logged_out_only_if_no_disk_of_it_is_attached() -> None:
    snapshot = samples.practice()
    session = snapshot.sessions[0]
    assert "It carries data" in reason("logout", session, snapshot, Kind.SESSION)
    free = tuple(dataclasses.replace(disk, state=DiskState.AVAILABLE) for disk in snapshot.disks)
    assert reason("logout", session, dataclasses.replace(snapshot, disks=free), Kind.SESSION) == ""


@pytest.mark.parametrize("source", list(Source))
def test_whoever_holds_a_session_logs_it_out(source: Source) -> None:
    kernel, connector = fakes.FakeKernel(), fakes.FakeConnector()
    session: Session = dataclasses.replace(samples.practice().sessions[0], source=source)
    orders.logout(session, kernel, connector).choices[0].run()
    assert kernel.given == ([("logout", session.id)] if source is Source.KERNEL else [])
    assert connector.given == ([("logout", session.id)] if source is Source.ENGINE else [])


# --- probes -------------------------------------------------------------------------------------------------------


def test_probes_need_a_session_of_the_kernel_and_a_host_that_is_read_now() -> None:
    assert reason("probe", None, two_ways()) == ""
    assert "no session of the kernel" in reason("probe", None, samples.practice())
    there = context(None, World(two_ways()), probes=False)
    assert "Nothing probes here" in why_not(BY_ID["probe"], there)


def test_probes_begin_and_end_with_the_next_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[str] = []

    class Standing:
        def __init__(self, changed: Callable[[], None], interval: float) -> None:
            alive.append("probe")

        def want(self, snapshot: Snapshot) -> None:
            assert alive

        def wrong(self) -> dict[str, str]:
            return {"s": "no answer"}

        def close(self) -> None:
            alive.clear()

    monkeypatch.setattr(judging, "_Probes", Standing)
    snapshot, _ = wiring.two_links()
    judge = Judge(lambda: snapshot, Config(probes=Probes(on=False)), lambda _: EMPTY, silent())
    judge.look()
    assert not alive
    order = orders.probe(judge.probing, 2, lambda on: setattr(judge, "probing", on))
    assert "are on" in order.choices[0].run()
    judge.look()
    assert alive
    assert judge.wrong() == {"s": "no answer"}
    assert "are off" in orders.probe(judge.probing, 2, lambda on: setattr(judge, "probing", on)).choices[0].run()
    judge.look()
    assert not alive
    assert judge.wrong() == {}
    judge.close()


# --- export -------------------------------------------------------------------------------------------------------


def sheet_of(view: str, snapshot: Snapshot, query: str = "") -> exporting.Sheet:
    store = Store()
    store.look_at(view)
    store.apply(snapshot, samples.EVENTS, 0.0)
    store.filter(query)
    assert store.sight is not None
    return exporting.sheet(store.view, store.rows, Draw(store.sight, store.samples, UNICODE, samples.NOW))


@pytest.mark.parametrize("view", list(VIEWS))
def test_every_view_can_be_saved_in_both_forms(view: str) -> None:
    found = sheet_of(view, samples.practice(pulled=samples.PORTALS[1]))
    told = list(csv.reader(io.StringIO(exporting.as_csv(found))))
    assert tuple(told[0]) == tuple(column.title for column in VIEWS[view].columns)
    assert len(told) == len(found.rows) + 1
    body = json.loads(exporting.as_json(found))
    assert (body["schema"], body["host"], body["view"]) == (1, "quay", view)
    assert len(body["rows"]) == len(found.rows)


def test_what_is_saved_is_what_is_shown_and_whole() -> None:
    found = sheet_of("disks", samples.practice(), "vault")
    (only,) = json.loads(exporting.as_json(found))["rows"]
    assert only["Disk"] == "vault"
    assert only["WWID"] == samples.practice().disks[2].wwid
    assert only["State"] == "✓ attached"


def test_a_name_is_no_formula_and_no_escape() -> None:
    for evil in (*samples.EVIL, "=cmd|'/c calc'!A1"):
        for view in ("disks", "sessions", "tree", "volumes", "links"):
            for cell in (
                cell
                for line in csv.reader(io.StringIO(exporting.as_csv(sheet_of(view, samples.hostile(evil)))))
                for cell in line
            ):
                assert not cell.startswith(("=", "+", "-", "@"))
                assert "\x1b" not in cell


def test_a_file_is_private_and_none_is_overwritten(tmp_path: pathlib.Path) -> None:
    order = orders.export("Disks", sheet_of("disks", samples.practice()), tmp_path, "20261127-120000")
    assert [choice.label for choice in order.choices] == ["CSV", "JSON"]
    assert "3 rows" in order.choices[0].run()
    path = tmp_path / "mooring-disks-20261127-120000.csv"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(MooringError, match="File exists"):
        order.choices[0].run()


async def test_a_key_saves_the_view(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with dashboard(tmp_path, view="disks") as bench:
        await bench.pilot.press("e")
        await until(lambda: isinstance(bench.app.screen, OrderScreen) and "3 rows" in bench.flow())
        await bench.listen()
        await bench.pilot.press("right", "enter")
        await until(lambda: "Saved mooring-disks-" in bench.flow())
        assert len(list(tmp_path.glob("mooring-disks-*.csv"))) == 1


# --- the overview goes by the verdicts ----------------------------------------------------------------------------


def judged(snapshot: Snapshot) -> Judged:
    _, fabric = wiring.two_links()
    return Judged(assess(snapshot, fabric), fabric)


def states(snapshot: Snapshot) -> dict[str, str]:
    told = judged(snapshot)
    assert told.health is not None
    world = World(snapshot)
    found = {key: (severity, text) for severity, text, key in troubles(world, snapshot.taken_at, told)}
    sight = Sight(world, troubles=found, verdicts=told.health.judgements)
    draw = Draw(sight, {}, UNICODE, samples.NOW)
    rows, _ = listed(OVERVIEW, sight)
    return {each.item.name: "".join(piece.text for piece in OVERVIEW.cells(each, draw, [40] * 7)[1]) for each in rows}


def test_the_overview_shows_verdicts() -> None:
    name = two_ways().disks[0].name
    assert states(two_ways())[name] == "✓ ok"
    assert states(two_ways(PathState.FAILED))[name] == "▲ at risk"
    gone = two_ways(PathState.FAILED)
    gone = wiring.changed(gone, dataclasses.replace(gone.paths[0], state=PathState.FAILED))
    assert states(gone)[name] == "✗ down"


def test_tiles_count_what_is_judged_well() -> None:
    def told(snapshot: Snapshot) -> dict[str, tuple[int, int]]:
        return {tile.title: (tile.working, tile.total) for tile in tiles(World(snapshot), judged(snapshot))}

    assert told(two_ways())["Disks"] == (1, 1)
    hurt = told(two_ways(PathState.FAILED))
    assert hurt["Disks"] == (0, 1)
    assert hurt["Paths"] == (1, 2)


def test_a_disk_that_is_meant_to_have_one_path_is_no_trouble() -> None:
    snapshot = two_ways()
    one = dataclasses.replace(
        snapshot,
        paths=snapshot.paths[:1],
        disks=(dataclasses.replace(snapshot.disks[0], paths=snapshot.disks[0].paths[:1]),),
    )
    told = judged(one)
    assert told.health is not None
    assert told.health.judgements[one.disks[0].id].verdict is Verdict.AT_RISK
    assert well(one.disks[0].id, told) is True
    assert [text for _, text, key in troubles(World(one), 0.0, told) if key == one.disks[0].id] == []


def test_what_is_judged_worse_comes_first_among_equals() -> None:
    snapshot = two_ways(PathState.FAILED)
    told = judged(snapshot)
    found = list(troubles(World(snapshot), 0.0, told))
    assert found
    ranks = [(Severity.BAD, Severity.WARN, Severity.NOTE).index(severity) for severity, _, _ in found]
    assert ranks == sorted(ranks)


def test_samples_are_of_the_kernel_where_that_matters() -> None:
    snapshot = two_ways()
    assert isinstance(snapshot.disks[0], Disk)
    assert isinstance(snapshot.paths[0], Path)
    assert snapshot.disks[0].source is Source.KERNEL
