"""A verdict for each path, disk and link, with the reason in one sentence and the evidence. Pure.

Rules are tables: each looks at one thing and says nothing, or what is wrong. The worst word counts; what the others
say is evidence. What cannot be known is said to be unknown and never taken for good.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from initiator.chain import Footing, Kind, Lane, carries, controller, lanes, unjoined
from initiator.fabric import EMPTY, Fabric, Nic
from initiator.judgement import (
    CALM,
    SETTLE,
    Health,
    Judgement,
    LinkTrend,
    Said,
    Shared,
    Trend,
    Trends,
    Verdict,
    Ways,
    judged,
)
from initiator.model import Disk, DiskState, Link, LinkState, MapState, Path, PathState, SessionState, Snapshot

FLAPPING = 3
"""So many falls within an hour are no accident any more."""
RESENT = 10
"""Fewer segments sent again within a minute tell nothing: an overflow of a switch's buffer loses as many at once."""
RESENT_SHARE = 0.001
"""Of the segments sent in the same time. A connection that fills a link alone loses some in ten thousand, for TCP goes
faster until something is lost; one in a thousand, at a round trip of 0.2 ms, leaves it a quarter of 10 Gb/s."""
WORKING = (PathState.ACTIVE, PathState.STANDBY)


def assess(snapshot: Snapshot, fabric: Fabric = EMPTY, trends: Trends = CALM) -> Health:
    """Judges every link that carries iSCSI, every path, and every disk with its map.

    Args:
        snapshot: What there is.
        fabric: What lies around it; what is not in there counts as unknown, not as good.
        trends: What the recent past says, from `initiator.monitor`.
    """
    known = lanes(snapshot, fabric)
    said: dict[str, Judgement] = {}
    for link, nic in _used_links(known.values(), snapshot, fabric):
        said[link.id] = judge_link(link, nic, snapshot, trends.links.get(link.id))
    by_disk: dict[str, list[Path]] = {}
    for path in snapshot.paths:
        lane = known.get(path.session)
        said[path.id] = judge_path(path, lane, trends.paths.get(path.id), trends.settle_s)
        by_disk.setdefault(path.disk, []).append(path)
    suspended = {joined.disk for joined in snapshot.maps if joined.state is MapState.SUSPENDED}
    ways: dict[str, Ways] = {}
    for disk in snapshot.disks:
        paths = by_disk.get(disk.id, ())
        ways[disk.id] = count_ways(paths, known, fabric)
        verdicts = [said[path.id] for path in paths]
        alone, uneven = unjoined(disk, paths), trends.uneven.get(disk.id)
        said[disk.id] = judge_disk(disk, ways[disk.id], verdicts, disk.id in suspended, uneven, alone)
        if disk.map is not None:
            said[disk.map] = dataclasses.replace(said[disk.id], kind="map", subject=disk.map)
    return Health(said, ways)


# --- paths ---


def judge_path(path: Path, lane: Lane | None, trend: Trend | None = None, settle_s: float = SETTLE) -> Judgement:
    """The verdict on one path."""
    said = [found for rule in _PATH_RULES if (found := rule(path, lane)) is not None]
    if trend is not None:
        said += _path_trend(trend, settle_s)
    seen = (f"state {path.state}",) if lane is None else (f"state {path.state}", f"session {lane.session.state}")
    return judged("path", path.id, path.name, said, "it works", seen)


def _state(path: Path, _: Lane | None) -> Said | None:
    if path.state in WORKING:
        return None
    if path.state is PathState.UNKNOWN:
        return Said(Verdict.UNKNOWN, path.reason or "nobody tells its state")
    facts = f"state {path.state}" + (f", checker {path.checker}" if path.checker is not None else "")
    return Said(Verdict.DOWN, path.reason or f"it is {path.state}", facts)


def _session(path: Path, lane: Lane | None) -> Said | None:
    if lane is None:
        return Said(Verdict.UNKNOWN, "nothing tells which session carries it")
    session = lane.session
    if session.state is SessionState.LOGGED_IN or path.state not in WORKING:
        return None
    if session.state is SessionState.UNKNOWN:
        return Said(Verdict.UNKNOWN, "nobody tells the state of its session")
    return Said(Verdict.DOWN, f"its session is {session.state}" + (f": {session.reason}" if session.reason else ""))


