"""The defaults in multipathd's own listing of its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from initiator.host.multipathconfig import parse_defaults, read_defaults
from initiator.host.multipathd import MultipathdError
from tests.host.fakemultipathd import FakeMultipathd

CONFIG = """defaults {
\tverbosity 2
\tfind_multipaths "strict"
\tuid_attrs "sd:ID_SERIAL"
\tno_path_retry "queue"
}
blacklist {
\tdevnode "!^(sd[a-z]|dasd[a-z]|nvme[0-9])"
}
devices {
\tdevice {
\t\tvendor "NVME"
\t\tno_path_retry 12
\t}
}
"""


def test_the_defaults_and_nothing_of_the_devices() -> None:
    assert parse_defaults(CONFIG) == {
        "verbosity": "2",
        "find_multipaths": "strict",
        "uid_attrs": "sd:ID_SERIAL",
        "no_path_retry": "queue",
    }
    assert parse_defaults("ok\n") == {}


def test_a_multipathd_that_answers_refuses_or_is_not_there(tmp_path: Path) -> None:
    assert read_defaults(tmp_path) == {}
    with FakeMultipathd(tmp_path) as daemon:
        daemon.answer = lambda command: CONFIG.encode()
        assert read_defaults(tmp_path)["find_multipaths"] == "strict"
        assert daemon.commands == ["show config"]
        daemon.answer = lambda command: b"ok\n"
        with pytest.raises(MultipathdError, match="does not tell its settings"):
            read_defaults(tmp_path)
        daemon.answer = lambda command: b"fail\n"
        with pytest.raises(MultipathdError, match="refuses"):
            read_defaults(tmp_path)
