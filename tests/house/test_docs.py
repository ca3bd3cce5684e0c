"""The documentation keeps up with the code: every public name, key, column and page is there, and every code block is true.

Python blocks run in order, a page in a temporary folder with a measured study; YAML blocks are read by the study's own loader;
commands must exist with their options, and the cheap ones are run.
"""

from __future__ import annotations

import re
import shutil
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from PIL import Image

import pfgm
from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.flow.written import save_field
from pfgm.registry import METRICS, NETWORKS, OBJECTIVES, PROCESSES, SOLVERS
from study import load_study_config, make_plan
from study.config.designs import DESIGNS
from study.config.yaml_source import parse_source
from study.load import read_study
from study.rows.records import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

from generate import columns, commands, gallery, key_words, keys, names  # noqa: E402

mpl.use("Agg")

WRITTEN = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STUBS = sorted(stub for package in ("pfgm", "study", "analysis") for stub in (ROOT / package).rglob("__init__.pyi"))


SMALL = """\
name: {}
data: {{name: digits}}
network: {{width: 16}}
train: {{steps: 20}}
evaluate: {{samples: 100, metrics: [fid]}}
search: {{train: {{sigma: {{choice: [0.1, 0.2]}}}}}}
"""
"""A study file for pages that speak of one."""


class Block(NamedTuple):
    """One code block of a page."""

    page: Path
    language: str
    text: str


BLOCKS = [Block(path, *found) for path in WRITTEN for found in FENCE.findall(path.read_text(encoding="utf-8"))]


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def title(value: object) -> str:
    page = value.page if isinstance(value, Block) else value
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else str(value)


# Reference


@pytest.mark.parametrize("stub", STUBS, ids=title)
def test_every_public_name_has_an_entry(stub: Path) -> None:
    entries = set().union(*(names.entries(text) for text in names.pages().values()))
    packages = [".".join(path.relative_to(ROOT).parent.parts) for path in STUBS]
    homes = {(home, n) for p in packages for n, home in names.public(p).items() if f"{p}.{n}" in entries}
    package = ".".join(stub.relative_to(ROOT).parent.parts)
    assert not {name for name, home in names.public(package).items() if (home, name) not in homes}


def test_a_public_name_without_a_question_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    real = names.public
    monkeypatch.setattr(names, "public", lambda package: real(package) | {"plot_everything": "analysis.plots"})
    with pytest.raises(ValueError, match="plot_everything"):
        names.questions()


def test_every_plot_function_has_a_piece_of_code_in_the_gallery() -> None:
    page = gallery.page()
    for name in gallery.pieces():
        assert f"gallery/{name}.png" in page and f"#analysis.{name}" in page


@pytest.mark.parametrize("section", keys.SECTIONS)
def test_every_key_has_a_description_and_an_example_that_the_loader_takes(section: str) -> None:
    for key in keys.keys(section):
        assert key.words.strip(), f"{key.name}: describe it under its attribute"
        example = key_words.EXAMPLES[key.name]
        assert key.name.split(".")[1] in yaml.safe_load(example)[section]
        read_study(parse_source(complete(example), "example.yaml"))


def test_no_word_of_a_key_outlives_it() -> None:
    known = {key.name for section in keys.SECTIONS for key in keys.keys(section)}
    assert not {*key_words.EXAMPLES, *key_words.UNITS, *key_words.WORDS} - known


def test_every_column_has_a_meaning() -> None:
    page = columns.pages()["reference/columns.md"]
    assert all(f"| `{name}` " in page for name in COLUMNS)


# Pages


def nav(items: list[Any]) -> list[str]:
    """Addresses of all pages of the navigation."""
    found: list[str] = []
    for item in items:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        found += nav(value) if isinstance(value, list) else [value]
    return found


def test_every_page_is_in_the_navigation_and_the_reverse() -> None:
    declared = nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    generated = {address for module in (keys, columns, names) for address in module.pages()}
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} | generated | {"reference/commands.md", "gallery.md"}
    assert len(declared) == len(set(declared)) and set(declared) == there


