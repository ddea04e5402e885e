"""Chains, verdicts and losses as plain lines for a person, and as JSON for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from initiator.chain import Chain, Lane
from initiator.judgement import Health, Judgement, Ways
from initiator.losses import Loss
from initiator.model import Path
from initiator.names import clean
from tui.export import as_json, human_latency, human_size


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """What a path did between two readings."""

    seconds: float
    reads_s: float
    writes_s: float
    read_bytes_s: float
    write_bytes_s: float
    latency_us: float | None
    """Of the commands that ended meanwhile; None where none did."""


def rates(before: Path, after: Path, seconds: float) -> Rates | None:
    """What happened between two readings of one path; None where its counters are not known or were reset."""
    pairs = [(getattr(before, name), getattr(after, name)) for name in ("reads", "writes", "read_bytes", "write_bytes")]
    if seconds <= 0 or any(was is None or now is None or now < was for was, now in pairs):
        return None
    reads, writes, read_bytes, write_bytes = ((now - was) / seconds for was, now in pairs)
    latency = after.latency_us if reads or writes else None
    return Rates(seconds, reads, writes, read_bytes, write_bytes, latency)


def chain_json(chain: Chain, judgement: Judgement | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """One chain as `mooring path --json` prints it."""
    return {**as_json(chain), "health": as_json(judgement), **more}


def health_json(health: Health, losses: Iterable[Loss]) -> dict[str, Any]:
    """What `mooring list --json` tells of health."""
    return {
        "judgements": [as_json(each) for each in health.judgements.values()],
        "ways": {key: as_json(each) for key, each in health.ways.items()},
        "losses": [loss_json(each) for each in losses],
    }


def loss_json(loss: Loss) -> dict[str, Any]:
    """One answer to "what if this is lost"."""
    return {**as_json(loss), "text": loss.text}


# --- for a person ---


def chain_lines(chain: Chain, judgement: Judgement | None, done: Rates | None, counts: Mapping[str, int]) -> list[str]:
    """One chain from the map down to the switch, a line for each link of it."""
    path = chain.path
    facts: list[tuple[str, str | None]] = [
        ("map", _map(chain)),
        ("group", _group(chain)),
        ("path", _join(path.device, path.state.value, f"LUN {path.lun}", path.reason)),
        ("i/o", _done(path, done)),
        ("counted", _counted(path, counts)),
    ]
    facts += _lane(chain.lane) if chain.lane is not None else [("session", "not known")]
    title = f"Path {path.name}: {_verdict(judgement)}"
    return [clean(title, 300), *(f"  {name:<10}{clean(text, 300)}" for name, text in facts if text), *_more(judgement)]


def _verdict(judgement: Judgement | None) -> str:
    return f"{judgement.verdict}, {judgement.reason}" if judgement is not None else "not judged"


def _more(judgement: Judgement | None) -> Iterator[str]:
    for fact in judgement.evidence if judgement is not None else ():
        yield f"  evidence  {clean(fact, 300)}"


def _map(chain: Chain) -> str | None:
    joined = chain.map
    if joined is None:
        return "none"
    return _join(joined.name, joined.device, f"{joined.active} of {joined.total} paths work", joined.queueing)


def _group(chain: Chain) -> str | None:
    group = chain.group
    if group is None:
        return None
    number = None if group.number is None else f"number {group.number}"
    priority = None if group.priority is None else f"priority {group.priority}"
    port = chain.port
    tells = port is not None and port.group is not None
    door = f"target port group {port.group}, port {port.number}" if port is not None and tells else None
    state = "in use" if group.in_use else "not in use"
    return _join(number, group.selector, priority, group.access.value, state, f"{group.paths} in it", door)


def _done(path: Path, done: Rates | None) -> str | None:
    waiting = None if path.in_flight is None else f"{path.in_flight} in flight"
    if done is None:
        return waiting
    return _join(
        f"{done.reads_s:.0f} reads/s {human_size(round(done.read_bytes_s))}/s",
        f"{done.writes_s:.0f} writes/s {human_size(round(done.write_bytes_s))}/s",
        human_latency(done.latency_us),
        waiting,
    )


def _counted(path: Path, counts: Mapping[str, int]) -> str | None:
    known = {"errors": path.errors, "timeouts": path.timeouts, "failures": path.failures, **counts}
    return _join(*(f"{number} {name.replace('_', ' ')}" for name, number in known.items() if number is not None))


def _lane(lane: Lane) -> list[tuple[str, str | None]]:
    session, tcp, route = lane.session, lane.tcp, lane.route
    wire = None
    if lane.connection is not None:
        wire = _join(f"{lane.connection.name}", lane.connection.state)
    facts: list[tuple[str, str | None]] = [
        ("session", _join(session.name, session.state.value, f"by the {session.source}", session.reason)),
        ("wire", wire),
    ]
    if tcp is not None:
        quiet = None if tcp.last_received_ms is None else f"last received {tcp.last_received_ms} ms ago"
        rate = None if tcp.delivery_rate_bytes_s is None else f"delivers {human_size(tcp.delivery_rate_bytes_s)}/s"
        resent = None if tcp.retransmits is None else f"{tcp.retransmits} segments sent again"
        varies = f" (varies by {human_latency(tcp.rttvar_us)})" if tcp.rttvar_us is not None else ""
        trip = f"round trip {human_latency(tcp.rtt_us)}{varies}" if tcp.rtt_us is not None else None
        facts.append(("TCP", _join(tcp.state, trip, resent, rate, quiet)))
    for number, (link, nic) in enumerate(zip(lane.way, lane.nics, strict=True)):
        speed = f"{link.speed_mbps} Mb/s" if link.speed_mbps else None
        duplex = f"{link.duplex} duplex" if link.duplex else None
        mtu = None if link.mtu is None else f"MTU {link.mtu}"
        changes = None if link.carrier_changes is None else f"carrier changed {link.carrier_changes} times"
        card = " ".join(filter(None, (link.driver, nic.model))) or None
        wrong = _wrong(link.rx_errors, link.tx_errors, link.rx_dropped, link.tx_dropped)
        words = (link.name, link.state.value, link.kind, nic.mode, speed, duplex, mtu, changes, wrong, card)
        facts.append(("link" if number == 0 else "on", _join(*words)))
    if route is not None:
        gateway = f"by way of {route.gateway}" if route.gateway else "direct"
        facts.append(("route", _join(f"through {route.device}", gateway, route.source, lane.network)))
    elif lane.network is not None:
        facts.append(("network", lane.network))
    for each in lane.neighbours:
        facts.append(("switch", _join(each.name or each.switch, each.port)))
    if lane.unknown:
        facts.append(("not known", ", ".join(lane.unknown)))
    return facts


def _wrong(rx_errors: int | None, tx_errors: int | None, rx_dropped: int | None, tx_dropped: int | None) -> str | None:
    errors, drops = (rx_errors or 0) + (tx_errors or 0), (rx_dropped or 0) + (tx_dropped or 0)
    return f"{errors} errors, {drops} drops" if errors or drops else None


def health_lines(health: Health) -> list[str]:
    """What is wrong, a line each, worst first; or that nothing is."""
    found = health.wrong()
    if not found:
        return ["Health: everything that was judged is ok"]
    lines = [f"  {each.verdict:<9} {each.kind} {clean(each.name)}: {clean(each.reason, 300)}" for each in found]
    return [f"Health: {len(found)} not ok", *lines]


def ways_line(ways: Ways) -> str:
    """How redundant a disk is, in one line."""
    text = f"{ways.working} of {ways.total} paths work, {ways.independent} independent"
    shared = ", ".join(f"{each.kind} {clean(each.name)} under {each.paths}" for each in ways.shared)
    unknown = f"; not known: {', '.join(ways.unknown)}" if ways.unknown else ""
    return text + (f"; shared: {shared}" if shared else "") + unknown


def _join(*parts: str | None) -> str | None:
    return ", ".join(part for part in parts if part) or None
