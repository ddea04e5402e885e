"""What `?` is about: every field, state, column and finding on the screen, each with its word of the glossary.

No Textual here. The tables are whole: a test goes over every label of every page, every column and every rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from initiator.judgement import Verdict
from tui import glossary
from tui.guardwords import WHY
from tui.healthdetail import MARKS
from tui.terms import Term
from tui.views.view import View
from tui.words import LABELLED, Line, mark, say
from tui.world import Checked, Happened, Kind, Row, Target, Trouble

if TYPE_CHECKING:
    from safety.plan import Plan

_STANDS_FOR: Mapping[str, str] = {
    "finding": "About|Rule|What to do|What is not as it should be|Findings",
    "evidence": "Seen|Evidence",
    "not known": "No answer|Not known",
    "reason": "Why it matters|Why|How it is|What the runner said",
    "event": "What happened|Time|Kind|Events",
    "state": "What|State|Since",
    "warning": "Weight",
    "target": "Target|Targets|Target, disk, path",
    "alias": "Alias",
    "initiator": "Initiator|Host",
    "portal": "Portal|Portals",
    "disk": "Disk|Disks|On disk",
    "LUN": "LUN|LUNs",
    "WWID": "WWID",
    "product": "Product",
    "serial number": "Serial",
    "size": "Size",
    "usage": "Free|Used|Usage",
    "device": "Device|From",
    "cache": "Cache",
    "source": "Source|Held by|By",
    "map": "Map|Name|Joined",
    "path selector": "Policy",
    "queue_if_no_path": "No path",
    "path": "Path|Paths|Way",
    "ALUA": "Access",
    "active": "In use",
    "path group": "Group",
    "target port group": "Target port",
    "read and write counters": "Reads|Writes|I/O|Read|Written",
    "in flight": "In flight",
    "I/O error": "Errors",
    "time-out": "Timeouts",
    "path failure": "Failures",
    "latency": "Latency|Size, time",
    "last minute": "Last minute|Past",
    "session": "Session|Sessions|Touches",
    "what is carried": "Carries",
    "ISID": "ISID",
    "connection": "Wire|TCP",
    "digest": "Digests",
    "CHAP": "CHAP",
    "reconnect": "Relogins",
    "start-up": "Start-up",
    "negotiated values": "Negotiated",
    "round-trip time": "RTT",
    "retransmission": "Resent",
    "unacknowledged": "Unacked",
    "delivery rate": "Delivers",
    "link": "Link|Links|Down to|Card",
    "speed": "Speed",
    "MTU": "MTU",
    "address": "Address|Addresses",
    "bond": "Part of|Made of",
    "traffic": "Traffic|In|Out|Received|Sent",
    "dropped packet": "Dropped",
    "carrier": "Carrier",
    "MAC address": "MAC",
    "route": "Route|Network",
    "switch": "Switch",
    "independent path": "Redundancy|Shared",
    "what is lost with it": "If it is lost",
    "volume": "Volumes",
    "mount point": "Mounted|Mounted on|Where",
    "label": "Label",
    "UUID": "UUID",
    "subtree": "Subtree",
    "mount options": "Options",
    "file system": "Type",
    "mount namespace": "Namespace|Seen in",
    "removal": "Begun|Outcome|Took",
    "journal": "Journal",
    "probe": "Probe|Probes|Probed|Answer|Fault|Ready",
    "step": "Steps",
}
LABELS: Mapping[str, str] = {label: word for word, labels in _STANDS_FOR.items() for label in labels.split("|")}
"""The word behind each label, heading and column title."""

OF_KIND: Mapping[tuple[Kind, str], str] = {
    (Kind.VOLUME, "Kind"): "file system",
    (Kind.LINK, "Kind"): "speed",
    (Kind.LINK, "Errors"): "damaged packet",
    (Kind.LINK, "Disk"): "what is carried",
}
"""The same labels, where they mean something else on the page of a kind."""
UNDER: Mapping[tuple[str, str], str] = {
    ("Link", "Kind"): "speed",
    ("Link", "Errors"): "damaged packet",
    ("TCP", "State"): "connection",
    ("Redundancy", "Paths"): "independent path",
}
"""The same labels, where they mean something else below a heading."""
HEADS: Mapping[Kind, str] = {
    **dict.fromkeys((Kind.SESSIONS, Kind.SESSION), "session"),
    **dict.fromkeys((Kind.LINKS, Kind.LINK), "link"),
    **dict.fromkeys((Kind.TROUBLE, Kind.CHECK), "finding"),
    **{kind: kind.value for kind in (Kind.TARGET, Kind.DISK, Kind.VOLUME, Kind.PATH, Kind.EVENT, Kind.REMOVAL)},
}
"""The word for what a row stands for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Topic:
    """One thing that can be asked about."""

    name: str
    """As it stands on the screen."""
    where: str
    """What it is there: `field`, `column`, `state`, `finding`, `word`."""
    text: tuple[str, ...]
    """Paragraphs: what it is, why it matters, what to do."""
    value: str = ""
    """What it says now."""
    word: str = ""
    """The word of the glossary, where that is another one than its name."""

    @property
    def key(self) -> str:
        """The same for as long as it is there."""
        return f"{self.where}:{self.name}"


