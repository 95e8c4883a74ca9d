"""What a command means to do: values of the stack's configuration that hold only when an ``up`` begins with them.

The program reads what it is to do from the configuration, in a preview too, so a command has to write it before it can ask the
operator. What nothing was begun with is taken back: on "no", after a guard's refusal, and after a mere look.
"""

from __future__ import annotations

from typing import Protocol

PROJECT = "pfmoc"


class Configuration(Protocol):
    """The plain part of a stack's configuration."""

    def config(self) -> dict[str, str]:
        """All of it, keys with the project's name."""
        ...

    def set_config(self, key: str, value: str) -> None:
        """Set a value."""
        ...

    def remove_config(self, key: str) -> None:
        """Unset a value."""
        ...


class Intents:
    """What was written and not begun.

    :param stack: whose configuration
    """

    def __init__(self, stack: Configuration) -> None:
        self._stack = stack
        self._written: dict[str, tuple[str | None, str | None]] = {}

    def write(self, key: str, value: str | None) -> None:
        """Set a value until it is taken back or begun with; None unsets it."""
        now = self._of(key)
        if now == value:
            return
        before = self._written[key][0] if key in self._written else now
        self._set(key, value)
        self._written[key] = (before, value)

    @property
    def open(self) -> bool:
        """True while something may be taken back."""
        return bool(self._written)

    def begun(self) -> None:
        """They hold from now on."""
        self._written.clear()

    def take_back(self) -> None:
        """Put back what was there before. What somebody else has written meanwhile stays."""
        for key, (before, after) in self._written.items():
            if self._of(key) == after:
                self._set(key, before)
        self._written.clear()

    def _of(self, key: str) -> str | None:
        return self._stack.config().get(f"{PROJECT}:{key}")

    def _set(self, key: str, value: str | None) -> None:
        if value is None:
            self._stack.remove_config(key)
        else:
            self._stack.set_config(key, value)
