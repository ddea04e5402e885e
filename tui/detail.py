"""The right pane: everything worth knowing about the selected thing, as lines of text."""

from __future__ import annotations

import dataclasses

from initiator.model import Disk, Link, Map, Path, Session, TcpInfo, Volume
from safety.past import Past
from tui import charts
from tui.feed import UNJUDGED, Judged
from tui.healthdetail import with_health
from tui.layout import labelled, paragraph, width_of, wrap
from tui.pasttext import past_lines
from tui.probetext import with_probe
from tui.rowtext import Samples, speed, used
from tui.words import (
    UNKNOWN,
    Glyphs,
    Line,
    Mark,
    Piece,
    clock,
    count,
    day_and_time,
    latency,
    mark,
    say,
    short_target,
    size,
    span,
)
from tui.world import Checked, Group, Happened, Item, Row, Target, Trouble, World, works

TREND_HEIGHT = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """What a detail page is made with."""

    world: World
    samples: Samples
    glyphs: Glyphs
    width: int
    now: float
    """Unix time, for ages."""
    judged: Judged = UNJUDGED

    def heading(self, text: str) -> Line:
        """A section title with a rule behind it."""
        rule = self.glyphs.rule * max(0, self.width - len(text) - 1)
        return (Piece(f"{text} ", "heading"), Piece(rule, "rule"))

    def section(self, text: str, lines: list[Line]) -> list[Line]:
        """A titled block with a blank line before it; nothing when there is nothing in it."""
        return [(), self.heading(text), *lines] if lines else []

    def title(self, text: str, state: Mark) -> Line:
        """The first line: what it is, and its state at the right edge."""
        state_pieces = state.pieces(self.glyphs)
        name = Piece(text, "title")
        gap = self.width - width_of((name,)) - width_of(state_pieces)
        return (name, Piece(" " * max(2, gap)), *state_pieces)

    def time(self, microseconds: float | None) -> str:
        """A latency, or an empty string."""
        return latency(microseconds, self.glyphs)

    def join(self, *parts: str) -> str:
        """The parts that are there, with a dot between them."""
        return f" {self.glyphs.dot} ".join(part for part in parts if part)


def lines(row: Row, page: Page) -> list[Line]:
    """The page of whatever a row stands for."""
    return with_probe(with_health(_lines(row.item, page), row.item, page), row.item, page)


def _lines(item: Item, page: Page) -> list[Line]:
    if isinstance(item, Target):
        return _target(item, page)
    if isinstance(item, Group):
        return _group(item, page)
    if isinstance(item, Disk):
        return _disk(item, page)
    if isinstance(item, Volume):
        return _volume(item, page)
    if isinstance(item, Path):
        return _path(item, page)
    if isinstance(item, Session):
        return _session(item, page)
    if isinstance(item, Link):
        return _link(item, page)
    return told(item, page)


def linked(name: str, item: Disk | Session | Path | Link | Volume | Target | None, role: str = "link") -> Line:
    """A name that leads to its thing; plain where that is not there."""
    return (Piece(say(name), role if item is not None else "", item.id if item is not None else ""),) if name else ()


def linked_target(name: str) -> Line:
    """The name of a target that leads to it."""
    return (Piece(say(name), "link", f"target:{name}"),) if name else ()


def _checked(item: Checked, page: Page) -> list[Line]:
    state = mark(item.severity) if item.severity else UNKNOWN
    thing = page.world.index.get(item.about)
    about: Line = (Piece(say(item.subject), "link" if thing else "strong", item.about if thing else ""),)
    seen = "Seen" if item.severity else "No answer"
    return [
        page.title(say(item.rule), state),
        *paragraph(say(item.name), page.width, "strong"),
        (),
        *labelled([("About", about), (seen, say(item.evidence))], page.width),
        *page.section("Why it matters", paragraph(say(item.reason), page.width) if item.reason else []),
        *page.section("What to do", paragraph(say(item.fix), page.width) if item.fix else []),
    ]


