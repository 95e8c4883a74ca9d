"""Text that came from elsewhere and is shown to a person."""

from __future__ import annotations


def plain(text: str) -> str:
    """Replace what could move the cursor of a terminal, or worse; line ends and tabs stay."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text)
