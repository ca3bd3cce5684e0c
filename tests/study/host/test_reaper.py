"""What a driver leaves behind is put away until nothing of it is left, however slow the machine is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from study.host import reaper


def test_a_folder_that_fills_again_is_removed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a process that was being started while the others were killed."""
    folder, remove, tries = tmp_path / "pfgm-x", shutil.rmtree, list[str]()
    folder.mkdir()

    def remove_and_fill(path: str, **options: Any) -> None:
        remove(path, **options)
        tries.append(path)
        if len(tries) == 1:
            folder.mkdir()
            (folder / "log").write_text("more")

    monkeypatch.setattr(reaper.shutil, "rmtree", remove_and_fill)
    reaper.reap(str(folder), set())
    assert not folder.exists() and len(tries) == 2


def test_whoever_uses_the_folder_ends(tmp_path: Path) -> None:
    folder = tmp_path / "pfgm-y"
    folder.mkdir()
    user = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", str(folder / "log")])
    try:
        reaper.reap(str(folder), set())
        user.wait(timeout=60)
        assert not folder.exists()
    finally:
        user.kill()


def test_what_cannot_be_ended_does_not_hold_the_reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder goes all the same, once the time for it is over."""
    folder = tmp_path / "pfgm-z"
    folder.mkdir()
    monkeypatch.setattr(reaper, "GRACE_S", 0.3)
    monkeypatch.setattr(reaper, "_lives", lambda process: True)
    monkeypatch.setattr(reaper.psutil, "wait_procs", lambda processes, timeout: None)
    monkeypatch.setattr(reaper.psutil, "process_iter", lambda: iter(()))
    stuck: Any = type("Stuck", (), {"kill": lambda self: None})()
    reaper.reap(str(folder), {stuck})
    assert not folder.exists()
