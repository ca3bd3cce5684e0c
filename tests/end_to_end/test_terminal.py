"""The edges of every command: Ctrl-C while it imports, outputs without a place for σ, and the environment of a batch job."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from pfgm.terminal import COMMANDS, INTERRUPTED, PLAIN, command, guard_start
from study.run import main as run_study

ROOT = Path(__file__).resolve().parents[2]
STUDY = """\
name: tiny
data: {name: rings, n: 300}
network: {width: 16, depth: 1}
train: {steps: 20, batch_size: 32}
sampler: {solver: heun2, steps: 4}
evaluate: {samples: 60, metrics: [fid]}
search: {train: {sigma: {choice: [0.1, 0.2]}}}
seeds: {train: 2}
resources: {concurrent: 1}
"""
ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: bytes
    err: bytes


def usual() -> dict[str, str]:
    """The environment, without what a test sets."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONIOENCODING", "RAY_ADDRESS")}


def run(folder: Path, *arguments: str, before: Path | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    path = os.pathsep.join(str(p) for p in (before, ROOT) if p is not None)
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, check=False, timeout=180,
        env=usual() | {"PYTHONPATH": path} | environment,
    )  # fmt: skip


ONE_AFTER_THE_OTHER = """\
import json, os, runpy, sys

streams = [(sys.stdout, 1, sys.stdout.errors), (sys.stderr, 2, sys.stderr.errors)]
for number, arguments in enumerate(json.load(open(sys.argv[1], encoding="utf-8"))):
    for stream, descriptor, errors in streams:
        stream.reconfigure(errors=errors)  # as Python made it: each command has to see to it
        os.dup2(os.open(f"{number}.{descriptor}", os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv, code = arguments, 0
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    for stream, *_ in streams:
        stream.flush()
    with open(f"{number}.code", "w") as file:
        file.write(str(code))
"""
"""Commands as `python -m` runs them, in one process that loads torch once; what each wrote, byte by byte, and its exit code."""