def told(item: Happened | Trouble | Past | Checked, page: Page) -> list[Line]:
    """The page of something that happened, that is wrong, or that a rule says."""
    if isinstance(item, Checked):
        return _checked(item, page)
    if isinstance(item, Past):
        return past_lines(item, page.width, page.glyphs, page.now)
    if isinstance(item, Trouble):
        return [page.title("this host", mark(item.severity)), *paragraph(say(item.name), page.width)]
    event = item.event
    thing = page.world.index.get(event.subject)
    about: Line = (Piece(say(thing.name), "link", event.subject),) if thing else (Piece(say(event.subject), "dim"),)
    return [
        page.title(day_and_time(event.at), mark(event.severity)),
        *paragraph(say(event.text), page.width),
        (),
        *labelled([("About", about), ("Kind", say(event.kind))], page.width),
    ]


def _target(target: Target, page: Page) -> list[Line]:
    portals = list(dict.fromkeys(say(str(session.portal)) for session in target.sessions))
    aliases = dict.fromkeys(say(session.alias) for session in target.sessions if session.alias)
    initiators = dict.fromkeys(say(session.initiator) for session in target.sessions if session.initiator)
    facts: list[tuple[str, str | Line]] = [
        ("Target", say(target.name) or "no session tells which target serves these disks"),
        ("Alias", ", ".join(aliases)),
        ("Initiator", ", ".join(initiators)),
        ("Portals", ", ".join(portals)),
    ]
    disks = [_disk_line(disk, page) for disk in target.disks]
    sessions = [_session_line(session, page) for session in target.sessions]
    return [
        page.title(say(short_target(target.name)) or "no target known", target.mark),
        *labelled(facts, page.width),
        *page.section(f"Disks {len(disks)}", disks),
        *page.section(f"Sessions {len(sessions)}", sessions),
    ]


def _group(group: Group, page: Page) -> list[Line]:
    if group.id == "links":
        body = [_link_line(link, page) for link in page.world.links]
        about = "Network interfaces that carry iSCSI, and the rest of this host's hardware links."
    else:
        body = [_session_line(session, page) for session in page.world.sessions_of(group.target)]
        about = f"Sessions of this host with {say(group.target)}."
    return [(Piece(group.name.capitalize(), "title"),), *paragraph(about, page.width, "dim"), (), *body]


def _disk_line(disk: Disk, page: Page) -> Line:
    facts = page.join(size(disk.size_bytes), say(disk.device or ""), f"LUN {disk.lun}" if disk.lun is not None else "")
    return (*mark(disk.state).pieces(page.glyphs), Piece("  "), *linked(disk.name, disk), Piece(f"  {facts}"))


def _session_line(session: Session, page: Page) -> Line:
    where = linked(str(session.portal), session)
    return (*mark(session.state).pieces(page.glyphs), Piece("  "), *where, Piece("  "), *_dim(session.source))


def _link_line(link: Link, page: Page) -> Line:
    facts = page.join(speed(link), say(link.addresses[0] if link.addresses else link.kind))
    return (*mark(link.state).pieces(page.glyphs), Piece("  "), *linked(link.name, link), Piece("  "), *_dim(facts))


def _dim(text: str) -> Line:
    return (Piece(text, "dim"),)


def _disk(disk: Disk, page: Page) -> list[Line]:
    paths = page.world.paths_of(disk)
    working = sum(works(path) for path in paths)
    body = [line for path in paths for line in _path_lines(path, page)]
    volumes = [line for volume in page.world.volumes_of(disk) for line in _volume_lines(volume, page)]
    joined = page.world.index.get(disk.map or "")
    return [
        page.title(say(disk.name), mark(disk.state)),
        *(paragraph(say(disk.reason), page.width, "warn") if disk.reason else []),
        *labelled(_identity(disk, page), page.width),
        *page.section(f"Paths {working} of {len(paths)} work", body),
        *page.section("Volumes", volumes),
        *page.section("Map", _map_lines(joined, page) if isinstance(joined, Map) else []),
    ]


