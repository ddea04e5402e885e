"""Mooring's orders to the kernel's initiator, on real sessions."""

from __future__ import annotations

from tests.lab import san
from tests.lab.machine import Machine
from tests.lab.noted import Noted


def test_no_order_logs_out_of_a_session_with_a_disk(built: Machine, seen: Noted) -> None:
    for session in seen["sessions"]:
        sid = session["id"].removeprefix("kernel:s:")
        assert san.order(built, "logout", sid)["error"] == "attached"
    assert len(san.parse_p3(built.run("iscsiadm -m session -P 3").out)) == len(seen["sessions"])


def test_startup_is_set_in_the_record(built: Machine) -> None:
    assert san.order(built, "startup", san.SINGLE, "10.9.2.2:3261", "automatic") == {"result": "manual"}
    shown = built.run(f"iscsiadm -m node -T {san.SINGLE} -p 10.9.2.2:3261 | grep startup").out
    assert shown.splitlines() == ["node.startup = automatic", "node.conn[0].startup = automatic"]
    assert san.order(built, "discover", "10.9.2.2:3261")["result"]
    assert san.order(built, "startup", san.SINGLE, "10.9.2.2:3261", "manual") == {"result": "automatic"}


def test_the_secret_is_in_the_record_and_only_root_can_read_it(built: Machine) -> None:
    record = f"/etc/iscsi/nodes/{san.CHAP}/fd09:1::2,3260,1/default"
    assert built.run(f"stat -c %a {record}").out.strip() == "600"
    assert san.SECRET in built.run(f"cat {record}").out