def run_all(folder: Path, commands: list[tuple[str, ...]], **environment: str) -> dict[tuple[str, ...], Done]:
    """Run some commands in a folder, with the outputs of such an environment."""
    outputs = folder / f"outputs-{'-'.join(environment)}"
    outputs.mkdir()
    script = ONE_AFTER_THE_OTHER.replace('f"{number}.', f'"{outputs}/" + f"{{number}}.')
    (outputs / "script.py").write_text(script, encoding="utf-8")
    (outputs / "commands.json").write_text(json.dumps(commands), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(outputs / "script.py"), str(outputs / "commands.json")], cwd=folder, capture_output=True,
        check=False, timeout=180, env=usual() | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return {
        arguments: Done(int((outputs / f"{n}.code").read_text()), *((outputs / f"{n}.{k}").read_bytes() for k in (1, 2)))
        for n, arguments in enumerate(commands)
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a study."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "search.yaml").write_text(STUDY, encoding="utf-8")
    return folder


RUN = ("study.run", "search.yaml", "--inline", "--no-report")


@pytest.fixture(scope="module")
def told(measured: Path) -> dict[str, dict[tuple[str, ...], Done]]:
    """What every command wrote where only ASCII can be written, the run of the study itself first; and in the locale C."""
    ascii_only = run_all(measured, [RUN, *TOLD], **ASCII)
    return {"ascii": ascii_only, "locale": run_all(measured, list(TOLD), **C_LOCALE)}


@pytest.fixture(scope="module")
def finished(measured: Path, told: dict[str, dict[tuple[str, ...], Done]]) -> Path:
    """The folder of the study that was run where only ASCII can be written."""
    done = told["ascii"][RUN]
    assert done.code == 0, done.err.decode()
    assert done.out.isascii() and done.err.isascii() and b"tiny: 4 complete" in done.out
    return measured


TOLD = {
    ("study.run", "search.yaml", "--dry-run"): b" ... ",
    ("study.run", "--help"): b"usage",
    ("study.status", "results/tiny"): b"tiny: 4 of 4 rows",
    ("study.fields", "ls"): b"4 entries",
    ("analysis.report", "results/tiny"): b"report: results/tiny/report/report.html",
    ("analysis.power", "results/tiny"): b"80 % power",
    ("pfgm.data", "describe", "rings"): b"sigma = 0.01, tau = 0.03",
    ("pfgm.data", "--help"): b"sigma and for the default",
}


@pytest.mark.parametrize("arguments", TOLD, ids=" ".join)
@pytest.mark.parametrize("environment", ["ascii", "locale"])
def test_no_command_dies_on_a_character(finished, told, arguments, environment):
    done = told[environment][arguments]
    assert done.code == 0, done.err.decode()
    assert TOLD[arguments] in done.out
    assert done.out.isascii() and done.err.isascii()


def test_utf_8_stays_as_it_is(measured):
    assert "σ = 0.01, τ = 0.03".encode() in run(measured, "pfgm.data", "describe", "rings", PYTHONIOENCODING="utf-8").stdout


def test_errors_and_names_of_files_that_have_no_place(measured):
    done = run(measured, "study.run", "keine-übung.yaml", **C_LOCALE)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and b"no such file" in done.stderr
    text = STUDY.replace("{name: rings, n: 300}", "{name: npz, path: größe.npz}")
    (measured / "umlaut.yaml").write_text(text, encoding="utf-8")
    done = run(measured, "study.run", "umlaut.yaml", **C_LOCALE)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and done.stderr.isascii()


def test_every_character_of_our_messages_has_plain_letters():
    assert all(plain.isascii() and plain and len(character) == 1 for character, plain in PLAIN.items())

    @command
    def main(arguments):
        print("σ ≤ 3 · é \udce4 漢")
        return 0

    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with contextlib.redirect_stdout(out):
        assert main([]) == 0
        out.flush()
    assert out.buffer.getvalue() == b"sigma <= 3 | e ? ?\n"


INTERRUPT = """\
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (("study.run", "search.yaml", "--dry-run"), "study.config.yaml_source"),
        (("study.run", "search.yaml", "--dry-run"), "torch"),
        (("study.status", "results/tiny"), "pyarrow"),
        (("study.fields", "ls"), "study.rows.storage"),
        (("analysis.report", "results/tiny"), "pandas"),
        (("analysis.power", "results/tiny"), "analysis.robustness.levels"),
        (("pfgm.data", "describe", "rings"), "argparse"),
        (("pfgm.data", "describe", "rings"), "torch"),
    ],
    ids=str,
)
def test_ctrl_c_while_a_command_imports_is_one_line(tmp_path, arguments, module):
    (tmp_path / "search.yaml").write_text(STUDY, encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT, encoding="utf-8")
    done = run(tmp_path, *arguments, before=tmp_path, INTERRUPT_AT=module)
    assert (done.returncode, done.stderr) == (INTERRUPTED, b"stopped by Ctrl-C\n")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["search.yaml", "sitecustomize.py"]


def test_an_interrupt_that_an_import_turns_into_an_error_is_one(capsys):
    @command
    def main(arguments):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy failed to import") from None
        return 0

    assert main([]) == INTERRUPTED
    assert capsys.readouterr().err == "stopped by Ctrl-C\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    @command
    def broken(arguments):
        raise ImportError("no such module")

    with pytest.raises(ImportError, match="no such module"):
        broken([])


def test_a_job_that_ignores_ctrl_c_goes_on_ignoring_it(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "study.run", "search.yaml"])
        guard_start()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, before)
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "my.script"])
        guard_start()  # a program that only imports us keeps its own Ctrl-C
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)


def test_commands_are_all_that_have_an_entry_point():
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for package in ("pfgm", "study", "analysis")
        for path in (ROOT / package).rglob("*.py")
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    assert found == {*COMMANDS, "study.host.reaper"}  # the reaper is no command


@pytest.mark.parametrize(
    ("given", "options", "address", "named"),
    [
        ("", [], None, "RAY_ADDRESS"),
        ("  ", [], None, "RAY_ADDRESS"),
        ("h:1", [], "h:1", "RAY_ADDRESS"),
        ("h:1", ["--address", "other:2"], "other:2", "--address"),
        ("h:1", ["--inline"], None, "RAY_ADDRESS"),
    ],
)
def test_an_empty_address_is_none(monkeypatch, given, options, address, named):
    seen = []
    monkeypatch.setenv("RAY_ADDRESS", given)
    monkeypatch.setattr("study.run.run", lambda options: seen.append(options) or 0)
    assert run_study(["search.yaml", *options]) == 0
    assert (seen[0].address, seen[0].address_from) == (address, named)


def test_an_address_where_nobody_is_is_told_at_once_and_named_by_what_gave_it(tmp_path):
    (tmp_path / "search.yaml").write_text(STUDY, encoding="utf-8")
    done = run(tmp_path, "study.run", "search.yaml", "--no-report", RAY_ADDRESS="127.0.0.1:1")
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert (
        done.stderr.startswith(b"RAY_ADDRESS 127.0.0.1:1: cannot join a Ray cluster there") and b"--address" not in done.stderr
    )
    assert b"Connection refused" in done.stderr and b"ray start --head" in done.stderr
