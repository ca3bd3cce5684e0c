"""docs/extending.md: its files are one study with a part of one's own of every kind, which runs, in a Ray worker too."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis import load_study, plot_summary, summarize, to_optuna
from analysis.rows.facts import column_of
from pfgm.flow.checkpoint import load_field
from pfgm.registry import KINDS

ROOT = Path(__file__).resolve().parents[2]
TITLED = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)
FILES = dict(TITLED.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")))


def write(folder: Path, **changed: str) -> None:
    """Write the files of the page; ``changed`` are endings of modules."""
    for name, text in FILES.items():
        (folder / name).write_text(text + changed.get(name.removesuffix(".py"), ""), encoding="utf-8")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, this package the only thing on its path."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the folder of the page's study, measured in Ray workers; a file with the places that its metric was imported from)."""
    folder = tmp_path_factory.mktemp("own")
    places = folder / "places.txt"
    write(folder, my_metric=f'\nwith open({str(places)!r}, "a") as places:\n    places.write(__file__ + "\\n")\n')
    (folder / "elsewhere").mkdir()
    done = run(folder / "elsewhere", "-m", "study.run", "../search.yaml", "--no-report", "--set", "storage=../results")
    assert done.returncode == 0, done.stderr + done.stdout
    return folder, places


def test_the_page_shows_a_part_of_every_kind() -> None:
    code = "".join(FILES.values())
    assert not [kind for kind in KINDS if f'pfgm.register("{kind}", ' not in code]


def test_the_study_runs_with_all_of_them_and_its_rows_tell(measured: tuple[Path, Path]) -> None:
    rows = load_study(measured[0] / "results" / "own-parts")
    assert rows["status"].eq("complete").all() and sorted(rows["train_top"]) == [4.0, 5.0]
    assert rows["data_name"].eq("arc").all() and rows["data_n"].eq(300).all()
    assert rows["network_rank"].eq(4).all() and rows["network_head"].eq("half").all() and rows["network_share"].eq(0.5).all()
    assert rows["train_process"].eq("flat").all() and rows["train_objective"].eq("huber").all()
    assert rows["sampler_grid"].eq("cubes").all() and rows["cost_nfe"].eq(9).all(), "two calls a step, and one to denoise"
    assert rows["metric_features"].eq("squares").all() and rows["metric_spread"].gt(0).all()
    assert len(summarize(rows, metric="spread")) == 2 and column_of(rows, "spread").higher_is_better
    assert plot_summary(rows, "spread").get_xlabel() == "spread of the samples (data units)"
    assert to_optuna(rows, "spread").direction.name == "MAXIMIZE"
    manifest = pq.read_schema(measured[0] / "results" / "own-parts" / "manifest.parquet")
    assert {"train_top", "network_rank", "network_share"} <= set(manifest.names)


def test_a_worker_imports_what_was_sent_to_it(measured: tuple[Path, Path]) -> None:
    driver, *workers = measured[1].read_text(encoding="utf-8").split()
    assert Path(driver) == measured[0] / "my_metric.py"
    assert workers and all("py_modules_files" in place for place in workers)


ALONE = """
import sys
import pfgm
from pfgm.config import NetworkConfig, TrainConfig
from study.run import main

code = main(["search.yaml", "--no-report"])
import my_data, my_head, my_network, my_objective, my_process
trainer = pfgm.Trainer(pfgm.load_data(pfgm.config.DataConfig(name="arc")), NetworkConfig(width=8), TrainConfig(steps=1), 0)
list(trainer.run())
pfgm.Field.from_trainer(trainer).save("plain")
print(pfgm.load_field(sys.argv[1]).network_config.name, pfgm.load_field("plain").network_config.name)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def changed(measured: tuple[Path, Path]) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """(a stored field, what a process says that runs the study with another solver, reads the field and stores another)."""
    folder = measured[0]
    field = next(path for path in (folder / "results" / "fields").iterdir() if (path / "field.json").is_file())
    before = (folder / "my_solver.py").read_text(encoding="utf-8")
    (folder / "my_solver.py").write_text(before + "# changed\n", encoding="utf-8")
    done = run(folder, "-c", ALONE, str(field))
    (folder / "my_solver.py").write_text(before, encoding="utf-8")
    return field, done


def test_a_field_is_read_where_its_parts_are_imported(changed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """And a field of this package's parts everywhere, though those of others were there when it was trained."""
    field, done = changed
    assert done.stdout.split()[-2:] == ["linear", "mlp"]
    missing = re.escape(f"{field}: no network 'linear' here; import the module that registers it")
    with pytest.raises(ValueError, match=f"^{missing}$"):
        load_field(field)
    assert load_field(field.parents[2] / "plain").network_config.name == "mlp"


def test_rows_of_another_source_are_refused(
    measured: tuple[Path, Path], changed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    shown = json.loads((measured[0] / "results" / "own-parts" / "plugins.json").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(name.removesuffix(".py") for name in FILES if name.endswith(".py"))
    done = changed[1]
    assert done.returncode == 2 and re.fullmatch(
        r"search.yaml:2: plugins: results/own-parts was measured with another my_solver, of source \w{8}, now \w{8}: "
        r"restore it, or give a new name\n",
        done.stderr,
    ), done.stderr


IDENTITIES = """
import json, sys
from pathlib import Path
from study.config import plugins
from study.load import load_study_config
from study.plan.make import make_plan

names = ("train_id", "sampler_id", "cell_id")

def identities():
    plugins._origin_of.cache_clear()
    cell = make_plan(load_study_config("search.yaml"))[0].cells[0].to_row()
    return [cell[name] for name in names]

found = {"before": identities(), "again": identities()}
for name in sys.argv[1:]:
    file = Path(f"{name}.py")
    text = file.read_text()
    file.write_text(text + "# changed")
    found[name] = identities()
    file.write_text(text)
plugins._origin_of.cache_clear()
config = load_study_config("search.yaml")
plugins.load_shipped(config.plugins, config.origins)
file.write_text(text + "# changed")
plugins._check_same.cache_clear()
try:
    plugins.load_shipped(config.plugins, config.origins)
except RuntimeError as error:
    found["told"] = str(error)
print(json.dumps(found))
"""


def test_identities_change_with_the_source_of_what_they_depend_on(tmp_path: Path) -> None:
    write(tmp_path, my_network="\nimport helper\n")
    (tmp_path / "helper.py").write_text("WIDTH = 3\n", encoding="utf-8")
    trained, sampled = ["my_data", "my_network", "my_head", "my_process", "my_objective", "helper"], ["my_solver", "my_grid"]
    done = run(tmp_path, "-c", IDENTITIES, *trained, *sampled, "my_features", "my_metric")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("told") == "the plug-in my_metric changed while the study ran; start it again"
    train_id, _, cell_id = before = found["before"]
    assert found["again"] == before and found["my_metric"] == before, "a metric can be added; it is no part of a cell"
    others = [found[name] for name in trained]
    assert len({train_id, *(ids[0] for ids in others)}) == 1 + len(trained), "a field for each source"
    assert all(found[name][0] == train_id for name in [*sampled, "my_features"])
    assert len({cell_id, *(ids[2] for name, ids in found.items() if name not in ("before", "again", "my_metric"))}) == 10
