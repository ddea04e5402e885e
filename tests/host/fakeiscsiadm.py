"""An iscsiadm that does to a tree in a folder what the real one does to a host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from initiator.host.chaprecord import Credentials
from initiator.host.run import Finished, Stuck
from initiator.model import Portal
from tests.host.kerneltree import KernelTree, naa

TARGET = "iqn.2026-11.io.mooring.lab:two"
PORTAL = Portal("10.9.1.2")
RECORD = f"etc/iscsi/nodes/{TARGET}/10.9.1.2,3260,1/default"
CHAP = Credentials("harry", "sekret\\1$(x)secret", "tgt", "mutualsekret1")


class FakeIscsiadm:
    """Does to the tree what iscsiadm does to a host."""

    def __init__(self, tree: KernelTree) -> None:
        self.tree = tree
        self.calls: list[list[str]] = []
        self.code = 0
        self.works = True
        self.stderr = ""
        self.stuck = False
        self.offers = TARGET
        self.during: Callable[[], None] = lambda: None

    def __call__(self, argv: Sequence[str], deadline: float) -> Finished:
        assert argv[0] == "iscsiadm"
        assert deadline > 0
        self.calls.append(list(argv[1:]))
        self.during()
        if self.stuck:
            raise Stuck("iscsiadm", 4711, "unix_stream_read_generic", deadline, False)
        words = list(argv[1:])
        if words[-1] == "nonpersistent":
            return Finished(0, f"10.9.1.2:3260,1 {self.offers}\n", "", 0.0)
        if words[-2:] == ["-o", "delete"]:
            (self.tree.root / RECORD).unlink()
            return Finished(0, "", "", 0.0)
        if words[-2:] == ["-o", "new"] and "node" in words:
            self.tree.record(TARGET, "10.9.1.2,3260,1")
            return Finished(0, "", "", 0.0)
        out = self._do(words) if self.works else ""
        return Finished(self.code, out, self.stderr, 0.0)

    def _do(self, words: list[str]) -> str:
        if words[:2] == ["-m", "discoverydb"] and "-D" not in words:
            self.tree.write(
                "etc/iscsi/send_targets/10.9.1.2,3260/st_config", "discovery.startup = manual\n# END RECORD\n"
            )
        elif words[1] in ("discovery", "discoverydb"):
            self.tree.record(TARGET, "10.9.1.2,3260,1")
            self.tree.record(TARGET, "fd09:1::2,3260,1")
            return f"10.9.1.2:3260,1 {TARGET}\n[fd09:1::2]:3260,1 {TARGET}\n"
        elif "--login" in words:
            self.tree.session(7)
        elif "-u" in words:
            sid = words[words.index("-r") + 1]
            (self.tree.root / f"sys/class/iscsi_session/session{sid}").unlink()
        elif "update" in words and words[-3] == "node.startup":
            path = self.tree.root / RECORD
            path.write_text(path.read_text().replace("node.startup = manual", f"node.startup = {words[-1]}"))
        elif "--rescan" in words:
            self.tree.lun(7, 5, kname="sdq", dev="65:0", digits=naa(5))
            self.tree.write("sys/class/block/sda/size", "1048576\n")
        return ""
