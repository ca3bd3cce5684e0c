"""What the command line of ``python -m study.run`` asks for, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """One call of ``python -m study.run``."""

    study: Path
    overrides: tuple[str, ...] = ()
    """KEY=VALUE, in order."""
    dry_run: bool = False
    pilot: str | None = None
    """A measured study, whose noise tells what a dry run's plan could find."""
    no_report: bool = False
    retry_failed: bool = False
    inline: bool = False
    address: str | None = None
    """Address of a standing Ray cluster; None starts a private Ray."""
    address_from: str = "--address"
    """What the address was given by, for errors."""
    take_over: bool = False
    command: str = ""
    """The command that continues this study."""
