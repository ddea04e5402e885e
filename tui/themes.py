"""The colours of the dashboard."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    "mooring-dark",
    primary="#56b6c2",
    secondary="#8fb3d9",
    accent="#e5b567",
    foreground="#d5dde3",
    background="#10171d",
    surface="#16202a",
    panel="#1c2935",
    success="#7fc48f",
    warning="#e2a84a",
    error="#f07a72",
    dark=True,
)
LIGHT = Theme(
    "mooring-light",
    primary="#0b6e7d",
    secondary="#3a5f8a",
    accent="#8a5a00",
    foreground="#1b2830",
    background="#f7f9fa",
    surface="#eef2f4",
    panel="#dfe7eb",
    success="#1d7440",
    warning="#935800",
    error="#b3261e",
    dark=False,
)

THEMES = {"dark": DARK.name, "light": LIGHT.name, "terminal": "ansi-dark"}
"""Textual's names of the themes, by those of the settings."""
