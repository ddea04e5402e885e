"""What the dashboard says on a host where there is no iSCSI yet."""

from __future__ import annotations

from tui.layout import paragraph
from tui.words import Glyphs, Line, Piece

ABOUT = (
    "Mooring shows iSCSI sessions, the paths to their disks and the volumes on them, and it takes a disk away without"
    " losing a byte. On this host there is no iSCSI session yet, so there is nothing to show."
)
STEPS = (
    (
        "mooring practice",
        "A practice range: two targets, three disks, six paths, all on this machine. Pull cables, remove disks, break"
        " things; it cleans up after itself. The best place to begin.",
    ),
    ("mooring discover PORTAL", "Ask a storage array which targets it offers. PORTAL is an address, as 192.0.2.10."),
    ("mooring login TARGET --portal PORTAL", "Log in to one of them. Its disks then appear here."),
    ("mooring attach DISK", "Make one of its disks a block device of this host."),
)
NOT_ROOT = "You are not root: sessions and disks can be looked at, but attaching and removing disks need root."


def welcome(width: int, root: bool, glyphs: Glyphs) -> list[Line]:
    """The first page a person sees when there is nothing else to see."""
    inner = max(20, min(width, 76))
    lines: list[Line] = [(Piece("Welcome aboard", "title"),), (), *paragraph(ABOUT, inner), ()]
    for command, text in STEPS:
        lines.append((Piece(f"{glyphs.here} ", "spark"), Piece(command, "key")))
        lines += [*paragraph(text, inner, "dim", indent=4), ()]
    if not root:
        lines += paragraph(NOT_ROOT, inner, "warn")
    return lines
