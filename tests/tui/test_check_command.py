"""`mooring check` over a host in values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from initiator.model import Severity, Snapshot
from safety.advice.catalogue import RULES, advise
from safety.advice.facts import Facts
from tests.safety import advice_host as host
from tests.safety.advice_cases import CASES, both
from tui.checktext import findings_text, summary
from tui.cli import main
from tui.commands import check

WRONG = both(CASES["boot/fstab-netdev"].fires, CASES["data/write-cache"].fires)


class Given:
    """What the command finds; set by each test."""

    pair: tuple[Snapshot, Facts]

    def read(self, _: Snapshot) -> Facts:
        return self.pair[1]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    found = Given()
    monkeypatch.setattr(check, "snapshot", lambda: found.pair[0])
    monkeypatch.setattr(check, "FactsReader", lambda: found)
    return found


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["check", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_well_built_host_prints_nothing_on_stdout(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    given.pair = (host.snapshot(), host.facts())
    assert run(capsys) == (0, "", f"{len(RULES)} rules: nothing found\n")
    assert run(capsys, "--fail-on", "note")[0] == 0


def test_findings_with_reason_and_way_out(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    given.pair = WRONG.build()
    code, out, err = run(capsys)
    assert code == 0
    assert out.startswith("BAD   fstab mounts an iSCSI volume like a local disk  [boot/fstab-netdev]\n")
    plain = " ".join(out.split())
    assert "- /srv/mail: /etc/fstab: LABEL=mail-spool with defaults" in plain
    assert "why: Without _netdev the boot waits" in plain
    assert "fix: add _netdev,nofail to its options in /etc/fstab" in plain
    assert out.index("BAD ") < out.index("NOTE ")
    assert all(len(line) <= 80 for line in out.splitlines())
    assert err.endswith("rules: 1 bad, 1 note\n")


@pytest.mark.parametrize(("severity", "code"), [("note", 1), ("warn", 0), ("bad", 0)])
def test_the_exit_code_follows_only_when_asked_to(
    severity: str, code: int, given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    given.pair = CASES["data/write-cache"].fires.build()
    assert run(capsys, "--fail-on", severity)[0] == code


def test_json_has_everything(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot, facts = WRONG.build()
    given.pair = (snapshot, dataclasses.replace(facts, units=None))
    code, out, _ = run(capsys, "--json")
    told: dict[str, Any] = json.loads(out)
    assert code == 0
    assert (told["schema"], told["host"], told["read_at"]) == (1, "host7", 1000.0)
    assert [each["rule"] for each in told["findings"]] == ["boot/fstab-netdev", "data/write-cache"]
    first = told["findings"][0]
    assert (first["severity"], first["family"], first["subject"], first["about"]) == (
        "bad",
        "boot",
        "/srv/mail",
        "volume:40",
    )
    assert {each["rule"] for each in told["unknown"]} == {"boot/login-unit", "boot/multipathd-unit"}


def test_what_is_not_known_is_told_when_asked(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    given.pair = (host.snapshot(), host.facts(units=None))
    code, out, err = run(capsys)
    assert (code, out) == (0, "")
    assert "2 questions without an answer" in err
    assert "mooring check --unknown" in err
    _, out, _ = run(capsys, "--unknown")
    assert "?     boot/login-unit\n      - open-iscsi's units: it was not read" in out


def test_rules_can_be_chosen_and_left_out(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    given.pair = WRONG.build()
    assert "write-cache" not in run(capsys, "boot")[1]
    assert "fstab-netdev" not in run(capsys, "--ignore", "boot/fstab-netdev")[1]
    assert run(capsys, "boot", "--ignore", "boot/fstab-netdev")[1] == ""
    code, _, err = run(capsys, "boot/fstab-netdv")
    assert code == 2
    assert "did you mean boot/fstab-netdev?" in err


def test_the_list_of_all_rules(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--list")
    assert all(rule.id in out for rule in RULES)
    told = json.loads(run(capsys, "--list", "--json")[1])
    assert [each["id"] for each in told["rules"]] == [rule.id for rule in RULES]
    assert all(each["reason"] and each["fix"] and each["title"] for each in told["rules"])
    assert {each["severity"] for each in told["rules"]} == set(Severity)


def test_outside_strings_are_plain_text() -> None:
    snapshot, facts = CASES["naming/label-meaningless"].fires.build()
    hostile = dataclasses.replace(snapshot.volumes[0], mountpoint="/mnt/\x1b[31mred\nx", label="LUN0001")
    advice = advise(dataclasses.replace(snapshot, volumes=(hostile,)), facts)
    text = findings_text(advice.findings, 80)
    assert "\x1b" not in text
    assert "red x" in text


@pytest.mark.parametrize(
    ("rules", "expected"),
    [(("data/write-cache",), "1 note"), (("boot/fstab-netdev", "data/write-cache"), "1 bad, 1 note")],
)
def test_the_summary_counts(rules: Sequence[str], expected: str) -> None:
    chosen = [rule for rule in RULES if rule.id in rules]
    assert summary(advise(*WRONG.build(), rules=chosen)) == expected
