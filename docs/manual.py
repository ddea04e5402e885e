"""`make man`: the manual page docs/mooring.1, from the command line's own parser."""

from __future__ import annotations

import sys
from pathlib import Path

from argparse_manpage.manpage import Manpage

from tui.cli import build_parser

PAGE = Path(__file__).parent / "mooring.1"


def manual() -> str:
    """The page, without the day on which it was made: it changes only with the commands."""
    data = {
        "project_name": "Mooring",
        "description": "iSCSI sessions, paths and volumes on one screen, and safe removal of disks",
        "manual_section": 1,
        "manual_title": "Mooring",
    }
    _, *lines = str(Manpage(build_parser(), _data=data)).rstrip().splitlines()
    return "\n".join(['.TH MOORING "1" "" "Mooring" "Mooring"', *lines, ""])


if __name__ == "__main__":
    PAGE.write_text(manual(), encoding="utf-8")
    sys.exit(print(PAGE))
