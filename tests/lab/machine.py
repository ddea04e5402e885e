"""A booted guest that runs shell scripts on order."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab.image import image
from tests.lab.recipe import CHECKOUT

_CLOCK = "clocksource=acpi_pm"
"""Under emulation the default, HPET, was seen to stand still for a minute while the guest went on working."""
_QUICK = "mitigations=off cryptomgr.notests"
"""The self-tests of ciphers keep udev busy for two minutes under emulation, and whoever waits for it."""
BOOT_SECONDS = 1200.0
"""Under emulation on a busy machine; usually it takes 30 to 60."""
SECONDS = 300.0
"""For one script; an idle machine needs a tenth."""
_PORT = 977
_START_WARM = f"""
setsid /opt/mooring/bin/python /opt/lab/warm.py >/var/log/warm.log 2>&1 </dev/null &
for n in $(seq 400); do (exec 3<>/dev/tcp/127.0.0.1/{_PORT}) 2>/dev/null && exit 0; sleep 0.25; done
cat /var/log/warm.log; exit 1
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """What one script in the guest did."""

    script: str
    code: int
    out: str
    err: str
    stopped: int | None = None
    """The process, if it stopped itself where it was told to."""

    def __str__(self) -> str:
        return f"$ {self.script}\nexit code {self.code}\n{self.out}\n{self.err}"


class Machine:
    """One boot of the image; nothing that it writes outlives it.

    Args:
        folder: Where its sockets and logs go.
        processors: Under emulation each takes a core of this machine.
        nice: How far it stands back behind other work, as nice(1) has it.
    """

    def __init__(self, folder: Path, processors: int = 1, *, nice: int = 0) -> None:
        self._folder = folder
        self._warm = False
        self._numbers = itertools.count(1)
        built = image()
        self.console = folder / "console.log"
        self.terminal = folder / "terminal.sock"
        with open(folder / "qemu.log", "wb") as log:
            self._qemu = subprocess.Popen(
                _command(built, folder, processors, nice), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._port = self._connect()
        try:
            self._pack()
            self.run("true", seconds=BOOT_SECONDS)
            self._install()
        except BaseException:
            self.stop()
            raise

    def run(self, script: str, *, seconds: float = SECONDS, check: bool = True) -> Ran:
        """Run a bash script as root in the guest.

        Raises:
            AssertionError: it failed and `check` is set, or the guest is gone.
        """
        number = next(self._numbers)
        order = {"id": number, "script": script, "timeout": seconds}
        self._port.sendall((json.dumps(order) + "\n").encode())
        end = time.monotonic() + seconds + 30
        while True:
            answer = self._line(end)
            if answer.get("id") == number:
                done = Ran(script, answer["code"], answer["out"], answer["err"])
                assert not check or done.code == 0, str(done)
                return done

    def mooring(self, *words: str, seconds: float = SECONDS, check: bool = True, cold: bool = False) -> Ran:
        """Run one of Mooring's own commands in the guest.

        Args:
            words: What follows `mooring`.
            seconds: How long it may take.
            check: Whether it has to end with 0.
            cold: As a shell starts it. Else the Mooring that is started already forks for it: under emulation the start
                of Python takes longer than most commands.
        """
        if cold:
            return self.run(shlex.join(["/opt/mooring/bin/mooring", *words]), seconds=seconds, check=check)
        done = self.warm({"do": "mooring", "words": words}, seconds=seconds)
        assert not check or done.code == 0, str(done)
        return done

    def warm(self, order: dict[str, Any], *, seconds: float = 300.0) -> Ran:
        """Give an order to the Mooring that is started already (`guest/warm.py`)."""
        if not self._warm:
            self.run(_START_WARM, seconds=seconds)
            self._warm = True
        line = json.dumps({**order, "timeout": seconds})
        ran = self.run(
            f"exec 3<>/dev/tcp/127.0.0.1/{_PORT}; printf '%s\\n' {shlex.quote(line)} >&3; cat <&3", seconds=seconds + 30
        )
        answer = json.loads(ran.out)
        return Ran(line, answer["code"], answer["out"], answer["err"], answer.get("stopped"))

    @contextlib.contextmanager
    def timed(self, tolerance: float = 0.5) -> Iterator[None]:
        """What is measured inside counts only if the guest's clock has kept time with this machine's.

        Raises:
            AssertionError: it has not, so times taken in the guest mean nothing.
        """
        before = self._lag()
        yield
        lost = self._lag() - before
        assert abs(lost) <= tolerance, f"the guest's clock lost {lost:.2f} s: its times mean nothing"

    def _lag(self) -> float:
        """How far the guest's clock is behind, in seconds; the shortest of some round trips is the exact one."""
        found = []
        for _ in range(3):
            began = time.monotonic()
            guest = float(self.run("date +%s.%N").out)
            ended = time.monotonic()
            found.append((ended - began, (began + ended) / 2 - guest))
        return min(found)[1]

    def stop(self) -> None:
        """Switch the guest off."""
        self._port.close()
        if self._qemu.poll() is None:
            self._qemu.kill()
        self._qemu.wait()

    def _pack(self) -> None:
        """The project from the checkout by pip, as a user would; in the guest pip takes most of a minute."""
        made = self._folder / "project"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--root-user-action", "ignore"]
        subprocess.run([*pip, "--target", str(made), str(CHECKOUT)], check=True)
        with tarfile.open(self._folder / "project.tar", "w") as tar:
            tar.add(made, "project")
            tar.add(CHECKOUT / "tests" / "lab" / "guest", "lab")
        shutil.rmtree(made)

    def _install(self) -> None:
        self.run(
            "mkdir -p /mnt/lab /opt/lab && modprobe -a 9pnet_virtio 9p 2>/dev/null || true; "
            "mount -t 9p -o trans=virtio,version=9p2000.L,ro lab /mnt/lab && "
            "tar -C /root -xf /mnt/lab/project.tar && umount /mnt/lab && cp -r /root/lab/. /opt/lab && "
            "sed -i '1s|.*|#!/opt/mooring/bin/python|' /root/project/bin/mooring && "
            "mv /root/project/bin/mooring /opt/mooring/bin && rm -r /root/project/bin && "
            "mv /root/project/* /opt/mooring/lib/python3*/site-packages",
            seconds=BOOT_SECONDS,
        )

    def _connect(self) -> socket.socket:
        end = time.monotonic() + 30
        while True:
            port = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                port.connect(str(self._folder / "lab.sock"))
                self._rest = b""
                return port
            port.close()
            assert self._qemu.poll() is None, (self._folder / "qemu.log").read_text(errors="replace")
            assert time.monotonic() < end, "qemu made no socket"
            time.sleep(0.05)

    def _line(self, end: float) -> dict[str, Any]:
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._port], [], [], max(0.0, end - time.monotonic()))
            data = self._port.recv(1 << 20) if ready else b""
            assert data, f"the guest does not answer; its console ends:\n{self._tail()}"
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _tail(self) -> str:
        return self.console.read_text(errors="replace")[-3000:] if self.console.exists() else "(no console)"