def _identity(disk: Disk, page: Page) -> list[tuple[str, str | Line]]:
    exact = f"{disk.size_bytes:,} bytes" if disk.size_bytes is not None else ""
    blocks = f"{disk.block_bytes}-byte blocks" if disk.block_bytes else ""
    product = " ".join(say(text).strip() for text in (disk.vendor, disk.product, disk.revision) if text)
    cache = {None: "", True: "write cache on", False: "no write cache"}[disk.write_cache]
    unflushed = {None: "", True: "some writes not flushed yet", False: "everything flushed"}[disk.unflushed]
    flags = page.join("read-only" if disk.read_only else "", "thin" if disk.thin else "", cache, unflushed)
    return [
        *_target_fact(page.world.target_of(disk), page),
        ("LUN", "" if disk.lun is None else str(disk.lun)),
        ("WWID", say(disk.wwid or "none: the target gives this disk no identity")),
        ("Product", product),
        ("Serial", say(disk.serial or "")),
        ("Size", page.join(size(disk.size_bytes), exact, blocks)),
        ("Device", page.join(say(disk.device or "none: not attached"), say(disk.dev or ""))),
        ("Cache", flags),
        ("Source", f"{disk.source.value} initiator"),
    ]


def _target_fact(name: str, page: Page) -> list[tuple[str, str | Line]]:
    """The target, leading to it, over as many lines as its name takes."""
    parts = wrap(say(name), max(8, page.width - 10)) if name else []
    role, to = "link", f"target:{name}"
    return [("" if number else "Target", (Piece(part, role, to),)) for number, part in enumerate(parts)]


def _leading(lines: list[Line], to: str) -> list[Line]:
    """The same lines, leading to a thing."""
    return [tuple(piece._replace(to=to) for piece in line) for line in lines]


def _path_lines(path: Path, page: Page) -> list[Line]:
    """Two lines of a path: how it does, and what carries it."""
    first: Line = (
        *mark(path.state).pieces(page.glyphs),
        Piece("  via ", "dim"),
        *linked(page.world.portal_of(path), path),
        Piece(f"  {page.time(path.latency_us if works(path) else None)}  ", "strong"),
    )
    room = min(16, page.width - width_of(first))
    if room > 0:
        first += (Piece(charts.sparkline(page.samples.get(path.id, ()), room, page.glyphs).strip(), "spark"),)
    link = page.world.link(path.link)
    tcp = _tcp_of(path, page.world)
    facts = page.join(
        say(path.reason or ""),
        path.access.value if path.access != "unknown" else "",
        "in use" if path.in_use else "",
        say(link.name) if link else "",
        f"TCP round trip {page.time(tcp.rtt_us)}" if tcp and tcp.rtt_us is not None else "",
    )
    return [first, *paragraph(facts, page.width, "warn" if path.reason else "dim", indent=2)]


def _volume_lines(volume: Volume, page: Page) -> list[Line]:
    facts = page.join(say(volume.fstype), say(volume.label or ""))
    first: Line = (*mark(volume.state).pieces(page.glyphs), Piece(f"  {facts}"))
    where = f"in mount namespace {say(volume.namespace)}" if volume.namespace is not None else ""
    return [
        first,
        *_leading(paragraph(say(volume.mountpoint), page.width, "volume", indent=2), volume.id),
        *(paragraph(where, page.width, "warn", indent=2) if where else []),
        *_usage_line(volume, page),
    ]


def _usage_line(volume: Volume, page: Page) -> list[Line]:
    if not volume.size_bytes or volume.used_bytes is None:
        return []
    share = volume.used_bytes / volume.size_bytes
    drawn = charts.bar(share, min(24, max(8, page.width - 30)), page.glyphs)
    text = f" {used(volume)} of {size(volume.size_bytes)}"
    return [(Piece("  "), Piece(drawn, "bad" if share > 0.95 else "bar"), Piece(text))]


def _map_lines(joined: Map, page: Page) -> list[Line]:
    facts: list[tuple[str, str | Line]] = [
        ("Name", say(joined.name)),
        ("State", mark(joined.state).pieces(page.glyphs)),
        ("Paths", f"{joined.active} of {joined.total} work"),
        ("Policy", say(joined.policy or "")),
        ("No path", say(joined.queueing or "")),
        ("Held by", f"{joined.source.value} initiator"),
    ]
    return labelled(facts, page.width)


