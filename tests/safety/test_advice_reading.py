"""The facts of a host in a folder, and what becomes of a reader that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from initiator import inventory
from initiator.engine.client import EngineClient
from initiator.engine.report import to_json
from initiator.errors import MooringError
from initiator.host import hostfiles, services
from initiator.host.nodes import Records
from initiator.host.run import Finished
from initiator.model import Disk, DiskState, Problem, Snapshot, Source
from initiator.scsi.reservations import Claims, Keys, Registration
from safety.advice.catalogue import RULES, advise
from safety.advice.reading import FactsReader, read_facts
from tests.host.kerneltree import KernelTree

TARGET = "iqn.2026-11.io.mooring.lab:two"


@pytest.fixture
def tree(tmp_path: Path) -> KernelTree:
    tree = KernelTree(tmp_path / "host")
    tree.session(1, TARGET, "10.9.1.2", local="10.9.1.1")
    tree.lun(1, 0, kname="sdb", dev="8:16")
    tree.record(TARGET, "10.9.1.2,3260,1", **{"node.session.auth.password": "sekret-of-harry-1"}).chmod(0o644)
    tree.write("etc/fstab", "/dev/sdb /mnt/x ext4 defaults 0 0\n")
    tree.write("etc/iscsi/iscsid.conf", "iscsid.safe_logout = Yes\n")
    tree.write("etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.1993-08.org.debian:01:a5e63b2160\n")
    return tree


def test_the_facts_of_a_host_in_a_folder(tree: KernelTree) -> None:
    facts = FactsReader(tree.root, clock=lambda: 77.0).read(inventory.read(tree.root))
    assert facts.read_at == 77.0
    assert facts.records is not None
    assert [record.target for record in facts.records.nodes] == [TARGET]
    assert facts.secrets is not None
    assert [each.mode for each in facts.secrets] == [0o644]
    assert facts.daemon == {"iscsid.safe_logout": "Yes"}
    assert facts.multipath == {}
    assert facts.luns is not None
    assert [detail.state for detail in facts.luns.values()] == ["running"]
    # of this host, which is another one
    assert (facts.listeners, facts.units, facts.ways, facts.registrations) == (None, None, None, None)
    assert facts.ages is None, "its clock is another one, too"


def test_rules_fire_on_what_was_read(tree: KernelTree) -> None:
    snapshot = inventory.read(tree.root)
    advice = advise(snapshot, read_facts(snapshot, tree.root))
    fired = {found.rule for found in advice.findings}
    assert fired >= {"security/secrets-readable", "boot/scan-auto", "data/write-cache"}
    assert not fired & {"boot/safe-logout", "leftovers/record-idle", "leftovers/session-empty"}
    assert "network/default-route" not in fired
    assert "sekret-of-harry-1" not in repr(advice)


def test_what_may_not_be_read_is_not_known(tree: KernelTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals stand in for another user's: the tests may run as root, whom nothing is refused."""

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(hostfiles, "read_fstab", refused)
    monkeypatch.setattr(hostfiles, "read_secrets", refused)
    snapshot = inventory.read(tree.root)
    facts = read_facts(snapshot, tree.root)
    assert (facts.fstab, facts.secrets) == (None, None)
    assert facts.why("fstab") == "only root may read it"
    blanks = [blank for blank in advise(snapshot, facts).unknown if blank.rule == "security/same-secret"]
    assert [blank.reason for blank in blanks] == ["only root may read it"]


def test_a_reader_that_fails_says_why(tree: KernelTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "run", lambda *_: Finished(1, "", "no bus\n", 0.0))
    reader = FactsReader(tree.root)
    assert reader._ask("units", services.read_units) is None
    assert "no bus" in reader._problems[0].reason


def test_records_of_which_one_may_not_be_read_prove_nothing(tree: KernelTree, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem("nodes", "/etc/iscsi/nodes/x", "only root may read node records")
    reader = FactsReader(tree.root)
    monkeypatch.setattr(reader._records, "read", lambda: Records(problems=(problem,)))
    facts = reader.read(inventory.read(tree.root))
    assert (facts.records, facts.secrets) == (None, None)
    assert facts.why("records") == "only root may read node records"


class Engine(EngineClient):
    """An engine that answers about one of its two disks."""

    def call(self, method: str, timeout: float | None = None, **params: Any) -> Any:
        assert (method, timeout is not None and timeout < 10) == ("claims", True)
        if params["disk"] != "engine:d:1":
            raise MooringError("no session leads to it", code="no-path")
        claims = Claims(Keys(1, (7,)), None, (Registration(7, "iqn.2026-11.com.example:host8"),))
        return {"initiator": "iqn.2026-11.com.example:host7", "claims": to_json(claims)}


def test_the_engine_is_asked_about_its_own_disks() -> None:
    disks = tuple(
        Disk(f"engine:d:{number}", "d", state, Source.ENGINE, None, 1)
        for number, state in enumerate((DiskState.AVAILABLE, DiskState.ATTACHED, DiskState.DEGRADED))
    )
    facts = FactsReader(engine=Engine()).read(Snapshot("x", 0.0, disks=disks))
    assert facts.registrations == {"engine:d:1": (Registration(7, "iqn.2026-11.com.example:host8"),)}
    assert facts.why("registrations") == "no session leads to it"


def test_this_host_can_be_read() -> None:
    snapshot = inventory.read()
    facts = read_facts(snapshot)
    assert facts.listeners is not None
    assert facts.default_links is not None
    assert facts.ages is not None
    assert {finding.rule for finding in advise(snapshot, facts).findings} <= {rule.id for rule in RULES}
