"""The practice target of tests/practice for the library."""

from __future__ import annotations

from tests.practice.conftest import target

__all__ = ["target"]