def _cable(path: Path, lane: Lane | None) -> Said | None:
    if lane is None or lane.link is None:
        return None
    down = [cable.name for cable in lane.cables if cable.state is LinkState.DOWN]
    if lane.link.state is LinkState.DOWN or carries(lane) is False:
        name = lane.link.name if lane.link.state is LinkState.DOWN else ", ".join(down)
        verdict = Verdict.AT_RISK if path.state in WORKING else Verdict.DOWN
        return Said(verdict, f"link {name} under it is down", _carriers(lane))
    if down:
        left = len(lane.cables) - len(down)
        verdict = Verdict.DEGRADED if left > 1 else Verdict.AT_RISK
        text = f"{lane.link.name} under it has lost {', '.join(down)}: {left} of {left + len(down)} left"
        return Said(verdict, text, _carriers(lane))
    return None


def _carriers(lane: Lane) -> str:
    words = {True: "carrier", False: "no carrier", None: "carrier not known"}
    return ", ".join(f"{link.name} {words[link.carrier]}" for link in lane.way)


def _silence(_: Path, lane: Lane | None) -> Said | None:
    """The timer for the oldest unacknowledged segment has run out: something was sent and nobody answers."""
    tcp = lane.tcp if lane is not None else None
    if tcp is None or not tcp.unanswered:
        return None
    since = f", and nothing has come for {tcp.last_received_ms / 1000:.1f} s" if tcp.last_received_ms else ""
    times = "once" if tcp.unanswered == 1 else f"{tcp.unanswered} times in a row"
    facts = f"unacknowledged {tcp.unacked} segments, timer run out {tcp.unanswered}, next after {tcp.rto_us} us"
    return Said(Verdict.AT_RISK, f"the target does not acknowledge what was sent {times}{since}", facts)


def _astray(_: Path, lane: Lane | None) -> Said | None:
    """Two links in one network: the address is on one of them, and the packets leave through the other."""
    if lane is None or lane.route is None or lane.link is None or lane.session.link is None:
        return None
    own = lane.session.link.removeprefix("link:")
    if lane.route.device in (None, own):
        return None
    return Said(Verdict.DEGRADED, f"its packets leave through {lane.link.name} with the address of {own}")


def _duplex(_: Path, lane: Lane | None) -> Said | None:
    half = [link.name for link in lane.way if link.duplex == "half"] if lane is not None else []
    return Said(Verdict.DEGRADED, f"link {', '.join(half)} runs at half duplex") if half else None


def _mtu(_: Path, lane: Lane | None) -> Said | None:
    """A link cannot send more than what it stands on."""
    if lane is None or not lane.way or lane.way[0].mtu is None:
        return None
    top = lane.way[0]
    for link in lane.way[1:]:
        if link.mtu is not None and top.mtu is not None and link.mtu < top.mtu:
            return Said(Verdict.DEGRADED, f"{top.name} sends up to {top.mtu} bytes, {link.name} under it {link.mtu}")
    return None


_PathRule = Callable[[Path, Lane | None], Said | None]
_PATH_RULES: tuple[_PathRule, ...] = (_state, _session, _cable, _silence, _astray, _duplex, _mtu)


def _path_trend(trend: Trend, settle_s: float) -> Iterator[Said]:
    if trend.probe is not None:
        yield Said(Verdict.AT_RISK, trend.probe)
    if (left := settling(trend.back_s, settle_s)) is not None:
        yield Said(Verdict.AT_RISK, f"it came back {trend.back_s:.0f} s ago and settles for another {left:.0f} s")
    if trend.falls >= FLAPPING:
        yield Said(Verdict.AT_RISK, f"it flaps: {trend.falls} falls in the last hour")
    if trend.errors:
        yield Said(Verdict.DEGRADED, f"{_count(trend.errors, 'command')} failed in the last minute")
    if (lost := _losses(trend)) is not None:
        yield Said(Verdict.DEGRADED, lost)
    if trend.slower is not None:
        yield Said(Verdict.DEGRADED, f"a command takes {trend.slower:.0f} times as long as on its mates")


