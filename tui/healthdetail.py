"""What is judged of a thing, for its detail page: the verdict under its title, its way, and what is lost with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from initiator.chain import Chain, Kind, chain_of
from initiator.judgement import Judgement, Verdict, Ways
from initiator.losses import Loss, losses
from initiator.model import Disk, Link, Path, Session
from tui import charts
from tui.layout import labelled, paragraph
from tui.words import Line, Mark, Piece, mark, say

if TYPE_CHECKING:
    from initiator.history import History
    from tui.detail import Page

HOUR, DAY = 60, 24 * 60
"""Minutes."""
MARKS = {
    Verdict.OK: Mark("good", "ok", "good"),
    Verdict.DEGRADED: Mark("warn", "degraded", "warn"),
    Verdict.AT_RISK: Mark("warn", "at risk", "bad"),
    Verdict.DOWN: Mark("bad", "down", "bad"),
    Verdict.UNKNOWN: Mark("unknown", "unknown", "warn"),
}


def with_health(lines: list[Line], item: object, page: Page) -> list[Line]:
    """A detail page with what is judged of its thing: what is wrong under the title, the rest below."""
    judged = page.judged
    if judged.health is None or not isinstance(item, Disk | Path | Link | Session) or not lines:
        return lines
    judgement = judged.health.judgements.get(item.id)
    below: list[Line] = []
    if isinstance(item, Path):
        below = page.section("Way", _way(chain_of(item, page.world.snapshot, judged.fabric), page))
    elif isinstance(item, Disk) and item.id in judged.health.ways:
        below = page.section("Redundancy", _ways(judged.health.ways[item.id], page))
    elif isinstance(item, Link | Session):
        name, kind = (item.name, Kind.LINK) if isinstance(item, Link) else (str(item.portal), Kind.PORTAL)
        every = losses(page.world.snapshot, judged.fabric)
        told = [loss for loss in every if (loss.kind, loss.name) == (kind, name)]
        below = page.section("If it is lost", [line for loss in told for line in _loss(loss, page)])
    past = _past(item, page, judged.history) if judged.history is not None else []
    return [lines[0], *_verdict(judgement, page), *lines[1:], *page.section("Past", past), *below]


def _past(item: Disk | Path | Link | Session, page: Page, history: History) -> list[Line]:
    """The last hour and day of a path or link, each as one line; nothing of what was never measured."""
    rows: tuple[tuple[str, str], ...]
    if isinstance(item, Path):
        rows = (("Latency", "latency_us"), ("Read", "read_bytes_s"), ("Written", "write_bytes_s"), ("Errors", "errors"))
    elif isinstance(item, Link):
        rows = (("Received", "rx_bytes_s"), ("Sent", "tx_bytes_s"))
    else:
        return []
    width = max(12, min(HOUR, page.width - 18))
    lines: list[Line] = []
    for title, what in rows:
        for span, minutes in (("1 h", HOUR), ("24 h", DAY)):
            values = condensed(history.values(item.id, what, minutes, minutes=True), width)
            known = [value for value in values if value is not None]
            if len(known) > 1 and any(known):
                drawn = charts.sparkline(values, width, page.glyphs)
                lines.append((Piece(f"{title:<9}{span:>4}  ", "dim"), Piece(drawn, "spark")))
    return lines


def condensed(values: Sequence[float | None], width: int) -> list[float | None]:
    """Values made fewer by taking the mean of neighbours, so that all of them fit into `width`."""
    if len(values) <= width:
        return list(values)
    made: list[float | None] = []
    for cell in range(width):
        part = values[cell * len(values) // width : (cell + 1) * len(values) // width]
        known = [value for value in part if value is not None]
        made.append(sum(known) / len(known) if known else None)
    return made


def _verdict(judgement: Judgement | None, page: Page) -> list[Line]:
    """Nothing of what is well: its state says so."""
    if judgement is None or judgement.verdict is Verdict.OK:
        return []
    word = MARKS[judgement.verdict]
    sign = f"{getattr(page.glyphs, word.shape)} {word.word}: {say(judgement.reason)}"
    seen = [say(fact) for fact in judgement.evidence if fact != judgement.reason]
    return [
        *paragraph(sign, page.width, word.role),
        *(line for fact in seen for line in paragraph(fact, page.width, "dim", indent=2)),
    ]


def _way(chain: Chain, page: Page) -> list[Line]:
    """From the path group down to the switch; what the other sections tell is left out."""
    lane, group, port = chain.lane, chain.group, chain.port
    facts: list[tuple[str, str | Line]] = []
    if group is not None:
        number = f"number {group.number}" if group.number is not None else ""
        priority = f"priority {group.priority}" if group.priority is not None else ""
        facts.append(("Group", page.join(number, say(group.selector or ""), priority)))
    if port is not None and port.group is not None:
        facts.append(("Target port", page.join(f"group {port.group}", f"port {port.number}" if port.number else "")))
    if lane is not None:
        down: Line = ()
        for index, link in enumerate(lane.way):
            down += (Piece(f" {page.glyphs.arrow} " if index else ""), Piece(f"{say(link.name)} "))
            down += mark(link.state).pieces(page.glyphs)
        models = page.join(*(say(nic.model) for nic in lane.nics if nic.model))
        route = lane.route
        gateway = f"by way of {say(route.gateway)}" if route is not None and route.gateway else "direct"
        switches = (page.join(say(each.name or each.switch), say(each.port or "")) for each in lane.neighbours)
        facts += [
            ("Down to", down),
            ("Card", models),
            ("Route", page.join(f"through {say(route.device or '?')}", gateway) if route is not None else ""),
            ("Network", say(lane.network or "")),
            ("Switch", ", ".join(switches)),
            ("Not known", ", ".join(lane.unknown)),
        ]
    return labelled(facts, page.width)


def _ways(ways: Ways, page: Page) -> list[Line]:
    shared = ", ".join(f"{each.kind} {say(each.name)} under {each.paths} paths" for each in ways.shared)
    return labelled(
        [
            ("Paths", f"{ways.working} of {ways.total} work, {ways.independent} independent"),
            ("Shared", shared),
            ("Not known", ", ".join(ways.unknown)),
        ],
        page.width,
    )


def _loss(loss: Loss, page: Page) -> list[Line]:
    role = "warn" if loss.ends or loss.unsure else ""
    return paragraph(say(loss.text), page.width, role)