def _volume(volume: Volume, page: Page) -> list[Line]:
    disks = [disk for disk in map(page.world.disk, volume.disks) if disk]
    names = tuple(piece for disk in disks for piece in (*linked(disk.name, disk), Piece(" ")))
    facts: list[tuple[str, str | Line]] = [
        ("Mounted", say(volume.mountpoint)),
        ("From", page.join(say(volume.device), say(volume.dev))),
        ("Kind", say(volume.fstype)),
        ("Label", say(volume.label or "")),
        ("UUID", say(volume.uuid or "")),
        ("Subtree", say(volume.root) if volume.root != "/" else ""),
        ("Options", say(volume.options)),
        ("On disk", names),
        ("Namespace", "" if volume.namespace is None else f"{say(volume.namespace)}, process {volume.namespace_pid}"),
        ("Free", size(volume.free_bytes) if volume.free_bytes is not None else ""),
    ]
    title = page.title(say(volume.name), mark(volume.state))
    return [title, *labelled(facts, page.width), *page.section("Usage", _usage_line(volume, page))]


def _path(path: Path, page: Page) -> list[Line]:
    disk = page.world.disk(path.disk)
    session = page.world.session_of(path)
    samples = page.samples.get(path.id, ())
    facts: list[tuple[str, str | Line]] = [
        *([("Disk", linked(disk.name, disk))] if disk else []),
        ("Portal", linked(page.world.portal_of(path), session)),
        ("Device", say(path.device or "")),
        ("LUN", str(path.lun)),
        ("Access", path.access.value),
        ("In use", "yes" if path.in_use else "no"),
        ("Since", f"{clock(path.since)}, {span(page.now - path.since)}" if path.since is not None else ""),
    ]
    measured = [value for value in samples if value is not None]
    width = min(page.width, 60)
    graph = [(Piece(line, "spark"),) for line in charts.trend(samples, width, TREND_HEIGHT, page.glyphs)]
    now = page.time(path.latency_us if works(path) else None) or "?"
    caption = f"now {now}, at most {page.time(max(measured))}" if measured else ""
    tcp = _tcp_of(path, page.world)
    link = page.world.link(path.link)
    return [
        page.title(f"via {say(page.world.portal_of(path))}", mark(path.state)),
        *(paragraph(say(path.reason), page.width, "warn") if path.reason else []),
        *labelled(facts, page.width),
        *page.section("Latency", [*graph, _dim(caption)] if measured else []),
        *page.section("I/O", labelled(_counters(path), page.width)),
        *page.section("Session", labelled(_session_facts(session, page), page.width) if session else []),
        *page.section("TCP", labelled(_tcp_facts(tcp, page), page.width) if tcp else []),
        *page.section("Link", labelled(_link_facts(link, page), page.width) if link else []),
    ]


def _counters(path: Path) -> list[tuple[str, str | Line]]:
    def done(commands: int | None, moved: int | None) -> str:
        return "" if commands is None else f"{commands:,} ({size(moved)})"

    return [
        ("Reads", done(path.reads, path.read_bytes)),
        ("Writes", done(path.writes, path.write_bytes)),
        ("In flight", "" if path.in_flight is None else str(path.in_flight)),
        ("Errors", "" if path.errors is None else str(path.errors)),
        ("Timeouts", "" if path.timeouts is None else str(path.timeouts)),
        ("Failures", "" if path.failures is None else str(path.failures)),
    ]


def _tcp_of(path: Path, world: World) -> TcpInfo | None:
    session = world.session_of(path)
    return next((c.tcp for c in session.connections if c.tcp), None) if session else None


