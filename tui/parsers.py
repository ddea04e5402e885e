"""The parsers of every command but `list`, `show` and `watch`, which `tui.cli` has itself: those are run in loops."""

from __future__ import annotations

import argparse

from tui.adder import Adder, Commands, lazy


def add_all(commands: Commands[argparse.ArgumentParser]) -> None:
    """Each of them."""
    _add_health(commands)
    _add_probe(commands)
    _add_recordings(commands)
    _add_check(commands)
    _add_removal(commands)
    _add_sessions(commands)
    _add_isns(commands)
    _add_data(commands)
    _add_trace(commands)
    _add_reservations(commands)
    _add_practice(commands)
    _add_words(commands)


def _add_probe(commands: Commands[argparse.ArgumentParser]) -> None:
    about = "measure each kernel session's way to its target by a session beside it that never writes"
    probe = Adder(commands, "watching").add("probe", "probe", about, json=True)
    probe.add_argument("name", nargs="?", help="a session or target (default: every session of the kernel)")
    probe.add_argument("--interval", type=float, metavar="SECONDS", help="time between two measurements (0.5)")
    probe.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="end after this long")
    probe.add_argument("--link", metavar="NAME", help="leave through this interface instead of the session's own")


def _add_recordings(commands: Commands[argparse.ArgumentParser]) -> None:
    group = Adder(commands, "recordings")
    record = group.add("record", "record", "write what happens on this host into a file, to look at it later")
    record.add_argument("file", help="a new file; it is gzip of JSON lines, for its owner only")
    record.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="time between two looks (1)")
    record.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="end after this long")
    replay = group.add("replay", "replay", "show a recording on the dashboard, or as lines", json=True)
    replay.add_argument("file", help="what `mooring record` has written")
    replay.add_argument(
        "--lines", action="store_true", help="print changes and alerts, one line each (in a pipe: always)"
    )
    replay.add_argument("--speed", type=float, default=1.0, metavar="N", help="so many recorded seconds in one (1)")
    replay.add_argument("--from", dest="since", metavar="TIME", help="HH:MM:SS, or seconds from the beginning")


def _add_health(commands: Commands[argparse.ArgumentParser]) -> None:
    group = Adder(commands, "health")
    path = group.add("path", "path", "what carries a path, from its map down to the switch, and how it does", json=True)
    path.add_argument("name", help="a path by name, id or device; a disk, session, link or target for all its paths")
    about = "time between the two looks that rates are made of; 0 for one look (1)"
    path.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help=about)
    lose = group.add("lose", "lose", "what would be lost with a link, a portal, a switch or a controller", json=True)
    lose.add_argument("name", nargs="?", help="the link, portal, switch or controller (default: each)")


def _add_check(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "what this host is set up to suffer from one day: best practice, why, and how to mend it"
    check = Adder(commands, "check").add("check", "check", text, json=True)
    check.add_argument("rule", nargs="*", metavar="RULE", help="only these rules or families (see --list)")
    check.add_argument("--list", action="store_true", help="list the rules instead")
    check.add_argument("--unknown", action="store_true", help="tell also what could not be answered, and why")
    check.add_argument("--ignore", action="append", default=[], metavar="RULE", help="leave out a rule or family")
    severities = ("note", "warn", "bad")
    check.add_argument("--fail-on", choices=severities, help="exit code 1 if something so severe, or worse, is found")


def _add_isns(commands: Commands[argparse.ArgumentParser]) -> None:
    isns = commands.add_parser("isns", help="an iSNS server: what it knows, being known to it, being told of changes")
    inner = Adder(isns.add_subparsers(title="actions", metavar="ACTION", required=True), "isns")
    for name, text in (
        ("show", "the nodes that the server shows to this initiator, with their portals"),
        ("register", "make this initiator known to the server"),
        ("deregister", "take the registration back"),
        ("watch", "print changes of targets as the server tells them, one line each"),
    ):
        parser = inner.add(name, name, text, json=True, changes=None if name == "show" else "isns")
        parser.add_argument("server", help="host[:port]; port 3205 where none is given")
        parser.add_argument("--initiator", metavar="NAME", help="initiator name (default: this machine's own)")
        if name == "register":
            parser.add_argument("--alias", metavar="TEXT", help="a word for people (default: the host's name)")
        if name == "watch":
            parser.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="end after this long")


