"""Gives Mooring's orders to the kernel's initiator: `order.py login TARGET PORTAL [USER SECRET TUSER TSECRET]`, …

Secrets come on standard input, one a line. Prints JSON: what came of it, or the error's code and text.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from initiator.errors import MooringError
from initiator.host.chaprecord import Credentials
from initiator.host.iscsiadm import Iscsiadm
from initiator.names import parse_portal


def obey(words: list[str], secrets: list[str]) -> Any:
    """One order."""
    orders = Iscsiadm()
    chap = Credentials(*secrets) if secrets else None
    if words[0] == "discover":
        return [(each.target, str(each.portal)) for each in orders.discover(parse_portal(words[1]), chap)]
    if words[0] == "login":
        return orders.login(words[1], parse_portal(words[2]), chap=chap).sid
    if words[0] == "logout":
        return orders.logout(int(words[1]))
    if words[0] == "startup":
        return orders.set_startup(words[1], parse_portal(words[2]), words[3])
    return dataclasses.asdict(orders.rescan(int(words[1])))


if __name__ == "__main__":
    try:
        answer = {"result": obey(sys.argv[1:], [] if sys.stdin.isatty() else sys.stdin.read().split("\n")[:-1])}
    except MooringError as error:
        answer = {"error": error.code, "text": str(error), "fix": error.fix}
    print(json.dumps(answer))