def _tcp_facts(tcp: TcpInfo, page: Page) -> list[tuple[str, str | Line]]:
    spread = f"(varies by {page.time(tcp.rttvar_us)})" if tcp.rttvar_us is not None else ""
    rate = f"{size(tcp.delivery_rate_bytes_s)}/s" if tcp.delivery_rate_bytes_s is not None else ""
    return [
        ("State", say(tcp.state)),
        ("RTT", f"{page.time(tcp.rtt_us)} {spread}".strip() if tcp.rtt_us is not None else ""),
        ("Resent", "" if tcp.retransmits is None else count(tcp.retransmits, "segment")),
        ("Unacked", "" if tcp.unacked is None else count(tcp.unacked, "segment")),
        ("Delivers", rate),
    ]


def _session(session: Session, page: Page) -> list[Line]:
    link = page.world.link(session.link)
    tcp = next((c.tcp for c in session.connections if c.tcp), None)
    carried = page.world.carried_by(session)
    agreed = [line for pair in sorted(session.negotiated.items()) for line in _agreed(*pair, page)]
    return [
        page.title(say(str(session.portal)), mark(session.state)),
        *(paragraph(say(session.reason), page.width, "warn") if session.reason else []),
        *labelled([*_target_fact(session.target, page), ("Alias", say(session.alias or ""))], page.width),
        *labelled([("Initiator", say(session.initiator or "")), *_session_facts(session, page)], page.width),
        *page.section("TCP", labelled(_tcp_facts(tcp, page), page.width) if tcp else []),
        *page.section("Link", labelled(_link_facts(link, page), page.width) if link else []),
        *page.section(f"Carries {count(len(carried), 'disk')}", [_disk_line(disk, page) for disk in carried]),
        *page.section("Negotiated", agreed),
    ]


def _agreed(key: str, value: str, page: Page) -> list[Line]:
    name = f"{say(key)}="
    return labelled([(name, say(value) or "nothing")], page.width, min(len(name), page.width // 2), "term")


def _session_facts(session: Session, page: Page) -> list[tuple[str, str | Line]]:
    first = session.connections[0] if session.connections else None
    digests = page.join(say(first.header_digest or ""), say(first.data_digest or "")) if first else ""
    ends = ""
    if first and first.local_host and first.peer_host:
        arrow = page.glyphs.arrow
        ends = say(f"{first.local_host}:{first.local_port} {arrow} {first.peer_host}:{first.peer_port}")
    return [
        ("State", mark(session.state).pieces(page.glyphs)),
        ("Held by", f"{session.source.value} initiator"),
        ("ISID", page.join(say(session.isid or ""), "" if session.tsih is None else f"TSIH {session.tsih}")),
        ("Wire", ends),
        ("Digests", digests),
        ("CHAP", f"as {say(session.chap_user)}" if session.chap_user else ""),
        ("LUNs", ", ".join(map(str, session.luns))),
        ("Relogins", str(session.reconnects) if session.reconnects else ""),
    ]


def _link(link: Link, page: Page) -> list[Line]:
    carried = page.world.sessions_on(link)
    return [
        page.title(say(link.name), mark(link.state)),
        *labelled(_link_facts(link, page)[1:], page.width),
        *page.section(f"Carries {count(len(carried), 'session')}", [_session_line(s, page) for s in carried]),
    ]


def _link_facts(link: Link, page: Page) -> list[tuple[str, str | Line]]:
    def pair(received: int | None, sent: int | None) -> str:
        return "" if received is None and sent is None else f"{received} received, {sent} sent"

    return [
        ("Link", (*linked(link.name, link), Piece(" "), *mark(link.state).pieces(page.glyphs))),
        ("Kind", page.join(say(link.kind), speed(link), f"{say(link.duplex)} duplex" if link.duplex else "")),
        ("MTU", "" if link.mtu is None else str(link.mtu)),
        ("Addresses", ", ".join(map(say, link.addresses))),
        ("Part of", say(link.master or "")),
        ("Made of", ", ".join(map(say, link.lower))),
        ("Traffic", f"{size(link.rx_bytes)} received, {size(link.tx_bytes)} sent" if link.rx_bytes is not None else ""),
        ("Errors", pair(link.rx_errors, link.tx_errors)),
        ("Dropped", pair(link.rx_dropped, link.tx_dropped)),
        ("Carrier", "" if not link.carrier_changes else f"changed {link.carrier_changes} times since start"),
    ]
