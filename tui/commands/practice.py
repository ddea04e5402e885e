"""`mooring practice`: the range with the dashboard on it, or without, its faults, and its clean end."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from initiator.errors import MooringError
from initiator.names import clean
from initiator.practice import range as ranges
from initiator.practice.range import RangeInfo
from tui.commands.common import ask, at_terminal, emit
from tui.commands.removal import remove_disks
from tui.exits import Exit, say, say_error
from tui.export import as_json, human_fields, human_size, table
from tui.terminal import check_terminal


def practice(arguments: argparse.Namespace) -> int:
    """`mooring practice [--headless]`."""
    if not (arguments.headless or arguments.screenshot):
        check_terminal()  # before anything is made
    _clean_leftovers(without_asking=arguments.clean)
    info = ranges.start(Path(arguments.folder) if arguments.folder else None, say=say)
    if arguments.headless:
        _print(info, as_object=arguments.json)
        say("the range stays until: mooring practice stop")
        return Exit.DONE
    from tui.app import run
    from tui.commands.dashboard import options

    try:
        chosen = options(arguments, read_only=arguments.read_only, practice=True)
        code = run(dataclasses.replace(chosen, tour=arguments.tour))
    finally:
        ended = _end()
    return code or ended


def _print(info: RangeInfo, *, as_object: bool) -> None:
    if as_object:
        emit({"schema": 1, **as_json(info)})
        return
    print(f"Practice range in {info.folder}")
    print(f"Portals: {', '.join(map(str, info.portals))}")
    print(table("Targets", ("TARGET", "CHAP USER"), ((t, dict(info.chap).get(t)) for t in info.targets)))
    rows = ((d.name, human_size(d.size_bytes), d.target, d.lun, d.device, d.mountpoint, d.file) for d in info.disks)
    print(table("Disks", ("NAME", "SIZE", "TARGET", "LUN", "DEVICE", "MOUNTED ON", "BACKING FILE"), rows))
    for note in info.notes:
        print(f"Note: {clean(note)}")


def _clean_leftovers(*, without_asking: bool) -> None:
    """What a killed range left behind is cleaned up first, after asking.

    Raises:
        MooringError: there is something and nobody may or can be asked.
    """
    left = ranges.leftovers()
    if not left:
        return
    say("an earlier practice range was not ended and left:", *(f"  {item.text}" for item in left))
    if not without_asking:
        if not at_terminal():
            raise MooringError("there are leftovers of an earlier range", code="leftovers", fix="mooring practice stop")
        if ask("Clean them up now? [y/N] ").lower() not in ("y", "yes"):
            raise MooringError("left as they are", code="leftovers", fix="mooring practice stop")
    if code := _end():
        raise MooringError(f"not everything could be cleaned up (exit code {code})", code="leftovers")


def fault(arguments: argparse.Namespace) -> int:
    """`mooring practice fault [NAME [ARGS]]`."""
    if arguments.name is None:
        known = ranges.faults()
        if arguments.json:
            emit({"schema": 1, "faults": as_json(known)})
        else:
            print(table("Faults", ("USAGE", "WHAT IT DOES"), ((f.usage, f.text) for f in known)))
        return Exit.DONE
    said = ranges.fault(arguments.name, arguments.args)
    if arguments.json:
        emit({"schema": 1, "fault": arguments.name, "args": arguments.args, "now": said})
    else:
        print(clean(said))
    return Exit.DONE


def status(arguments: argparse.Namespace) -> int:
    """`mooring practice status`."""
    info = ranges.current()
    answer: dict[str, Any] = {"schema": 1, "running": ranges.running(), "range": as_json(info) if info else None}
    if answer["running"]:
        answer["target"] = ranges.status()
    answer["leftovers"] = [item.text for item in ranges.leftovers()]
    if arguments.json:
        emit(answer)
    else:
        print(human_fields(answer))
    return Exit.DONE


def disaster(arguments: argparse.Namespace) -> int:
    """`mooring practice disaster`."""
    from initiator.practice import disaster as disasters

    loss = disasters.disaster(ranges.recorder(), say)
    if arguments.json:
        emit({"schema": 1, **as_json(loss)})
        return Exit.DONE
    print(clean(str(loss), 400))
    return Exit.DONE


def busy(arguments: argparse.Namespace) -> int:
    """`mooring practice busy [DISK] [--end]`."""
    from initiator.practice import sitter

    if arguments.end:
        ended = sitter.rise(ranges.recorder())
        print("the program has ended" if ended else "no program sits in a practice volume")
        return Exit.DONE
    pid = sitter.sit(ranges.recorder(), arguments.disk)
    print(f"process {pid} sits in the volume of {clean(arguments.disk)}")
    return Exit.DONE


def stop(arguments: argparse.Namespace) -> int:
    """`mooring practice stop`."""
    if ranges.record() is None:
        say("no practice range is there")
        return Exit.DONE
    code = _end()
    if arguments.json:
        emit({"schema": 1, "stopped": code == Exit.DONE, "leftovers": [item.text for item in ranges.leftovers()]})
    return code


def _end() -> int:
    """Remove the range's disks by the removal sequence, then the target, then the files.

    Stops at the first thing that does not go, says what, and leaves the rest as it is, to be ended later.
    """
    try:
        from initiator.practice import sitter

        if sitter.rise(ranges.recorder()):
            say("the program that sat in a volume has ended")
        for line in ranges.cleanup_dead():
            say(line)
        if names := [disk.name for disk in ranges.attached()]:
            say(f"removing {', '.join(names)}")
            code = remove_disks(names)
            if code != Exit.DONE:
                say("the practice range stays; once nothing is in the way: mooring practice stop")
                return code
        ranges.log_out()
        ranges.stop_target()
        for kept in ranges.remove_folder():
            say(f"kept, because the range did not make it: {kept}")
    except MooringError as error:
        say_error(error)
        return Exit.ERROR
    say("the practice range is gone")
    return Exit.DONE