def _losses(trend: Trend) -> str | None:
    """What TCP had to send again, where it is too much of what it sent; None where it is not."""
    again, sent = trend.resent, trend.sent
    if again < RESENT or (sent is not None and again < RESENT_SHARE * sent):
        return None
    if sent is None:
        return f"{again:,} segments were sent again in the last minute; of how many the kernel does not tell"
    share = min(100 * again / max(sent, 1), 100)
    return f"{again:,} of {sent:,} segments were sent again in the last minute ({share:.1f} %)"


def settling(back_s: float | None, settle_s: float = SETTLE) -> float | None:
    """For how many seconds more a path that came back is not to be relied on; None once it has settled.

    A guard asks with the age of the path's present state.
    """
    return settle_s - back_s if back_s is not None and back_s < settle_s else None


# --- disks ---


def count_ways(paths: Sequence[Path], lanes: Mapping[str, Lane], fabric: Fabric = EMPTY) -> Ways:
    """How many independent working ways these paths of one disk are."""
    working = [path for path in paths if path.state in WORKING]
    groups = {port.group for path in paths if (port := fabric.ports.get(path.id)) and port.group is not None}
    stands: list[tuple[Footing, ...]] = []
    unknown: dict[Kind, None] = {}
    for path in working:
        lane = lanes.get(path.session)
        if lane is None:
            stands.append(())
            unknown |= dict.fromkeys((Kind.PORTAL, Kind.LINK, Kind.NETWORK))
            continue
        # Whether ports of one group are one controller no target tells; where there are several groups they differ.
        door = controller(lane, fabric.ports.get(path.id)) if len(groups) > 1 else None
        stands.append(lane.footings if door is None else (*lane.footings, door))
        unknown |= dict.fromkeys(lane.unknown)
    used = Counter(footing for footings in stands for footing in footings)
    shared = tuple(Shared(*footing, count) for footing, count in used.items() if count > 1)
    return Ways(len(paths), len(working), _disjoint(tuple(stands)), shared, tuple(unknown))


@functools.lru_cache(maxsize=4096)
def _disjoint(stands: tuple[tuple[Footing, ...], ...]) -> int:
    """The size of the largest set of which no two have anything in common."""
    if not stands:
        return 0
    first, rest = stands[0], stands[1:]
    apart = tuple(other for other in rest if not set(first) & set(other))
    with_first = 1 + _disjoint(apart)
    return with_first if len(apart) == len(rest) else max(with_first, _disjoint(rest))


_DISK_DOWN = {
    DiskState.NO_PATH: "none of its paths works: I/O waits or fails",
    DiskState.DEAD: "nothing serves it any more",
    DiskState.OFFLINE: "it is offline for a removal",
}


def judge_disk(
    disk: Disk,
    ways: Ways,
    paths: Iterable[Judgement],
    suspended: bool = False,
    uneven: str | None = None,
    alone: bool = False,
) -> Judgement:
    """The verdict on a disk and its map; `alone` if it has several devices that no map joins."""
    said = list(_disk_rules(disk, ways, paths, suspended, alone))
    if uneven is not None:
        said.append(Said(Verdict.DEGRADED, uneven))
    return judged("disk", disk.id, disk.name, said, _well(ways), (f"state {disk.state}",))


