from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from initiator.host.hostfiles import FstabEntry
from initiator.host.links import read_links
from initiator.host.nodes import Records
from initiator.model import Severity, Snapshot
from initiator.names import clean
from initiator.scsi.reservations import Registration
from safety.advice.catalogue import RULES, Advice, advise, at_least
from safety.advice.facts import Facts
from safety.advice.rule import Rule
from tests.safety import advice_host as host
from tests.safety import checks_page
from tests.safety.advice_cases import CASES, LOOSE, both, disk

by_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def about(rule: Rule, pair: tuple[Snapshot, Facts]) -> Advice:
    return advise(*pair, rules=(rule,))


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    assert [rule.id for rule in RULES if rule.id not in CASES] == []
    assert sorted(CASES) == sorted(rule.id for rule in RULES)


@by_rule
def test_a_rule_fires(rule: Rule) -> None:
    advice = about(rule, CASES[rule.id].fires.build())
    assert [found.rule for found in advice.findings]
    found = next(each for each in advice.findings if CASES[rule.id].subject in each.subject)
    assert (found.severity, found.title, found.reason) == (rule.severity, rule.title, rule.reason)
    assert found.evidence
    assert found.fix


@by_rule
def test_a_rule_is_silent_on_a_well_built_host(rule: Rule) -> None:
    advice = about(rule, (host.snapshot(), host.facts()))
    assert advice == Advice((), (), 1000.0)


@by_rule
def test_a_rule_that_cannot_know_says_so(rule: Rule) -> None:
    advice = about(rule, CASES[rule.id].unknown.build())
    assert [found.rule for found in advice.findings] == []
    assert [blank.rule for blank in advice.unknown if blank.reason and blank.subject]


@by_rule
def test_a_rule_teaches(rule: Rule) -> None:
    texts = (rule.title, rule.reason, rule.fix)
    assert all(clean(text) == text for text in texts)
    assert not rule.title.endswith(".")
    assert rule.reason.endswith(".") or rule.reason.endswith(")")
    assert len(rule.title) <= 90
    assert 60 <= len(rule.reason) <= 420


def test_a_host_without_iscsi_has_nothing_to_be_told() -> None:
    nothing = Facts(0.0, records=Records(), daemon={}, fstab=(), units={}, multipath={}, secrets=())
    assert advise(Snapshot("bare", 0.0), nothing).findings == ()


def test_where_nothing_could_be_read_no_rule_fires_for_what_it_needed() -> None:
    """Unknown is never a finding, and never silence where there was something to ask about."""
    advice = advise(host.snapshot(), Facts(1000.0))
    assert advice.findings == ()
    assert {blank.rule for blank in advice.unknown} >= {
        "network/one-subnet", "boot/fstab-netdev", "security/chap-weak", "data/shared-lun", "multipath/no-alua",
    }  # fmt: skip


def test_a_command_can_be_copied_whatever_a_target_is_called() -> None:
    target = "iqn.2026-11.com.example:x;reboot\x1b[31m"
    records = host.records(host.record(3, target=target, node__session__scan="auto"))
    for finding in advise(host.snapshot(), host.facts(records=records)).findings:
        assert "\x1b" not in finding.fix
        assert ";reboot" not in finding.fix or "'iqn.2026-11.com.example:x;reboot[31m'" in finding.fix


def test_the_worst_comes_first_and_nothing_twice() -> None:
    snapshot, facts = CASES["data/write-cache"].fires.build()
    facts = dataclasses.replace(facts, secrets=CASES["security/same-secret"].fires.facts["secrets"], daemon={})
    findings = advise(snapshot, facts).findings
    assert [found.severity for found in findings] == [Severity.BAD, Severity.WARN, Severity.NOTE]
    assert len(set(findings)) == len(findings)


def test_findings_are_as_bad_as_the_worst_of_them() -> None:
    findings = about(RULES[0], CASES[RULES[0].id].fires.build()).findings
    assert at_least(findings, Severity.BAD)
    note = tuple(dataclasses.replace(found, severity=Severity.NOTE) for found in findings)
    assert not at_least(note, Severity.WARN)
    assert at_least(note, Severity.NOTE)
    assert not at_least((), Severity.NOTE)


@pytest.mark.parametrize(
    ("recovery", "queueing", "polling", "words"),
    [
        ("20", "12 chk", "5", None),
        ("20", "2 chk", "5", "longer than mail queues without a path (10 s)"),
        ("20", "5 sec", "5", "longer than mail queues without a path (5 s)"),
        ("20", "off", "5", None),
        ("5", "2 chk", "2", "longer than mail queues without a path (4 s)"),
        ("-1", "12 chk", "5", "although there is another path"),
    ],
)
def test_three_clocks_against_each_other(recovery: str, queueing: str, polling: str, words: str | None) -> None:
    details = {**host.session(1).details, "recovery_timeout_s": recovery}
    snapshot = host.snapshot(
        sessions=(host.session(1, details=details), host.session(2)), maps=(host.map_(queueing=queueing),)
    )
    facts = host.facts(multipath={"find_multipaths": "strict", "polling_interval": polling})
    told = [found.evidence for found in advise(snapshot, facts).findings if found.subject == host.session(1).name]
    assert ([words in each for each in told] == [True]) if words else told == []


