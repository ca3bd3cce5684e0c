"""``plugins`` in a study file: a module that cannot be used, and a wrong key of a part, are one line and exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
STUDY: dict[str, Any] = {"name": "own", "data": {"name": "gaussians"}, "train": {"steps": 2}, "evaluate": {"samples": 50}}
NETWORK = """
import pfgm
from pfgm.kinds import Keys, NetworkKind, PositiveInt

class OwnKeys(Keys):
    rank: PositiveInt = 3

pfgm.register("network", "{name}", NetworkKind(OwnKeys, lambda config, shape, width: None))
"""
METRIC = """
import pfgm
from pfgm.metrics.card import Column, Metric
pfgm.register("metric", "own_metric", Metric(lambda seen: {}, columns=(Column("metric_own"),)))
"""
MODULES = {
    "good": NETWORK.replace("{name}", "linear"),
    "taken": NETWORK.replace("{name}", "mlp"),
    "clash": NETWORK.replace("{name}", "clash").replace("rank:", "width:"),
    "broken": "import pfgm\n1 / 0\n",
    "leaves": "import sys\nsys.exit(3)\n",
    "no_python": "def :\n",
    "lacks": "import not_installed_anywhere\n",
    "empty": "import pfgm\n",
    "wrong_kind": 'import pfgm\npfgm.register("sampler", "x", 1)\n',
    "wrong_part": 'import pfgm\npfgm.register("solver", "x", 1)\n',
    "wrong_word": 'import pfgm\n@pfgm.register("grid", "two words")\ndef grid(T, t_min, steps, clock): ...\n',
    "twice": NETWORK.replace("{name}", "twice") + NETWORK.replace("{name}", "twice"),
    "colorsys": METRIC,
    "column": METRIC.replace("own_metric", "other").replace("metric_own", "metric_fid"),
    "no_prefix": METRIC.replace("own_metric", "other").replace("metric_own", "status"),
    "package/__init__": "",
    "package/parts": METRIC,
}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"plugins": ["goood"]}, "search.yaml:9: plugins.0: no module goood; did you mean good?"),
    "nowhere": ({"plugins": ["zzz.parts"]}, "plugins.0: no module zzz; put zzz.py beside this file, or install it"),
    "no module in package": ({"plugins": ["package.other"]}, "plugins.0: no module package.other; "),
    "taken": (
        {"plugins": ["good", "taken"]},
        "plugins.1: taken fails when it is imported (taken.py:8): network: the name 'mlp' is taken by pfgm.networks.mlp:MLP;"
        " choose another",
    ),
    "twice": ({"plugins": ["twice"]}, "(twice.py:16): network: the name 'twice' is taken by twice:8; choose another"),
    "clash": ({"plugins": ["clash"]}, "(clash.py:8): network: the own key 'width' of clash is another key already; rename it"),
    "broken": ({"plugins": ["broken"]}, "broken fails when it is imported (broken.py:2): ZeroDivisionError: division by zero"),
    "leaves": ({"plugins": ["leaves"]}, "leaves fails when it is imported (leaves.py:2): SystemExit: 3"),
    "no Python": ({"plugins": ["no_python"]}, "imported: SyntaxError: invalid syntax (no_python.py, line 1"),
    "lacks": ({"plugins": ["lacks"]}, "(lacks.py:1): ModuleNotFoundError: No module named 'not_installed_anywhere'"),
    "empty": ({"plugins": ["empty"]}, "empty registers no part; call `pfgm.register(kind, name, part)` in it, or remove it"),
    "wrong kind": ({"plugins": ["wrong_kind"]}, "register: no kind 'sampler'; use solver"),
    "wrong part": ({"plugins": ["wrong_part"]}, "solver: 'x' must be a pfgm.sampling.solvers.Solver, got 1"),
    "wrong word": ({"plugins": ["wrong_word"]}, "grid: the name 'two words' is no plain word"),
    "column": ({"plugins": ["column"]}, "(column.py:4): metric: column 'metric_fid' of other is that of another, or does not"),
    "no prefix": ({"plugins": ["no_prefix"]}, "column 'status' of other is that of another, or does not begin with"),
    "hidden": ({"plugins": ["colorsys"]}, "not the colorsys.py beside this file; give yours another name"),
    "one word": ({"plugins": "good"}, "search.yaml:8: plugins: must be a list of modules such as"),
    "a path": ({"plugins": ["good.py/x"]}, "plugins.0: must be a list of modules such as"),
    "same twice": ({"plugins": ["good", "good"]}, "plugins.1: names good twice; remove one"),
    "ours": ({"plugins": ["pfgm.registry"]}, "plugins.0: pfgm.registry is of this package, its parts are there anyway"),
    "wrong key": ({"plugin": ["good"]}, "plugin: unknown key (value ['good']); did you mean `plugins`?"),
    "wrong name": ({"plugins": ["good"], "network": {"name": "linea"}}, "'edm', 'ncsnpp', 'linear' or 'twice', got 'linea'"),
    "wrong own key": (
        {"plugins": ["good"], "network": {"name": "linear", "rnak": 2}},
        "network.rnak: unknown key (value 2); did you mean `rank`?",
    ),
    "wrong own value": ({"plugins": ["good"], "network": {"name": "linear", "rank": 0}}, "rank: must be greater than 0, got 0"),
    "key of another": (
        {"plugins": ["good"], "network": {"rank": 2}},
        "network.rank: belongs to network linear, this one is mlp; remove it",
    ),
    "wrong metric": ({"plugins": ["package.parts"], "evaluate": {"metrics": ["own_metrik"]}}, "or 'own_metric', got"),
}  # fmt: skip
ALL = """
import contextlib, io, json, sys
from pathlib import Path
from study.run import main

told = {}
for name, text in json.load(sys.stdin).items():
    Path("search.yaml").write_text(text)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = main(["search.yaml", "--dry-run"])
    told[name] = code, errors.getvalue()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and standard error of every case; in one process, which takes seconds to start."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "package").mkdir()
    for name, code in MODULES.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    files = {name: yaml.safe_dump({**STUDY, **sections}, sort_keys=False) for name, (sections, _) in CASES.items()}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.pop(0)\nimport colorsys" + ALL], cwd=folder, input=json.dumps(files),
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_plug_in_that_cannot_be_used_is_one_line(told: dict[str, tuple[int, str]], case: str) -> None:
    code, error = told[case]
    assert code == 2 and error.count("\n") == 1 and error.startswith("search.yaml:"), error
    assert CASES[case][1] in error