def test_a_warning_ends_the_build() -> None:
    command = re.search(r"^\t.*mkdocs build.*$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert command is not None and "--strict" in command[0]
    assert "--quiet" not in command[0], "mkdocs counts no warning that it does not print"


def test_the_readme_is_short_and_its_links_and_map_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert not [link for link in re.findall(r"\]\(([^)#:]+)", text) if not (ROOT / link).exists()]
    places = re.findall(r"^\| .+\? \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert len(places) == 10
    for place in places:
        rooms = re.findall(r"\]\(([^)]+)\)", " ".join(place))
        files = re.findall(r"`(\w+\.py)`", place[1])
        assert files and all(any((ROOT / room / file).is_file() for room in rooms) for file in files), place


# Code blocks


def complete(fragment: str) -> bytes:
    """A part of a study file with the keys that every study needs."""
    values = yaml.safe_load(fragment)
    head = "name: fragment\n" + ("" if "data" in values else "data: {name: digits}\n")
    return (head + fragment).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: a measured study with a field, data files, study files."""
    where = tmp_path_factory.mktemp("docs")
    study = where / "results" / "digits"
    shutil.copytree(ROOT / "experiments" / "notebooks" / "digits_bundle", study)
    (where / "experiments").symlink_to(ROOT / "experiments")
    rng = np.random.default_rng(0)
    np.savez(where / "my_vectors.npz", x=rng.standard_normal((200, 4)).astype(np.float32))
    np.savetxt(where / "my_table.csv", rng.standard_normal((200, 3)), delimiter=",", header="a,b,c", comments="")
    (where / "my_pictures").mkdir()
    for i in range(60):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(where / "my_pictures" / f"{i}.png")
    for name in ("search", "mine"):
        (where / f"{name}.yaml").write_text(SMALL.format(name))
    trainer = pfgm.Trainer(pfgm.load_data(DataConfig(name="digits")), NetworkConfig(width=16), TrainConfig(steps=3), 0)
    assert [step.loss for step in trainer.run()]
    import analysis

    save_field(pfgm.Field.from_trainer(trainer), where / "results" / "fields" / analysis.load_study(study).train_id[0])
    return where


@pytest.fixture
def sandbox(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for one page, with links to what is there."""
    for entry in folder.iterdir():
        if entry.suffix == ".yaml":
            shutil.copy(entry, tmp_path)
        else:
            (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as at a prompt: what a page writes can be imported
    return tmp_path


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registries as they are: what a page registers is not there for the next test."""
    for registry in (NETWORKS, PROCESSES, OBJECTIVES, SOLVERS, METRICS, DESIGNS):
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))
        monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))


@pytest.mark.usefixtures("one_thread", "registries")
@pytest.mark.parametrize("page", sorted({block.page for block in of("python")}), ids=title)
def test_python_blocks_run_in_order(page: Path, sandbox: Path) -> None:
    scope: dict[str, object] = {}
    for block in of("python"):
        if block.page == page:
            exec(compile(block.text, f"{page.name}: {block.text.splitlines()[0]}", "exec"), scope)
    plt.close("all")
    assert scope.keys() > {"__builtins__"}, "the blocks of a page define or import something"


@pytest.mark.parametrize("block", of("yaml"), ids=title)
def test_yaml_blocks_are_read(block: Block, sandbox: Path) -> None:
    if block.text.startswith("name:"):
        (sandbox / "block.yaml").write_text(block.text, encoding="utf-8")
        assert make_plan(load_study_config(sandbox / "block.yaml"))
    else:
        read_study(parse_source(complete(block.text), "block.yaml"))


def lines(path: Path) -> list[str]:
    """The commands of a page: lines of bash blocks, and indented lines that begin like a command."""
    text = path.read_text(encoding="utf-8")
    fenced = [line for block in BLOCKS if block.page == path and block.language == "bash" for line in block.text.splitlines()]
    indented = re.findall(r"^ {4}((?:\.venv/bin/)?python .*|make .*|sbatch .*|kubectl .*)$", FENCE.sub("", text), re.MULTILINE)
    return [re.sub(r"\s+#.*", "", line).strip() for line in [*fenced, *indented] if line.strip()]


@cache
def help_of(command: str) -> str:
    return commands.help_of(command)


@pytest.mark.parametrize("page", [path for path in WRITTEN if lines(path)], ids=title)
def test_commands_exist_with_their_options(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in lines(page):
        words = line.split()
        assert not [w for w in words if w.startswith("experiments/") and not (ROOT / w).exists()], line
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), line
        found = re.search(r"python -m (study\.\w+|analysis\.\w+|pfgm\.data)((?: describe| ls)?)(.*)", line)
        if found:
            options = re.findall(r"--[a-z-]+", found.group(3))
            known = re.findall(r"--[a-z-]+", help_of(found.group(1) + found.group(2)) if options else "")
            assert set(options) <= set(known), line


RUN = re.compile(r"-m (study\.run --example|pfgm\.data describe|study\.status|study\.fields|analysis\.power results/digits)")
ELSEWHERE = re.compile(r"s3://|results/my$|results/mine$")
"""Commands on studies that the pages only imagine."""


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_cheap_commands_run(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFGM_CACHE", str(sandbox / "cache"))
    found = {re.sub(r"^.*?python -m |\s*>.*$", "", line) for path in WRITTEN for line in lines(path) if RUN.search(line)}
    chosen = sorted(line for line in found if not ELSEWHERE.search(line))
    assert len(chosen) >= 6
    for line in [*chosen, "study.run mine.yaml --dry-run --inline"]:
        module, *arguments = line.split()
        module += ".__main__" if module in ("pfgm.data", "study.fields") else ""
        assert import_module(module).main(arguments) == 0, line