def topics(row: Row | None, page: Sequence[Line], view: View, verdict: Verdict | None = None) -> list[Topic]:
    """All that can be asked about what is on the screen, the selected thing itself first, then every word."""
    found = [] if row is None else [*_itself(row, verdict), *fields(page, row.kind)]
    found += columns(view, row.kind if row else None)
    own, others = glossary.for_kind(row.kind if row else None)
    found += [Topic(term.name, "word", (term.text,)) for term in (*own, *others)]
    return list({topic.key: topic for topic in found}.values())


def _itself(row: Row, verdict: Verdict | None) -> Iterator[Topic]:
    """The finding or event that a row is, or its state, judged and told; then its kind."""
    item = row.item
    if isinstance(item, Checked):
        yield finding(item.rule, item.name, item.reason, item.fix)
    elif isinstance(item, Happened | Trouble):
        severity = item.event.severity if isinstance(item, Happened) else item.severity
        yield _word(mark(severity).word, "state", item.name)
    if verdict not in (None, Verdict.OK):
        yield _word(MARKS[verdict].word, "state", "judged by all that is known of it")
    state = item.mark.word if isinstance(item, Target) else mark(item.state).word if hasattr(item, "state") else ""
    if state:
        yield _word(state, "state")
    yield _word(HEADS[row.kind], "kind")


def finding(rule: str, title: str, reason: str, fix: str) -> Topic:
    """A rule of best practice that fires: the rule's own words, then what holds for this host."""
    from safety.advice.catalogue import RULES

    own = next((each for each in RULES if each.id == rule), None)
    told = [own.title + ".", own.reason, f"What to do: {own.fix}."] if own else [title]
    here = [each for each in (reason, fix) if own is None or each not in (own.reason, own.fix)]
    return Topic(rule, "finding", tuple(filter(None, (*told, *here))))


def plan_topics(plan: Plan) -> list[Topic]:
    """All that can be asked about a plan: its findings, the worst first, then every word."""
    found = []
    for each in plan.findings:
        fix = f"What to do: {say(each.fix)}." if each.fix else ""
        text = tuple(filter(None, (WHY.get(each.code, ""), fix)))
        found.append(Topic(each.code, "finding", text, say(each.text)))
    own, others = glossary.for_kind(Kind.REMOVAL)
    found += [Topic(term.name, "word", (term.text,)) for term in (*own, *others)]
    return list({topic.key: topic for topic in found}.values())


def _word(name: str, where: str, value: str = "") -> Topic:
    term = glossary.find(name)
    return Topic(name, where, (term.text,) if term else (), value)


def term_of(label: str, kind: Kind | None = None, heading: str = "") -> Term | None:
    """The word behind a label of a page, or the title of a column; of a heading by its first words."""
    name = UNDER.get((heading, label)) or (OF_KIND.get((kind, label)) if kind else None) or LABELS.get(label)
    return glossary.find(name or label)


def columns(view: View, kind: Kind | None) -> list[Topic]:
    """The columns of a view."""
    found = ((each.title, term_of(each.title, kind)) for each in view.columns)
    return [_topic(title, "column", term) for title, term in found]


def _topic(label: str, where: str, term: Term | None, value: str = "") -> Topic:
    word = term.name if term is not None and term.name.casefold() != label.casefold() else ""
    return Topic(label, where, (term.text,) if term else (), value, word)


def fields(page: Iterable[Line], kind: Kind) -> list[Topic]:
    """The labels and headings of a page from the top down, each once, with what stands beside them."""
    found: dict[str, Topic] = {}
    heading = ""
    for label, value, role in labels(page):
        heading = label if role == "heading" else heading
        topic = _topic(label, "field", term_of(label, kind, heading), value)
        found.setdefault(topic.key, topic)
    return list(found.values())


def labels(page: Iterable[Line]) -> Iterator[tuple[str, str, str]]:
    """Every label and heading of a page: itself, what stands beside it, and its role."""
    for line in page:
        if not line or line[0].role not in LABELLED or not line[0].text.strip():
            continue
        role = line[0].role
        beside = "" if role == "heading" else "".join(piece.text for piece in line[1:]).strip()
        text = line[0].text.strip().rstrip("=")
        yield (stem(text) if role == "heading" else text), say(beside), role


def stem(heading: str) -> str:
    """A heading without its numbers: `Paths 2 of 3 work` is about paths."""
    return heading if heading in LABELS else heading.partition(" ")[0]
