"""Names that act on a careless screen, in every dialog, in toasts, and in everything that is text and no screen."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
import unicodedata
from collections.abc import Sequence
from typing import Any

from textual.widgets import Button

from initiator.alerts import Alert
from initiator.errors import MooringError
from initiator.host.nodes import NodeRecord
from initiator.judgement import Verdict
from initiator.model import Event, Portal, Severity, Source
from safety.findings import Finding, Level
from safety.journal import Kind, Mark, Outcome, Unfinished
from safety.scope import disks
from tests.tui import fakes, samples
from tests.tui.fakes import Bench, FakeConnector, dashboard
from tests.tui.test_hostile import EVIL, assert_harmless
from tests.until import until
from tui import orders
from tui.cli import KINDS
from tui.connecting import Chap, Offer, Offers
from tui.export import csv_list, human_list, snapshot_json
from tui.plantext import plan_lines
from tui.reporting import save_report
from tui.screens.connect import ConnectScreen
from tui.screens.dialog import Dialog
from tui.screens.help import HelpScreen
from tui.screens.menu import MenuScreen
from tui.screens.order import OrderScreen, RecordsScreen
from tui.screens.progress import SecretScreen, UnfinishedScreen
from tui.screens.removal import PlanScreen
from tui.spoken import opening, sentence
from tui.words import ASCII, UNICODE


async def shown(bench: Bench, dialog: Dialog[Any], words: str) -> None:
    """Open a dialog and look at it."""
    bench.app.push_screen(dialog)
    await until(lambda: bench.app.screen is dialog and dialog.is_up, 30)
    await until(
        lambda: words in bench.flow() or words in bench.text(), 30, what=f"{words!r} in {type(dialog).__name__}"
    )
    assert_harmless(bench)


async def gone(bench: Bench) -> None:
    """Close it."""
    bench.app.screen.dismiss(None)
    await until(lambda: bench.app.screen is bench.app.main)


@EVIL
async def test_every_dialog_is_harmless(tmp_path: pathlib.Path, evil: str) -> None:
    failed = MooringError(f"{evil} failed", fix=f"{evil} way out")
    record = NodeRecord(f"iqn.2026-11.{evil}", Portal(evil), evil, evil, {"node.session.auth.username": evil})
    entry = Unfinished(tmp_path / "x.jsonl", evil, ("key",), samples.NOW, False, f"{evil} stopped")
    async with dashboard(tmp_path, samples.hostile(evil), size=(90, 40)) as bench:
        app, glyphs = bench.app, UNICODE
        world = app.store.world
        assert world is not None
        session = dataclasses.replace(world.snapshot.sessions[0], source=Source.KERNEL, details={"startup": evil})
        bench.kernel.records = (record,)
        connector = app.backends.connector
        assert isinstance(connector, FakeConnector)
        await shown(bench, OrderScreen(orders.login(record, bench.kernel), glyphs), "Cancel")
        await gone(bench)
        bench.kernel.failure = failed
        await shown(bench, OrderScreen(orders.logout(session, bench.kernel, connector), glyphs), "Cancel")
        app.screen.query_one("#choice-0", Button).press()
        await until(lambda: "way out" in bench.flow())
        assert_harmless(bench)
        await gone(bench)
        await shown(bench, RecordsScreen(glyphs), "Enter: look at what")
        await gone(bench)
        await shown(bench, UnfinishedScreen((entry,), glyphs), "stopped part-way")
        await gone(bench)
        await shown(bench, SecretScreen(evil), "CHAP secret")
        await gone(bench)
        await shown(bench, MenuScreen(evil, [(action, evil) for action in app.actions], glyphs), "Esc closes")
        await gone(bench)
        app.main.table.cursor = "engine:d:data"
        app.main.explain("WWID")
        await until(lambda: isinstance(app.screen, HelpScreen) and "WWID" in bench.flow())
        assert_harmless(bench)
        await gone(bench)
        bench.remover.failure = failed
        await shown(bench, PlanScreen(disks(world.snapshot.disks[0]), glyphs), "No plan could be made")
        await gone(bench)
        form = ConnectScreen(glyphs)
        await shown(bench, form, "Asks an array")
        found = Offers(
            connector.discover("192.0.2.1", Chap()).via, Portal(evil), (Offer(f"iqn.{evil}", Portal(evil)),), (evil,)
        )
        form._discovered(failed)
        await until(lambda: "way out" in bench.flow())
        assert_harmless(bench)
        form._discovered(found)
        await until(lambda: "offers 1 target" in bench.flow())
        assert_harmless(bench)
        await shown(
            bench, OrderScreen(orders.connect(found.found[0], found, Chap(evil, evil), connector), glyphs), "Cancel"
        )


@EVIL
async def test_every_toast_is_harmless(tmp_path: pathlib.Path, evil: str) -> None:
    failed = MooringError(f"{evil} failed", fix=f"{evil} way out")
    alert = Alert(samples.NOW, "disk", "engine:d:data", evil, Verdict.DOWN, Verdict.OK, evil)
    async with dashboard(tmp_path, samples.hostile(evil), size=(120, 60)) as bench:
        app, plan = bench.app, fakes.plan(bench.source.snapshot)
        app._tell((alert,))
        app.tell_outcome("Log in", failed)
        app.removals._begun(plan, failed)
        app.removals._read(failed)
        app._rules_answered(failed)
        app._played(failed)
        await until(lambda: bench.flow().count("way out") >= 2, what="the toasts")
        assert_harmless(bench)


def lines_of(evil: str, tmp_path: pathlib.Path) -> Sequence[str]:
    """Everything that is written line by line: for screen readers, for people, and the report of a removal."""
    snapshot = samples.hostile(evil)
    event = Event(samples.NOW, "state", evil, f"{evil} happened", Severity.BAD)
    finding = Finding(Level.WARN, "warn", evil, f"{evil} text", f"{evil} seen", f"{evil} fix")
    plan = fakes.plan(snapshot, findings=(finding,))
    path = tmp_path / "removal.jsonl"
    with fakes.begin(path, plan) as journal:
        fakes.run_by(journal, 1)
        journal.append(Kind.STEP, evil, step="claim", mark=Mark.FAILED)
        journal.append(Kind.NOTE, evil)
        fakes.end(journal, Outcome.STOPPED, f"Stopped: {evil}", evil)
    report = save_report(path, tmp_path)[0].read_text()
    planned = ["".join(piece.text for piece in line) for line in plan_lines(plan, 100, ASCII)]
    return [
        *opening(snapshot),
        sentence(event),
        *human_list(snapshot).splitlines(),
        *report.removesuffix("\n").split("\n"),
        *planned,
    ]


@EVIL
def test_every_line_of_text_is_harmless(tmp_path: pathlib.Path, evil: str) -> None:
    lines = lines_of(evil, tmp_path)
    assert len(lines) > 40
    for line in lines:
        assert not [character for character in line if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")], (
            line
        )


@EVIL
def test_every_export_is_harmless_and_whole(evil: str) -> None:
    snapshot = samples.hostile(evil)
    text = json.dumps(snapshot_json(snapshot))
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["volumes"][0]["label"] == evil, "for programs a name is what it is"
    for kind in KINDS:
        rows = list(csv.reader(io.StringIO(csv_list(snapshot, kind))))
        assert len(rows) == 1 + len([item for item in getattr(snapshot, kind) if kind != "volumes" or item.disks])
        cells = [cell for row in rows for cell in row]
        assert not [cell for cell in cells if any(unicodedata.category(c) in ("Cc", "Cf") for c in cell)]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
