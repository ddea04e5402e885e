"""Builds the guest's disk image once for each recipe and keeps it in the user's cache folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import platformdirs

from tests.lab.recipe import CHECKOUT, FILES, HERE, IMAGE_SIZE, MASKED, PACKAGES, SUITE, fingerprint

NEEDED = ("debootstrap", "qemu-system-x86_64", "mke2fs", "unshare", "setpriv")
MIRROR = "http://deb.debian.org/debian"
KEPT = 2
"""Images of other recipes that stay: other checkouts may be using them."""
DEADLINE = 1200.0
"""Seconds for the whole build; it takes about three minutes."""
SILENCE = 240.0
"""Seconds without a word from debootstrap or pip that mean it hangs."""


class ImageError(Exception):
    """The guest's image cannot be made here; the text says what is missing."""


def missing() -> str | None:
    """What this machine lacks for the lab, or None."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid() != 0:
        lacking.append("root (debootstrap)")
    return ", ".join(lacking) or None


def image() -> Path:
    """The folder with `disk.img`, `vmlinuz` and `initrd.img`, built if need be.

    Raises:
        ImageError: something is missing here, the mirror does not answer, or a part of the build failed.
    """
    lacking = missing()
    if lacking:
        raise ImageError(f"it needs {lacking}")
    cache = Path(platformdirs.user_cache_dir("mooring-lab", appauthor=False))
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / fingerprint()
    with open(cache / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _make_room(cache)
            folder.mkdir()
            try:
                _build(folder)
            except BaseException:
                shutil.rmtree(folder)
                raise
        (folder / "complete").touch()
    return folder


def _make_room(cache: Path) -> None:
    """Removes builds that were cut off, and all but the images that were used last."""
    whole = sorted(cache.glob("*/complete"), key=lambda mark: mark.stat().st_mtime)
    kept = {mark.parent for mark in whole[-KEPT:]}
    for old in cache.iterdir():
        if old.is_dir() and old not in kept:
            shutil.rmtree(old)


def _build(folder: Path) -> None:
    root = folder / "root"
    mirror = _mirror()
    _ask(mirror)
    print(f"building the lab's guest in {folder} (about three minutes)", file=sys.stderr, flush=True)
    end = time.monotonic() + DEADLINE
    # In a mount namespace of its own: whatever ends it, no /proc stays mounted in the folder.
    bootstrap = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    _run([*bootstrap, SUITE, str(root), mirror], end, more=root / "debootstrap/debootstrap.log")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")
    for unit in MASKED:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    lab = root / "opt/lab"
    lab.mkdir(parents=True)
    shutil.copy(HERE / "guest" / "agent.py", lab / "agent.py")
    _run(["chroot", str(root), "systemctl", "enable", "lab-agent.service", "iscsid.service", "multipathd.service"], end)
    _install_python(root, end)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next(iter(sorted((root / "boot").glob(f"{name}-*")))), folder / name)
    # mke2fs fills the image from the folder, without a mount.
    _run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(folder / "disk.img"), IMAGE_SIZE], end)
    shutil.rmtree(root)


def _install_python(root: Path, end: float) -> None:
    """Mooring's dependencies at their locked versions; Mooring itself comes from the checkout at each boot."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    shutil.copy(CHECKOUT / "requirements.lock", root / "opt/lab/requirements.lock")
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    if Path(bundle).exists():
        (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
        shutil.copy(bundle, root / "etc/ssl/certs/ca-certificates.crt")
    environment = {**os.environ, "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt", "PIP_ROOT_USER_ACTION": "ignore"}
    environment.pop("PIP_FIND_LINKS", None)
    _run(["chroot", str(root), "python3", "-m", "venv", "/opt/mooring"], end)
    pip = ["chroot", str(root), "/opt/mooring/bin/pip", "install", "-q", "-c", "/opt/lab/requirements.lock"]
    _run([*pip, "--use-pep517", *wanted], end, environment)


def _mirror() -> str:
    """The Debian mirror that this machine itself uses for the suite, if it is a Debian of that suite."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"], capture_output=True, text=True, check=False
    )
    sites = [line.split()[0] for line in done.stdout.splitlines() if line.split()[1:] == [SUITE]]
    return sites[0] if sites else MIRROR


def _ask(mirror: str) -> None:
    """A mirror that cannot be reached is said at once, not after debootstrap's many tries."""
    try:
        with urllib.request.urlopen(f"{mirror}/dists/{SUITE}/InRelease", timeout=30) as answer:
            answer.read(1)
    except OSError as error:
        raise ImageError(f"the guest's packages cannot be had from {mirror}: {error}") from error


def _run(argv: Sequence[str], end: float, environment: dict[str, str] | None = None, more: Path | None = None) -> None:
    """Runs one part of the build.

    Args:
        argv: The command.
        end: Monotonic time at which the build as a whole is given up.
        environment: Of the command.
        more: A log of its own that tells why it failed.
    """
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        why = _wait(child, log, end)
        if why is None:
            return
        log.seek(0)
        told = log.read().decode("utf-8", "replace")
    if more is not None and more.exists():
        told = f"{told.rstrip()}\n{more.read_text(errors='replace')}"
    raise ImageError(f"{shlex.join(argv)[:200]} {why}; its last words:\n{told.strip()[-3000:]}")


def _wait(child: subprocess.Popen[bytes], log: IO[bytes], end: float) -> str | None:
    """What was wrong with the child, or None."""
    said, said_at = 0, time.monotonic()
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(timeout=1)
                return f"failed with {code}" if code else None
            now, size = time.monotonic(), os.fstat(log.fileno()).st_size
            if size != said:
                said, said_at = size, now
            if now > end:
                return "took too long"
            if now - said_at > SILENCE:
                return f"said nothing for {SILENCE:.0f} s"
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