@pytest.mark.parametrize(("recovery", "fires"), [("120", False), ("5", True), ("-1", False)])
def test_a_disk_with_one_path_has_to_wait_long(recovery: str, fires: bool) -> None:
    details = {**host.session(1).details, "recovery_timeout_s": recovery}
    snapshot = host.snapshot(
        sessions=(host.session(1, details=details),),
        maps=(),
        paths=(host.path(1, map=None),),
        disks=(host.disk(map=None),),
    )
    fired = {found.rule for found in advise(snapshot, host.facts()).findings}
    assert ("multipath/timers" in fired) is fires


def test_each_mount_of_a_volume_has_an_order_of_its_own_and_those_elsewhere_have_none() -> None:
    hand = host.volume(id="volume:41", mountpoint="/srv/hand", mount_id=41)
    inside = host.volume(id="volume:9:42", mountpoint="/inside", mount_id=42, namespace="9")
    facts = host.facts(mounts_after={**(host.facts().mounts_after or {}), "/srv/hand": frozenset({"-.mount"})})
    findings = advise(host.snapshot(volumes=(host.volume(), hand, inside)), facts).findings
    assert [(found.rule, found.subject) for found in findings] == [("boot/unmount-order", "/srv/hand")]


def test_half_an_isid_is_no_other_hosts() -> None:
    facts = host.facts(registrations={host.DISK: (Registration(1, host.US, "00023d"),)})
    assert advise(host.snapshot(), facts).findings == ()


def test_a_session_that_does_not_tell_its_isid_may_be_the_one_that_is_registered() -> None:
    sessions = tuple(host.session(number, isid=None) for number in host.NUMBERS)
    facts = host.facts(registrations={host.DISK: (Registration(1, host.US, "00023d010000"),)})
    advice = advise(host.snapshot(sessions=sessions), facts)
    assert advice.findings == ()
    assert [(blank.rule, "00023d010000" in blank.reason) for blank in advice.unknown] == [
        ("naming/initiator-shared", True)
    ]


def test_a_registration_is_anothers_where_only_sessions_of_another_name_hide_their_isid() -> None:
    other = host.session(9, isid=None, initiator="iqn.2026-11.com.example:second", luns=(), link=None)
    facts = host.facts(registrations={host.DISK: (Registration(1, host.US, "00023d999999"),)})
    found = advise(host.snapshot(sessions=(host.session(1), host.session(2), other)), facts).findings
    assert ("naming/initiator-shared", host.US) in {(each.rule, each.subject) for each in found}


def test_nobody_but_this_host_being_registered_is_nothing_to_tell() -> None:
    mine = tuple(Registration(1, host.US, host.session(number).isid) for number in host.NUMBERS)
    advice = advise(host.snapshot(), host.facts(registrations={host.DISK: mine}))
    assert (advice.findings, advice.unknown) == ((), ())


def test_keys_whose_owner_is_not_told_are_not_another_hosts() -> None:
    asked = {host.DISK: (Registration(7, None), Registration(9, host.US))}
    advice = advise(host.snapshot(), host.facts(registrations=asked))
    assert advice.findings == ()
    assert [(blank.rule, "whose the keys 0x7 are" in blank.reason) for blank in advice.unknown] == [
        ("data/shared-lun", True)
    ]


def test_a_loopback_session_needs_no_advice_on_cables() -> None:
    found, _ = read_links()
    lo = next(link for link in found if link.kind == "loopback")
    sessions = tuple(host.session(number, link=lo.id) for number in host.NUMBERS)
    paths = tuple(host.path(number, link=lo.id) for number in host.NUMBERS)
    advice = advise(host.snapshot(sessions=sessions, paths=paths, links=(lo,)), host.facts())
    assert [each for each in advice.findings if each.family == "network"] == []


def rules_that_fire(snapshot: Snapshot, facts: Facts) -> dict[str, str]:
    """Each with its way out."""
    return {found.rule: found.fix for found in advise(snapshot, facts).findings}


def test_a_mounted_disk_that_no_map_joins_is_told_whatever_multipathd_says() -> None:
    """Its first device was mounted before the map was made, or multipathd did not start."""
    loose = both(LOOSE, disk(map=None, multipath=None))
    assert "multipath/not-joined" in rules_that_fire(*loose.build())


def test_the_only_way_out_of_a_host_is_not_to_be_deleted() -> None:
    alone = rules_that_fire(host.snapshot(), host.facts(default_links=frozenset({"eth1"})))
    assert "route del" not in alone["network/default-route"]
    two = rules_that_fire(host.snapshot(), host.facts(default_links=frozenset({"eth0", "eth1"})))
    assert "if no portal is behind that gateway: ip route del default dev eth1" in two["network/default-route"]