def _add_reservations(commands: Commands[argparse.ArgumentParser]) -> None:
    group = Adder(commands, "reservations")
    text = "who is registered with a disk, and who holds it (persistent reservations)"
    reservations = group.add("reservations", "reservations", text, json=True)
    reservations.add_argument("name", help="the disk; a target's name together with --portal")
    reservations.add_argument("--portal", help="ask over a session of its own: address[:port], IPv6 in brackets")
    reservations.add_argument("--lun", type=int, default=0, help="with --portal: logical unit number (0)")
    _add_chap(reservations)


def _add_removal(commands: Commands[argparse.ArgumentParser]) -> None:
    group = Adder(commands, "removal")
    what = "a disk (name, id, WWID, device or mount point), or several; or one path of a map, a session, or a target"
    plan = group.add("plan", "plan", "what a removal would do, and what stands in its way", json=True)
    plan.add_argument("names", metavar="NAME", nargs="+", help=what)
    remove = group.add(
        "remove", "remove", "take disks away safely: dismount, offline, logout", json=True, changes="remove"
    )
    remove.add_argument("names", metavar="NAME", nargs="+", help=what)
    text = "take away everything behind a target, or over a link, in one plan"
    drain = group.add("drain", "drain", text, json=True, changes="remove")
    drain.add_argument("name", metavar="TARGET|LINK", help="the target's iSCSI name, or a network link")
    drain.add_argument("--dry-run", action="store_true", help="only show the plan")
    text = "unmount a volume of an iSCSI disk, wherever it is mounted; the disk stays"
    unmount = group.add("unmount", "unmount", text, json=True, changes="unmount")
    unmount.add_argument("name", metavar="VOLUME", help="its mount point, label, UUID, device or id")
    unmount.add_argument("--dry-run", action="store_true", help="only show the plan")
    unmount.set_defaults(abandon=False)
    _add_mount(commands)
    plan.add_argument("--unmount", action="store_true", help="NAME is a volume, and only that is to be unmounted")
    for parser in (remove, drain, unmount):
        parser.add_argument("--confirm", metavar="NAME", help="the name once more, instead of being asked")
    for parser in (plan, remove, drain, unmount):
        text = "end the processes that use the file systems (SIGTERM), as the plan lists them"
        parser.add_argument("--end-processes", action="store_true", help=text)
        text = "unmount in the mount namespaces of others too: containers lose the file system"
        parser.add_argument("--other-namespaces", action="store_true", help=text)
        if parser is not unmount:
            text = "give up what no path reaches any more: nothing is flushed, what was not written is LOST"
            parser.add_argument("--abandon", action="store_true", help=text)
        parser.add_argument("--watch", metavar="SECONDS", type=float, help="how long nothing may come back (5)")
    again = group.add("resume", "resume", "go on with a removal that was stopped part-way", json=True, changes="resume")
    again.add_argument("journal", nargs="?", help="the disk or the journal (default: the only unfinished one)")
    back = group.add(
        "undo", "undo", "bring a disk back whose removal was stopped part-way, or done", json=True, changes="undo"
    )
    about = "what was removed, or the journal (default: the only unfinished one, else the newest that was done)"
    back.add_argument("journal", nargs="?", help=about)
    back.add_argument("--chap-secret-file", metavar="FILE", help="file whose first line is the CHAP secret")
    back.add_argument("--chap-target-secret-file", metavar="FILE", help="mutual CHAP: file with the target's secret")
    told = group.add("report", "report", "what became of a removal, step by step with the evidence", json=True)
    told.add_argument("journal", nargs="?", help="its journal, or what was removed (default: the newest)")


