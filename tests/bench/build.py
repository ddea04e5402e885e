"""The C programs of the benches, built on demand: a target that does next to nothing, and the same load on libiscsi."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).parent
_FLAGS = ("-O2", "-march=native")


class BuildError(Exception):
    """A program cannot be built here; the text says what is missing."""


@dataclasses.dataclass(frozen=True, slots=True)
class LibiscsiLoad:
    """`libiscsi_load`, and what the library under it can do."""

    program: Path
    version: str
    data_digests: bool


def null_target(folder: Path) -> Path:
    """Build the target into `folder`.

    Raises:
        BuildError: there is no C compiler.
    """
    return _compile("nulltarget.c", folder, ("-pthread",))


def libiscsi_load(folder: Path, prefix: Path | None = None) -> LibiscsiLoad:
    """Build the load on libiscsi into `folder`: on the system's library, or on the one that was installed in `prefix`.

    Raises:
        BuildError: there is no C compiler or no libiscsi to build with (libiscsi-dev).
    """
    where: tuple[str, ...] = ()
    if prefix is not None:
        where = (f"-I{prefix}/include", f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib")
    try:
        program, digests = _compile("libiscsi_load.c", folder, (*where, "-DDATA_DIGEST"), ("-liscsi",)), True
    except BuildError:  # Debian's library, 1.19, has none
        program, digests = _compile("libiscsi_load.c", folder, where, ("-liscsi",)), False
    return LibiscsiLoad(program, _version(prefix), digests)


def _compile(source: str, folder: Path, flags: Sequence[str], libraries: Sequence[str] = ()) -> Path:
    program = folder / Path(source).stem
    command = ["cc", *_FLAGS, *flags, "-o", str(program), str(_HERE / source), *libraries]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BuildError("there is no C compiler (apt-get install gcc libc6-dev)") from None
    if done.returncode:
        raise BuildError(f"{source} cannot be built (apt-get install libiscsi-dev?): {done.stderr[:400]}")
    return program


def _version(prefix: Path | None) -> str:
    environment = dict(os.environ)
    if prefix is not None:
        environment["PKG_CONFIG_PATH"] = f"{prefix}/lib/pkgconfig"
    try:
        done = subprocess.run(
            ["pkg-config", "--modversion", "libiscsi"], capture_output=True, text=True, check=False, env=environment
        )
    except FileNotFoundError:
        return "of unknown version"
    return done.stdout.strip() or "of unknown version"
