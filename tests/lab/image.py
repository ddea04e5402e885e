"""Builds the guest's disk image once for each recipe and keeps it in the user's cache folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from tests.lab.recipe import CHECKOUT, FILES, HERE, IMAGE_SIZE, MASKED, PACKAGES, SUITE, fingerprint

NEEDED = ("debootstrap", "qemu-system-x86_64", "mke2fs")


def missing() -> str | None:
    """What this machine lacks for the lab, or None."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid() != 0:
        lacking.append("root (debootstrap)")
    return ", ".join(lacking) or None


def image() -> Path:
    """The folder with `disk.img`, `vmlinuz` and `initrd.img`, built if need be (about four minutes)."""
    cache = Path(platformdirs.user_cache_dir("mooring-lab", appauthor=False))
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / fingerprint()
    with open(cache / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            for old in cache.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            folder.mkdir()
            _build(folder)
            (folder / "complete").touch()
    return folder


def _build(folder: Path) -> None:
    root = folder / "root"
    print(f"building the lab's guest in {folder}", file=sys.stderr, flush=True)
    _run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root), *_mirror()])
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
    _run(["chroot", str(root), "systemctl", "enable", "lab-agent.service", "iscsid.service", "multipathd.service"])
    _install_python(root)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next(iter(sorted((root / "boot").glob(f"{name}-*")))), folder / name)
    # mke2fs fills the image from the folder, without a mount.
    _run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(folder / "disk.img"), IMAGE_SIZE])
    shutil.rmtree(root)


def _install_python(root: Path) -> None:
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
    _run(["chroot", str(root), "python3", "-m", "venv", "/opt/mooring"])
    pip = ["chroot", str(root), "/opt/mooring/bin/pip", "install", "-q", "-c", "/opt/lab/requirements.lock"]
    _run([*pip, "--use-pep517", *wanted], environment)


def _mirror() -> list[str]:
    """The Debian mirror that this machine itself uses for the suite, if it is a Debian of that suite."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"], capture_output=True, text=True, check=False
    )
    sites = [line.split()[0] for line in done.stdout.splitlines() if line.split()[1:] == [SUITE]]
    return sites[:1]


def _run(argv: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, timeout=1500
    )
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} failed with {done.returncode}:\n{done.stdout[-4000:]}")


if __name__ == "__main__":
    print(image())
