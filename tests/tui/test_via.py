"""Which initiator an order goes to."""

from __future__ import annotations

import dataclasses

import pytest

from initiator.errors import MooringError
from initiator.model import Portal, Source
from tests.tui import samples
from tui.via import Facts, choose, held_by_engine

HERE = Facts("", root=True)


@pytest.mark.parametrize(
    ("asked", "facts", "source", "why"),
    [
        (None, HERE, Source.KERNEL, "open-iscsi is here"),
        (None, HERE._replace(kernel_why_not="this kernel has no iSCSI"), Source.ENGINE, "this kernel has no iSCSI"),
        (None, HERE._replace(root=False), Source.ENGINE, "only root"),
        (None, HERE._replace(held="a session with this target"), Source.ENGINE, "holds a session with this target"),
        (None, HERE._replace(only_engine="--initiator"), Source.ENGINE, "--initiator"),
        ("engine", HERE, Source.ENGINE, "as asked for"),
        ("kernel", HERE._replace(held="a session with this target", root=False), Source.KERNEL, "as asked for"),
    ],
)
def test_who_does_it(asked: str | None, facts: Facts, source: Source, why: str) -> None:
    choice = choose(asked, facts)
    assert choice.source is source
    assert why in str(choice)


@pytest.mark.parametrize(
    ("facts", "code"),
    [(Facts("no iscsiadm", root=True), "no-open-iscsi"), (HERE._replace(only_engine="--initiator"), "bad-input")],
)
def test_the_kernel_is_never_replaced_in_silence(facts: Facts, code: str) -> None:
    with pytest.raises(MooringError) as caught:
        choose("kernel", facts)
    assert caught.value.code == code


def test_what_the_engine_holds() -> None:
    sessions = samples.practice().sessions
    harbour, here = f"{samples.IQN}:harbour", Portal("127.0.0.1")
    assert held_by_engine(sessions, harbour, None)
    assert held_by_engine(sessions, None, here)
    assert not held_by_engine(sessions, f"{samples.IQN}:elsewhere", here)
    assert not held_by_engine(sessions, None, Portal("127.0.0.1", 3261))
    assert not held_by_engine([dataclasses.replace(each, source=Source.KERNEL) for each in sessions], harbour, None)