def _add_mount(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "mount a volume of an iSCSI disk read-only, to look into it; nothing is written to the disk"
    mount = Adder(commands, "look").add("mount", "mount", text, json=True, changes="mount")
    mount.add_argument("name", metavar="VOLUME", help="its device, label or UUID, or the disk, if it has only one")
    about = "say that you only want to look: Mooring mounts in no other way"
    mount.add_argument("--read-only", dest="look", action="store_true", required=True, help=about)
    mount.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def _add_chap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chap-user", metavar="USER", help="CHAP name; the secret is asked for or read from a file")
    parser.add_argument("--chap-secret-file", metavar="FILE", help="file whose first line is the CHAP secret")
    parser.add_argument("--chap-target-user", metavar="USER", help="mutual CHAP: the target's name")
    parser.add_argument("--chap-target-secret-file", metavar="FILE", help="file with the target's secret")
    about = "hashes to offer, best first, with md5 among them: sha3-256,md5,sha256 (engine only)"
    parser.add_argument("--chap-algorithms", metavar="LIST", help=about)
    parser.add_argument("--initiator", metavar="NAME", help="initiator name (default: this machine's own)")


def _add_via(parser: argparse.ArgumentParser) -> None:
    about = "who does it: open-iscsi or Mooring's own engine (default: the kernel where it can, see the output)"
    parser.add_argument("--via", choices=("kernel", "engine"), help=about)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def _add_sessions(commands: Commands[argparse.ArgumentParser]) -> None:
    group = Adder(commands, "sessions")
    about = "ask a portal (SendTargets) or an iSNS server which targets there are"
    discover = group.add("discover", "discover", about, json=True, changes="discover")
    discover.add_argument("portal", nargs="?", help="address[:port], IPv6 in brackets")
    discover.add_argument("--isns", metavar="SERVER", help="ask this iSNS server instead: host[:port] (port 3205)")
    _add_via(discover)
    _add_chap(discover)
    login = group.add("login", "login", "log in to a target", json=True, changes="login")
    login.add_argument("target", help="the target's name (iqn.…, eui.…, naa.…)")
    login.add_argument(
        "--portal", action="append", help="a portal; again for more paths (kernel's default: its node records)"
    )
    about = "engine: which of several equally good paths takes a command (least-queue)"
    selectors = ("failover", "round-robin", "least-queue", "least-service-time")
    login.add_argument("--selector", choices=selectors, help=about)
    about = "engine: CRC32C in no PDU, in headers, or demanded for headers and data (default: as the target likes)"
    login.add_argument("--digests", choices=("none", "header", "required"), help=about)
    login.add_argument("--interface", metavar="NAME", help="iSCSI interface of open-iscsi (default: of each record)")
    _add_via(login)
    _add_chap(login)
    attach = group.add(
        "attach", "attach", "make a logical unit a block device of this host", json=True, changes="attach"
    )
    attach.add_argument("name", help="an available disk of the list, or a target's name together with --lun")
    attach.add_argument("--lun", type=int, help="logical unit number (default 0)")
    attach.add_argument("--portal", action="append", help="a portal; give it again for more paths")
    attach.add_argument("--as", dest="label", metavar="NAME", help="what to call the disk")
    _add_chap(attach)
    logout = group.add("logout", "logout", "end a session that carries no disk", json=True, changes="logout")
    logout.add_argument("name", help="a session's name or id, or a target for all its sessions")
    _add_via(logout)
    _add_kernel(commands)
    engine = commands.add_parser("engine", help="the processes that hold sessions and disks")
    actions = engine.add_subparsers(title="actions", metavar="ACTION", required=True)
    inner = Adder(actions, "sessions")
    inner.add("status", "engine_status", "what the engine holds", json=True)
    inner.add("stop", "engine_stop", "end the engine; refused while a disk is attached", changes="engine-stop")
    about = "take away the device that a dead engine left, if nothing uses it"
    cleanup = inner.add("cleanup", "engine_cleanup", about, changes="engine-cleanup")
    cleanup.add_argument("name", help="the dead disk")


def _add_kernel(commands: Commands[argparse.ArgumentParser]) -> None:
    group = Adder(commands, "kernel")
    group.add("records", "records", "what open-iscsi knows how to log in to (its node records)", json=True)
    startup = group.add(
        "startup", "startup", "set whether open-iscsi logs in to a target at boot", json=True, changes="startup"
    )
    startup.add_argument("target", help="the target's name")
    startup.add_argument("portal", nargs="?", help="one portal of it (default: every record of the target)")
    startup.add_argument("mode", choices=("automatic", "manual", "onboot"), help="the new node.startup")
    startup.add_argument("--interface", metavar="NAME", help="only the record of this iSCSI interface")
    rescan = group.add("rescan", "rescan", "have the kernel look for new LUNs and sizes", json=True, changes="rescan")
    rescan.add_argument("name", help="a kernel session's name or id, or a target for all its sessions")
    for parser in (startup, rescan):
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def _add_data(commands: Commands[argparse.ArgumentParser]) -> None:
    group = Adder(commands, "data")
    for name, text in (
        ("read", "read bytes of a logical unit to stdout or a file; needs no root"),
        ("write", "write bytes of stdin or a file to a logical unit that is not attached"),
        ("image", "copy a whole logical unit into a file"),
    ):
        parser = group.add(name, name, text, changes="write" if name == "write" else None)
        parser.add_argument("target", help="the target's name")
        parser.add_argument("--portal", required=True, help="address[:port], IPv6 in brackets")
        parser.add_argument("--lun", type=int, default=0, help="logical unit number (0)")
        _add_chap(parser)
        if name != "image":
            parser.add_argument("--offset", default="0", metavar="SIZE", help="where to begin (0)")
        if name == "read":
            parser.add_argument("--length", metavar="SIZE", help="how much (default: to the end)")
            parser.add_argument("--output", metavar="FILE", help="a new file instead of stdout")
        elif name == "write":
            parser.add_argument("--input", metavar="FILE", help="a file instead of stdin")
            parser.add_argument("--confirm", metavar="TARGET", required=True, help="the target's name once more")
        else:
            parser.add_argument("file", help="the new file; holes stay holes")


def _add_trace(commands: Commands[argparse.ArgumentParser]) -> None:
    group = Adder(commands, "trace")
    text = "record what goes over the wire as pcapng for Wireshark; CHAP values are blanked"
    trace = group.add("trace", "trace", text, json=True)
    trace.add_argument("name", help="a session of the engine, or a target's name together with --portal")
    trace.add_argument("--portal", help="log in here in this process, look at the logical units, log out")
    trace.add_argument("--output", metavar="FILE", required=True, help="a new file; it holds what was read and written")
    trace.add_argument("--for", dest="seconds", type=float, default=10.0, metavar="SECONDS", help="of a session (10)")
    trace.add_argument("--limit", default="256M", metavar="SIZE", help="the file grows no further (256M)")
    _add_chap(trace)


def _add_practice(commands: Commands[argparse.ArgumentParser]) -> None:
    practice = commands.add_parser("practice", help="a practice range: a real target on loopback, three real disks")
    practice.add_argument("--headless", action="store_true", help="start the range, print what was made, and leave it")
    practice.add_argument("--folder", help="where its files go (default: a new temporary folder)")
    practice.add_argument("--json", action="store_true", help="with --headless: print one JSON object on stdout")
    practice.add_argument("--clean", action="store_true", help="clean up what a killed range left, without asking")
    practice.add_argument("--tour", action="store_true", help="begin with the guided tour")
    practice.set_defaults(run=lazy("tui.commands.practice", "practice"), changes="practice", shows=True)
    tour = commands.add_parser("tour", help="six lessons on a practice range, each checked by what you really did")
    plain = {"headless": False, "folder": None, "json": False, "clean": False, "tour": True, "shows": True}
    tour.set_defaults(run=lazy("tui.commands.practice", "practice"), changes="practice", **plain)
    actions = practice.add_subparsers(title="actions", metavar="ACTION")
    inner = Adder(actions, "practice")
    about = "switch a fault on or off; without a name, list them"
    fault = inner.add("fault", "fault", about, json=True, changes="practice")
    fault.add_argument("name", nargs="?", help="the fault")
    fault.add_argument("args", nargs="*", help="its arguments")
    about = "lose data for real, on the bare disk: what logging out under a mounted volume does"
    inner.add("disaster", "disaster", about, json=True, changes="practice")
    busy = inner.add("busy", "busy", "have a program sit in a volume, which forbids its removal", changes="practice")
    busy.add_argument("disk", nargs="?", default="data", help="the disk with the volume (data)")
    busy.add_argument("--end", action="store_true", help="end that program")
    inner.add("status", "status", "what the range is made of and which faults are on", json=True)
    about = "remove the disks safely, stop the target, delete the files"
    inner.add("stop", "stop", about, json=True, changes="practice")


def _add_words(commands: Commands[argparse.ArgumentParser]) -> None:
    group = Adder(commands, "words")
    words = group.add("glossary", "explain", "the words of iSCSI in plain sentences", json=True)
    words.add_argument("term", nargs="*", help="one word (default: all of them)")
    config = commands.add_parser("config", help="the settings and where they are written")
    actions = config.add_subparsers(title="actions", metavar="ACTION", required=True)
    inner = Adder(actions, "words")
    inner.add("check", "check_config", "name what is not understood in the files, with line and file", json=True)
    inner.add("show", "show_config", "the settings that hold, as a file could say them", json=True)
    shell = group.add("completion", "completion", "a script that makes a shell complete mooring's commands")
    shell.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")