def accelerator() -> str:
    """KVM where a guest really starts under it, else emulation.

    The node alone proves nothing: in a virtual machine without nested virtualisation it exists and a guest stalls.
    """
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK) and (" vmx " in flags or " svm " in flags)
    return "kvm" if usable and os.environ.get("MOORING_LAB_KVM") != "no" else "tcg,thread=multi"


def processor() -> str:
    """What the guest runs on: under emulation one without AVX, with which Python needs a third less time than on `max`.

    For the C library takes vector instructions where it finds some, and those are emulated one element at a time.
    """
    return "max" if accelerator() == "kvm" else "Nehalem"


def _command(built: Path, folder: Path, processors: int, nice: int) -> list[str]:
    return [
        *("nice", "-n", str(nice)),
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),  # tests that are killed leave no guest behind
        *("-accel", accelerator(), "-cpu", processor(), "-smp", str(processors), "-m", "2048", "-nodefaults"),
        *("-nographic", "-no-reboot"),
        *("-serial", f"file:{folder / 'console.log'}"),
        *("-kernel", str(built / "vmlinuz"), "-initrd", str(built / "initrd.img")),
        *("-append", f"console=ttyS0 root=/dev/vda rw panic=-1 loglevel=4 {_QUICK} {_CLOCK}"),
        *("-drive", f"file={built / 'disk.img'},if=virtio,format=raw,snapshot=on"),
        *("-device", "virtio-serial", "-chardev", f"socket,id=lab,path={folder / 'lab.sock'},server=on,wait=off"),
        *("-device", "virtserialport,chardev=lab,name=lab"),
        *("-chardev", f"socket,id=terminal,path={folder / 'terminal.sock'},server=on,wait=off"),
        *("-device", "virtconsole,chardev=terminal"),
        *("-virtfs", f"local,path={folder},mount_tag=lab,security_model=none,readonly=on"),
    ]