def _disk_rules(disk: Disk, ways: Ways, paths: Iterable[Judgement], suspended: bool, alone: bool) -> Iterator[Said]:
    if disk.state in _DISK_DOWN:
        yield Said(Verdict.DOWN, _DISK_DOWN[disk.state])
        return
    if disk.state is DiskState.UNKNOWN:
        yield Said(Verdict.UNKNOWN, disk.reason or "nobody can say how it is")
    if suspended:
        yield Said(Verdict.DOWN, "its map is suspended: I/O waits")
    if ways.working == 0:
        yield Said(Verdict.DOWN, "none of its paths works")
        return
    if alone:
        text = f"no map joins its {ways.total} paths: what uses one of its devices fails with that path"
        yield Said(Verdict.AT_RISK, text)
    elif ways.working == 1:
        text = "it has only one path" if ways.total == 1 else f"only one of its {ways.total} paths works"
        yield Said(Verdict.AT_RISK, text)
    elif ways.independent == 1:
        yield Said(Verdict.AT_RISK, f"its {ways.working} working paths are one: {_in_common(ways)}")
    if ways.working < ways.total:
        yield Said(Verdict.DEGRADED, f"{ways.total - ways.working} of its {ways.total} paths do not work")
    bad = [each for each in paths if each.verdict in (Verdict.DEGRADED, Verdict.AT_RISK)]
    if bad:
        good = ways.working - len(bad)
        verdict = Verdict.DEGRADED if good > 1 else Verdict.AT_RISK
        yield Said(verdict, f"path {bad[0].name}: {bad[0].reason}")


def _in_common(ways: Ways) -> str:
    things = ways.common or ways.shared
    return "all over " + ", ".join(f"{each.kind} {each.name}" for each in things)


def _well(ways: Ways) -> str:
    text = f"all {ways.total} paths work, {ways.independent} of them independent"
    return text + (f" (not known: {', '.join(ways.unknown)})" if ways.unknown else "")


# --- links ---


def _used_links(found: Iterable[Lane], snapshot: Snapshot, fabric: Fabric) -> Iterator[tuple[Link, Nic | None]]:
    used = {link.id: link for lane in found for link in lane.way}
    used |= {link.id: link for link in snapshot.links if any(link.id == each.link for each in snapshot.sessions)}
    for link in used.values():
        yield link, fabric.nics.get(link.name)


def judge_link(link: Link, nic: Nic | None, snapshot: Snapshot, trend: LinkTrend | None = None) -> Judgement:
    """The verdict on a link that carries iSCSI."""
    by_name = {each.name: each for each in snapshot.links} if link.kind == "bond" else {}
    said = list(_link_rules(link, nic, by_name))
    if trend is not None:
        said += _link_trend(trend)
    return judged("link", link.id, link.name, said, "it is up", (f"state {link.state}",))


def _link_rules(link: Link, nic: Nic | None, by_name: Mapping[str, Link]) -> Iterator[Said]:
    if link.state is LinkState.DOWN:
        yield Said(Verdict.DOWN, "it has no carrier" if link.carrier is False else "it is switched off")
    elif link.state is LinkState.UNKNOWN:
        yield Said(Verdict.UNKNOWN, "nobody tells whether it has a carrier")
    if link.duplex == "half":
        yield Said(Verdict.DEGRADED, "it runs at half duplex")
    members = [by_name[name] for name in link.lower if name in by_name]
    if link.kind == "bond" and members:
        up = [member for member in members if member.state is LinkState.UP]
        if len(up) < len(members):
            verdict = Verdict.DEGRADED if len(up) > 1 else Verdict.AT_RISK
            yield Said(verdict, f"only {len(up)} of its {len(members)} members are up")
        speeds = {member.speed_mbps for member in up if member.speed_mbps is not None}
        if len(speeds) > 1:
            yield Said(Verdict.DEGRADED, f"its members run at different speeds: {_joined(speeds)} Mb/s")
        if nic is not None and nic.active is not None and nic.active not in {member.name for member in up}:
            yield Said(Verdict.AT_RISK, f"its active member {nic.active} is not up")


def _link_trend(trend: LinkTrend) -> Iterator[Said]:
    if trend.falls >= FLAPPING:
        yield Said(Verdict.AT_RISK, f"it flaps: {trend.falls} falls in the last hour")
    elif trend.falls:
        yield Said(Verdict.DEGRADED, f"it lost its carrier {_count(trend.falls, 'time')} in the last hour")
    if trend.errors:
        yield Said(Verdict.DEGRADED, f"{_count(trend.errors, 'damaged packet')} in the last minute")
    if trend.drops:
        yield Said(Verdict.DEGRADED, f"{_count(trend.drops, 'dropped packet')} in the last minute")


# --- words ---


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _joined(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
