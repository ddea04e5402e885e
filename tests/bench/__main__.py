"""`make bench`: every table, one after another. Each is also a program of its own: `python -m tests.bench.engine`."""

from __future__ import annotations

import subprocess
import sys

TABLES = ("startup", "engine", "attach", "dashboard", "inventory", "health", "detect", "removal")


def main() -> int:
    """Run all of them; the exit code is that of the last one that failed."""
    code = 0
    for name in TABLES:
        print(f"\n## {name}\n", flush=True)
        code = subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=False).returncode or code
    return code


if __name__ == "__main__":
    sys.exit(main())