def test_a_new_label_is_warned_of_where_the_old_one_may_be_in_fstab() -> None:
    for fstype, words in (("ext4", "e2label"), ("btrfs", "btrfs filesystem label /srv/mail NAME")):
        fix = rules_that_fire(host.snapshot(volumes=(host.volume(label="LUN0001", fstype=fstype),)), host.facts())
        assert words in fix["naming/label-meaningless"]
        assert "first change that to UUID=" in fix["naming/label-meaningless"]
    missing = rules_that_fire(host.snapshot(volumes=(host.volume(label=None),)), host.facts())
    assert "fstab" not in missing["naming/label-missing"], "nobody mounts it by a label that it has not"


def test_what_the_initramfs_mounts_is_ordered_by_it() -> None:
    """Root on iSCSI: systemd orders it neither after the network nor after the logout, and need not."""
    root = host.volume(mountpoint="/")
    entry = FstabEntry(f"UUID={host.UUID}", "/", "ext4", ("defaults",))
    facts = host.facts(fstab=(entry,), mounts_after={"/": frozenset()})
    assert not {"boot/fstab-netdev", "boot/unmount-order"} & set(rules_that_fire(host.snapshot(volumes=(root,)), facts))


def test_of_a_targets_records_only_those_without_a_session_are_to_be_forgotten() -> None:
    fix = rules_that_fire(host.snapshot(), host.facts(records=host.records(host.record(3))))["leftovers/record-idle"]
    place = f"iscsiadm -m node -T {host.TARGET} -p 10.9.3.2:3260 -I default -o delete"
    assert fix == f"log in: mooring login {host.TARGET}; or forget it: {place}"


def test_of_an_array_with_a_target_for_each_port_one_that_is_logged_in_to_is_enough() -> None:
    other = f"{host.TARGET}-b"
    sessions = (host.session(1), host.session(2, target=other))
    snapshot = host.snapshot(sessions=sessions, disks=(host.disk(target=None),))
    plain = host.records()
    for modes, fires in ((("automatic", "manual"), False), (("manual", "manual"), True)):
        nodes = (
            host.record(1, node__startup=modes[0]),
            host.record(2, target=other, node__startup=modes[1]),
        )
        facts = host.facts(records=dataclasses.replace(plain, nodes=nodes))
        told = [each for each in advise(snapshot, facts).findings if each.rule == "boot/startup-manual"]
        assert bool(told) is fires
        assert {each.evidence.partition(": ")[0] for each in told} == ({host.TARGET, other} if fires else set())


def digests_off(snapshot: Snapshot, **changes: Any) -> Advice:
    (rule,) = [each for each in RULES if each.id == "data/digests-off"]
    return about(rule, (snapshot, host.facts(**changes)))


YEAR = 365 * host.DAY


@pytest.mark.parametrize(
    ("count", "age", "words"),
    [
        (1, host.DAY / 2, "1 time-out since it appeared 12 hours ago"),
        (1, YEAR, None),
        (364, YEAR, None),
        (3650, YEAR, "3,650 time-outs since it appeared 365 days ago"),
    ],
)
def test_time_outs_of_long_ago_say_nothing_of_a_path_today(count: int, age: float, words: str | None) -> None:
    path = host.path(1, timeouts=count)
    advice = digests_off(host.snapshot(paths=(path, host.path(2))), ages={path.id: age})
    expected = [f"DataDigest None; {path.name}: {words}"] if words is not None else []
    assert [found.evidence for found in advice.findings] == expected
    assert advice.unknown == ()


def test_receive_errors_are_judged_by_how_often_they_come_too() -> None:
    link = host.link(1, rx_errors=7)
    snapshot = host.snapshot(links=(link, host.link(2)))
    assert digests_off(snapshot, ages={link.id: YEAR}) == Advice((), (), 1000.0)
    (found,) = digests_off(snapshot, ages={link.id: 90.0}).findings
    assert found.evidence == "DataDigest None; eth1: 7 receive errors since it appeared 90 seconds ago"


@pytest.mark.parametrize("ages", [None, {}])
def test_errors_of_which_nobody_knows_how_old_they_are_prove_nothing(ages: dict[str, float] | None) -> None:
    path = host.path(1, timeouts=5)
    advice = digests_off(host.snapshot(paths=(path, host.path(2))), ages=ages)
    assert advice.findings == ()
    assert [blank.reason for blank in advice.unknown] == [
        f"whether its errors are of today; {path.name}: 5 time-outs, nobody knows since when"
    ]


def test_iser_takes_no_digests() -> None:
    snapshot, facts = CASES["data/digests-off"].fires.build()
    assert "data/digests-off" in rules_that_fire(snapshot, facts)
    iser = tuple(dataclasses.replace(each, details={**each.details, "transport": "iser"}) for each in snapshot.sessions)
    assert "data/digests-off" not in rules_that_fire(dataclasses.replace(snapshot, sessions=iser), facts)


def test_the_page_has_every_rule_as_it_is() -> None:
    page = checks_page.PAGE.read_text(encoding="utf-8")
    assert checks_page.filled(page) == page, "run: python -m tests.safety.checks_page"
