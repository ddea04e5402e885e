"""Every input in every state of a session: a user who does anything, and a target that keeps the rules.

The target is a model: it knows which commands it has, what was written, what it still owes. Whatever order things come
in, command numbers have no gap and stay in the window, tags are unique, each task ends exactly once and with its own
bytes, and what is left when the connection breaks is handed back in the order of submission.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from initiator.protocol.errors import ConnectionLost, LocalProtocolError
from initiator.protocol.keys import Params
from initiator.protocol.pdu import (
    NO_TAG,
    R2T,
    AsyncMessage,
    DataOut,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    Reject,
    Response,
    ScsiCommand,
    TaskManagement,
    TaskManagementResponse,
    TextRequest,
    TextResponse,
)
from initiator.protocol.session import ABORT_TASK, LU_RESET, TARGET_WARM_RESET, Task, TaskError
from tests.protocol.session_rig import LUN, WORD, Begin, Rig

_SENSE = b"\0\x12\x70\0\5\0\0\0\0\x0a\0\0\0\0\x24\0\0\0\0\0"
_picks = st.integers(0, 1 << 16)


@dataclasses.dataclass(eq=False)
class Command:
    """A command as the target has it: what is to be read, or what has been written so far."""

    itt: int
    reads: bytes = b""
    size: int = 0
    at: int = 0
    data_sn: int = 0
    written: bytearray = dataclasses.field(default_factory=bytearray)
    due: int = 0
    """Where the data end that were sent unasked or asked for."""
    r2ts: int = 0


class SessionMachine(RuleBasedStateMachine):
    """Rules named `user_…` are the user's, the others the target's."""

    @initialize(
        header=st.booleans(),
        data=st.booleans(),
        unasked=st.booleans(),
        immediate=st.booleans(),
        cmd_sn=st.sampled_from([1, WORD - 3]),
        seed=_picks,
    )
    def begin(self, header: bool, data: bool, unasked: bool, immediate: bool, cmd_sn: int, seed: int) -> None:
        self.params = Params(
            header_digest=header,
            data_digest=data,
            initial_r2t=not unasked,
            immediate_data=immediate,
            first_burst_length=1024,
            max_burst_length=2048,
            max_recv_data_segment_length=65536,
            max_xmit_data_segment_length=512,
        )
        self.rig = Rig(self.params, Begin(cmd_sn, WORD - 2, cmd_sn, (cmd_sn + 3) & WORD))
        self.dice = random.Random(seed)
        self.submitted: list[Task] = []
        self.contents: dict[int, bytes] = {}
        self.commands: dict[int, Command] = {}
        self.owed: list[Callable[[], Response]] = []
        self.expected: dict[int, bytes] = {}
        self.broken = False
        self.managing = 0
        """Task management requests under way: the target has to take one at a time (4.2.2.1)."""

    # The user

    @precondition(lambda self: not self.broken)
    @rule(size=st.sampled_from([0, 1, 511, 512, 4096, 5000]), writes=st.booleans(), deadline=st.booleans())
    def user_submits(self, size: int, writes: bool, deadline: bool) -> None:
        content = self.dice.randbytes(size)
        buffer = memoryview(content) if writes else memoryview(bytearray(size))
        task = self.rig.task(
            data_out=buffer if writes else None,
            data_in=None if writes else buffer,
            deadline=self.rig.now + 3 if deadline else None,
        )
        if not self.rig.core.sendable:
            try:
                self.rig.submit(task)
            except LocalProtocolError:
                return
            raise AssertionError("a command was taken after the logout")
        self.contents[id(task)] = content
        self.submitted.append(task)
        self.rig.submit(task)
        self.take()

    @precondition(lambda self: not self.broken and self.submitted)
    @rule(pick=_picks)
    def user_aborts(self, pick: int) -> None:
        self.rig.core.abort(self.submitted[pick % len(self.submitted)], TaskError("no more", code="aborted"))
        self.take()

    @precondition(lambda self: not self.broken and self.rig.core.sendable)
    @rule(function=st.sampled_from([LU_RESET, TARGET_WARM_RESET]))
    def user_resets(self, function: int) -> None:
        self.rig.core.task_management(function, LUN, self.rig.now)
        self.take()

    @precondition(lambda self: not self.broken)
    @rule()
    def user_pings(self) -> None:
        self.rig.core.ping(self.rig.now)
        self.take()

    @precondition(lambda self: not self.broken)
    @rule()
    def user_negotiates(self) -> None:
        try:
            self.rig.core.negotiate(self.rig.now)
        except LocalProtocolError:
            return
        self.take()

    @precondition(lambda self: not self.broken)
    @rule(rarely=st.integers(0, 4))
    def user_logs_out(self, rarely: int) -> None:
        if not rarely:
            self.rig.core.logout(0, self.rig.now)
            self.take()

    @precondition(lambda self: not self.broken)
    @rule(seconds=st.sampled_from([0.25, 2.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.rig.now += seconds
        try:
            self.rig.core.tick(self.rig.now)
        except ConnectionLost:
            self.lose()
            return
        self.take()

    # The target

    def take(self) -> None:
        """The target receives what was sent."""
        for pdu in self.rig.sent():
            match pdu:
                case ScsiCommand():
                    self.new_command(pdu)
                case DataOut():
                    self.data_out(pdu)
                case NopOut():
                    if pdu.initiator_task_tag != NO_TAG:
                        self.owe(NopIn(initiator_task_tag=pdu.initiator_task_tag, data=pdu.data))
                case TaskManagement():
                    self.number(pdu.cmd_sn, immediate=pdu.immediate)
                    if self.managing and self.dice.random() < 0.5:
                        self.owe(Reject(reason=0x06, data=pdu.encode()[:48]))
                    else:
                        self.managing += 1
                        self.owed.append(lambda pdu=pdu: self.managed(pdu))  # type: ignore[misc]
                case TextRequest():
                    self.owe(TextResponse(initiator_task_tag=pdu.initiator_task_tag))
                case LogoutRequest():
                    self.number(pdu.cmd_sn, immediate=pdu.immediate)
                    self.owe(LogoutResponse(initiator_task_tag=pdu.initiator_task_tag))
                case _:
                    raise AssertionError(f"not expected here: {pdu}")

    def owe(self, pdu: Response) -> None:
        self.owed.append(lambda: pdu)

    def number(self, cmd_sn: int, *, immediate: bool) -> None:
        """4.2.2.1: no gap, no repetition, and within the window."""
        assert cmd_sn == self.rig.exp_cmd_sn & WORD
        if not immediate:
            assert (self.rig.max_cmd_sn - cmd_sn) & WORD < 1 << 31, "a command beyond the window"
            self.rig.exp_cmd_sn = (cmd_sn + 1) & WORD

    def new_command(self, pdu: ScsiCommand) -> None:
        self.number(pdu.cmd_sn, immediate=pdu.immediate)
        assert pdu.initiator_task_tag not in self.commands, "a tag was used twice"
        (task,) = [one for one in self.submitted if one.itt == pdu.initiator_task_tag and self.is_live(one)]
        size = pdu.expected_data_transfer_length
        command = Command(pdu.initiator_task_tag, size=size)
        if pdu.write:
            assert self.params.immediate_data or not pdu.data
            command.written += pdu.data
            unasked = min(size, self.params.first_burst_length)
            command.due = len(pdu.data) if pdu.final else unasked
        else:
            command.reads = self.contents[id(task)]
        self.commands[command.itt] = command

    def is_live(self, task: Task) -> bool:
        return not any(task is one for one in self.rig.done)

    def data_out(self, pdu: DataOut) -> None:
        command = self.commands.get(pdu.initiator_task_tag)
        if command is None:
            return  # it was answered before its data had all come
        assert pdu.buffer_offset == len(command.written)
        command.written += pdu.data
        assert len(command.written) <= command.due
        assert pdu.final is (len(command.written) == command.due)

    @precondition(lambda self: not self.broken and self.owed)
    @rule(pick=_picks)
    def target_pays(self, pick: int) -> None:
        self.rig.feed(self.rig.number(self.owed.pop(pick % len(self.owed))()))
        self.take()

    def managed(self, request: TaskManagement) -> Response:
        """Done, or refused; what it ends gets no other answer (11.6.1)."""
        self.managing -= 1
        response = self.dice.choice([0, 0, 255])
        if request.function == ABORT_TASK:
            if request.referenced_task_tag not in self.commands:
                response = 1
            elif not response:
                del self.commands[request.referenced_task_tag]
        elif not response:
            before = {task.itt for task in self.submitted if (request.cmd_sn - 1 - task.cmd_sn) & WORD < 1 << 31}
            self.commands = {itt: one for itt, one in self.commands.items() if itt not in before}
        return TaskManagementResponse(initiator_task_tag=request.initiator_task_tag, response=response)

    @precondition(lambda self: not self.broken and self.commands)
    @rule(pick=_picks, size=st.sampled_from([0, 100, 4096]), piece=st.sampled_from([None, 1000]))
    def target_sends_data(self, pick: int, size: int, piece: int | None) -> None:
        command, task = self.choose(pick)
        if task.data_in is None:
            return
        data = command.reads[command.at : command.at + size]
        last = command.at + len(data) == command.size
        if last:
            self.end(command, good=True)
        build = self.rig.last_data if last else self.rig.data_in
        self.rig.feed(build(task, data, data_sn=command.data_sn, buffer_offset=command.at), piece=piece)
        command.at += len(data)
        command.data_sn += 1
        self.take()

    @precondition(lambda self: not self.broken and self.commands)
    @rule(pick=_picks, size=st.sampled_from([1, 700, 2048]))
    def target_asks_for_data(self, pick: int, size: int) -> None:
        command, task = self.choose(pick)
        if task.data_out is None or command.due == command.size or len(command.written) < command.due:
            return
        size = min(size, command.size - command.due)
        asked = R2T(
            initiator_task_tag=command.itt,
            target_transfer_tag=9,
            lun=LUN,
            r2t_sn=command.r2ts,
            buffer_offset=command.due,
            desired_data_transfer_length=size,
        )
        command.due += size
        command.r2ts += 1
        self.rig.feed(self.rig.number(asked, counted=False))
        self.take()
        assert len(command.written) == command.due

    @precondition(lambda self: not self.broken and self.commands)
    @rule(pick=_picks, status=st.sampled_from([0x00, 0x02, 0x08, 0x28]))
    def target_answers(self, pick: int, status: int) -> None:
        command, task = self.choose(pick)
        moved = command.at if task.data_in is not None else len(command.written)
        left = command.size - moved
        self.end(command, good=status == 0 and not left)
        data = _SENSE if status == 0x02 else b""
        count = command.data_sn if task.data_in is not None else command.r2ts
        answer = self.rig.response(
            task, status=status, data=data, underflow=left > 0, residual_count=left, exp_data_sn=count
        )
        self.rig.feed(answer)
        self.take()

    def choose(self, pick: int) -> tuple[Command, Task]:
        command = list(self.commands.values())[pick % len(self.commands)]
        (task,) = [one for one in self.submitted if one.itt == command.itt and self.is_live(one) and one.sent_at]
        return command, task

    def end(self, command: Command, *, good: bool) -> None:
        _, task = self.choose(list(self.commands).index(command.itt))
        del self.commands[command.itt]
        if good:
            self.expected[id(task)] = self.contents[id(task)]
            assert task.data_out is None or command.written == self.contents[id(task)]

    @precondition(lambda self: not self.broken)
    @rule(room=st.integers(0, 6))
    def target_moves_the_window(self, room: int) -> None:
        """It never shrinks below what was promised (4.2.2.1)."""
        wanted = (self.rig.exp_cmd_sn + room - 1) & WORD
        if (wanted - self.rig.max_cmd_sn) & WORD < 1 << 31:
            self.rig.max_cmd_sn = wanted
        self.rig.feed(self.rig.number(NopIn(), counted=False))
        self.take()

    @precondition(lambda self: not self.broken)
    @rule(event=st.sampled_from([0, 1, 4]))
    def target_speaks_unasked(self, event: int) -> None:
        self.rig.feed(
            self.rig.number(AsyncMessage(async_event=event)),
            self.rig.number(NopIn(target_transfer_tag=5, lun=LUN), counted=False),
        )
        self.rig.core.events.clear()
        self.take()

    @precondition(lambda self: not self.broken and self.commands)
    @rule(pick=_picks)
    def target_rejects(self, pick: int) -> None:
        """7.3: the command ends by ABORT TASK, which leaves no hole in the numbers."""
        command, _ = self.choose(pick)
        del self.commands[command.itt]
        header = bytes(16) + command.itt.to_bytes(4, "big") + bytes(28)
        self.rig.feed(self.rig.number(Reject(reason=0x09, data=header)))
        self.take()

    @precondition(lambda self: not self.broken)
    @rule(rarely=st.integers(0, 9))
    def connection_breaks(self, rarely: int) -> None:
        if not rarely:
            self.lose()

    @precondition(lambda self: self.broken)
    @rule()
    def nothing_goes_any_more(self) -> None:
        core, now = self.rig.core, self.rig.now
        assert not core.ping(now)
        core.logout(0, now)
        core.tick(now + 100)
        for task in self.submitted:
            core.abort(task, TaskError("no more", code="aborted"))
        with pytest.raises(LocalProtocolError):
            core.submit(self.rig.task(), now)
        assert core.abandon() == []
        assert (core.in_flight, core.out, core.sendable) == (0, False, False)

    def lose(self) -> None:
        self.broken = True
        back = self.rig.core.abandon()
        order = [id(task) for task in self.submitted]
        assert [id(task) for task in back] == sorted((id(task) for task in back), key=order.index)
        assert len(back) + len(self.rig.done) == len(self.submitted), "a task was lost"
        assert not {id(task) for task in back} & {id(task) for task in self.rig.done}

    # What always holds

    @invariant()
    def each_task_ends_once(self) -> None:
        if not hasattr(self, "rig"):
            return
        ends = [id(task) for task in self.rig.done]
        assert len(set(ends)) == len(ends)
        if not self.broken:
            assert self.rig.core.in_flight == len(self.submitted) - len(ends)

    @invariant()
    def good_means_good(self) -> None:
        if not hasattr(self, "rig"):
            return
        for task in self.rig.done:
            assert task.good is (id(task) in self.expected), task
            if task.good and task.data_in is not None:
                assert bytes(task.data_in) == self.expected[id(task)]

    def teardown(self) -> None:
        if hasattr(self, "rig") and not self.broken:
            self.lose()


SessionMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSession = SessionMachine.TestCase
