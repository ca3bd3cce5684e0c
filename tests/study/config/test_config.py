"""search.yaml is strict: what is right loads and survives a round trip, what is wrong costs one line and nothing else."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from study.config.yaml_source import ConfigError
from study.load import load_study_config
from study.plan.make import make_plan
from study.run import main

EXAMPLE = """\
name: digits-robustness
storage: results
data: {name: digits}
network: {name: mlp, width: 512}
train: {process: pfgm, objective: normalized, gamma: 5.0, sigma: 0.1, tau: 0.03, M: rule, reference_batch_size: all,
        steps: 2500, batch_size: 128, learning_rate: 1e-3}
sampler: {T: rule, solver: dopri5, rtol: 1e-4, atol: same, t_min: 1e-3, denoise: true, max_radius_ratio: null,
          batch_size: 600}
evaluate: {samples: 1797, metrics: [fid, precision_recall, neighbours, solver_error]}
search:
  train:
    sigma: {log_uniform: [0.02, 0.3]}
    height_ratio: {log_uniform: [0.2, 10]}
    tau: {log_uniform: [0.01, 0.1]}
    reference_batch_size: {choice: [128, 512, all]}
  sampler:
    T_ratio: {log_uniform: [0.2, 10]}
    solver: {choice: [dopri5, heun2, euler]}
    rtol: {log_uniform: [1e-6, 1e-1], when: {solver: dopri5}}
    steps: {choice: [8, 16, 32, 64], when: {solver: [heun2, euler]}}
design: {name: sobol, trials: 32, sampler_points: 8, seed: 0}
seeds: {train: 2, sample: 1}
resources: {cpus: 1, gpus: auto, concurrent: auto}
analysis: {tolerance: 0.10}
"""
TINY = """\
name: tiny
data: {name: rings, n: 300}
train: {steps: 20, batch_size: 32}
sampler: {solver: heun2, steps: 4}
evaluate: {samples: 60, metrics: [fid]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "search.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_documented_example_loads(tmp_path: Path) -> None:
    config = load_study_config(write(tmp_path, EXAMPLE))
    assert config.train["learning_rate"] == 1e-3
    assert config.default("sampler") == {"T_ratio": 1.0, "rtol": 1e-4, "solver": "dopri5"}
    assert len(make_plan(config)) == 64
    assert all(len(trial.sampler_points) == 8 for trial in make_plan(config))


def test_numbers_and_words_are_what_they_look_like(tmp_path: Path) -> None:
    text = TINY.replace("name: tiny", "name: no").replace("steps: 20", "steps: 20, learning_rate: 1e-4, gamma: 5., sigma: .1")
    config = load_study_config(write(tmp_path, text))
    assert config.name == "no"
    assert config.train["learning_rate"] == 1e-4
    assert isinstance(config.train["learning_rate"], float)
    assert config.train["sigma"] == 0.1 and config.train["gamma"] == 5.0


@pytest.mark.parametrize(
    "text",
    [
        EXAMPLE,
        TINY,
        TINY.replace("name: tiny", 'name: "1e5"'),
        TINY.replace("name: tiny", "name: 'on'"),
        TINY.replace("steps: 20", "process: pfgmpp, n_aug: .inf, steps: 20"),
        TINY + "search: {train: {M: {log_uniform: [20, 200]}}, sampler: {T: {choice: [rule, 20.0, 40.0]}}}\n",
        TINY + "search: {train: {height_ratio: {uniform: [0.5, 2], levels: 3}, steps: {int_uniform: [10, 30]}}}\n",
    ],
    ids=["example", "tiny", "number-name", "word-name", "infinite", "M and T", "ranges"],
)
def test_a_dumped_study_reads_back_equal(tmp_path: Path, text: str) -> None:
    first = load_study_config(write(tmp_path, text))
    second = load_study_config(write(tmp_path, first.to_yaml()))
    assert second.dump() == first.dump()
    assert second.to_yaml() == first.to_yaml()
    assert make_plan(second) == make_plan(first)


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, TINY)
    config = load_study_config(
        path,
        ["train.steps=50", "name=other", "search.train.sigma={choice: [0.1, 0.2]}", "seeds.train=[3, 5]", "train.sigma=1e-1"],
    )
    assert (config.train["steps"], config.name, config.seeds.train_seeds) == (50, "other", [3, 5])
    assert config.search_train["sigma"].choices == (0.1, 0.2)
    assert load_study_config(write(tmp_path, config.to_yaml())).dump() == config.dump()


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.steps", ["--set train.steps:", "key=value"]),
        ("=5", ["--set =5:", "key=value"]),
        ("train.stepz=5", ["--set train.stepz=5: train.stepz:", "5", "did you mean `steps`"]),
        ("train.steps=many", ["--set train.steps=many: train.steps:", "'many'", "integer"]),
        ("name.first=x", ["--set name.first=x:", "name is not a section"]),
        ("search.train.sigma={log_uniform: [3, 1]}", ["search.train.sigma.log_uniform:", "3 and 1", "low must be below high"]),
        ("train.steps=[", ["--set train.steps=[:1", "not YAML"]),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, parts: list[str]) -> None:
    line = refusal(write(tmp_path, TINY + "search:\n  train:\n    sigma: {choice: [0.1, 0.2]}\n"), [override])
    assert all(part in line for part in parts), line


def refusal(path: Path, overrides: list[str] | None = None) -> str:
    """The one line that refuses a bad file."""
    with pytest.raises(ConfigError, match=r"\S") as caught:
        load_study_config(path, overrides or [])
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500, line
    return line


# name: (text, line of the mistake, full key, value as shown, words of the cure). A ~ at a line's start marks a mistake's line.
SEARCH = TINY + "search:\n  train:\n"
SAMPLING = TINY + "search:\n  sampler:\n"
BAD: dict[str, tuple[str, str, str, str]] = {
    "whole numbers from a range": (
        SAMPLING + "    solver: {choice: [heun2]}\n~    steps: {log_uniform: [8, 64]}\n",
        "search.sampler.steps",
        "17.2",
        "use log_int_uniform",
    ),
    "training steps from a range": (
        SEARCH + "~    steps: {uniform: [10, 50]}\n",
        "search.train.steps",
        "24.8",
        "use int_uniform",
    ),
    "T below t_min at a point": (
        TINY + "search:\n~  sampler:\n    T: {log_uniform: [0.05, 100]}\n    t_min: {log_uniform: [0.001, 0.09]}\n"
        "design: {name: sobol, trials: 2, sampler_points: 2}\n",
        "search.sampler",
        "T = 0.05",
        "t_min",
    ),
    "misspelt section": (TINY + "~desing: {name: sobol}\n", "desing", "sobol", "did you mean `design`"),
    "misspelt train key": (TINY.replace("train: {", "~train: {sigmma: 0.2, "), "train.sigmma", "0.2", "did you mean `sigma`"),
    "misspelt sampler key": (
        TINY.replace("sampler: {", "~sampler: {tmin: 0.1, "),
        "sampler.tmin",
        "0.1",
        "did you mean `t_min`",
    ),
    "misspelt searched key": (SEARCH + "~    sgima: {choice: [0.1]}\n", "search.train.sgima", "0.1", "did you mean `sigma`"),
    "misspelt group": (TINY + "search:\n~  trian: {}\n", "search.trian", "{}", "did you mean `train`"),
    "misspelt metric key": (TINY.replace("evaluate: {", "~evaluate: {sample: 9, "), "evaluate.sample", "9", "`samples`"),
    "misspelt design key": (TINY + "design:\n  name: sobol\n~  trial: 8\n", "design.trial", "8", "did you mean `trials`"),
    "wrong type": (TINY.replace("train: {steps: 20", "~train: {steps: 20.5"), "train.steps", "20.5", "integer"),
    "number as text": (TINY.replace("train: {", "~train: {sigma: '0.1', "), "train.sigma", "'0.1'", "number"),
    "truth as number": (TINY.replace("train: {", "~train: {sigma: true, "), "train.sigma", "True", "number"),
    "list as value": (
        TINY.replace("train: {", "~train: {process: [pfgm], "),
        "train.process",
        "['pfgm']",
        "search.train.process",
    ),
    "section as number": (TINY.replace("sampler: {solver: heun2, steps: 4}", "~sampler: 5"), "sampler", "5", "section of keys"),
    "not positive": (TINY.replace("train: {", "~train: {sigma: -0.1, "), "train.sigma", "-0.1", "greater than 0"),
    "inverted range": (
        SEARCH + "~    sigma: {log_uniform: [0.3, 0.1]}\n",
        "search.train.sigma",
        "0.3 and 0.1",
        "low must be below high",
    ),
    "empty range": (
        SEARCH + "~    sigma: {log_uniform: [0.1, 0.1]}\n",
        "search.train.sigma",
        "0.1 and 0.1",
        "low must be below high",
    ),
    "half a range": (SEARCH + "~    sigma: {log_uniform: [0.1]}\n", "search.train.sigma", "[0.1]", "[low, high]"),
    "empty choice": (SEARCH + "    sigma:\n~      choice: []\n", "search.train.sigma.choice", "[]", "list of values"),
    "log of zero": (SEARCH + "~    sigma: {log_uniform: [0, 0.1]}\n", "search.train.sigma", "0", "positive"),
    "infinite range": (SEARCH + "~    sigma: {log_uniform: [0.1, .inf]}\n", "search.train.sigma", "inf", "finite"),
    "fractional integers": (SEARCH + "~    steps: {int_uniform: [10, 20.5]}\n", "search.train.steps", "20.5", "integers"),
    "unknown distribution": (SEARCH + "~    sigma: {lognormal: [0.1, 1]}\n", "search.train.sigma", "lognormal", "log_uniform"),
    "two distributions": (
        SEARCH + "~    sigma: {uniform: [0.1, 1], log_uniform: [0.1, 1]}\n",
        "search.train.sigma",
        "uniform, log_uniform",
        "exactly one",
    ),
    "no distribution": (SEARCH + "~    sigma: 0.1\n", "search.train.sigma", "0.1", "log_uniform"),
    "choice twice": (SEARCH + "~    sigma: {choice: [0.1, 0.1]}\n", "search.train.sigma", "[0.1, 0.1]", "twice"),
    "one level": (SEARCH + "~    sigma: {uniform: [0.1, 0.2], levels: 1}\n", "search.train.sigma.levels", "1", "at least 2"),
    "default outside": (
        TINY.replace("train: {", "~train: {sigma: 0.3, ") + "search:\n  train:\n    sigma: {log_uniform: [0.1, 0.2]}\n",
        "train.sigma",
        "0.3",
        "widen it, or move the default",
    ),
    "own default outside": (
        SEARCH + "~    sigma: {log_uniform: [0.2, 0.4]}\n",
        "search.train.sigma",
        "0.1",
        "set train.sigma inside it",
    ),
    "rule outside": (SEARCH + "~    M: {log_uniform: [1, 2]}\n", "search.train.M", "'rule'", "widen it"),
    "wrong value of a choice": (
        SAMPLING + "~    solver: {choice: [heun2, heun3]}\n",
        "search.sampler.solver",
        "'heun3'",
        "'heun2'",
    ),
    "when, no parent": (
        SAMPLING + "~    steps: {choice: [4, 8], when: {grid: log}}\n",
        "search.sampler.steps.when",
        "grid",
        "remove `when`",
    ),
    "when, never": (
        SAMPLING + "    solver: {choice: [heun2, euler]}\n~    steps: {choice: [4, 8], when: {solver: rk4}}\n",
        "search.sampler.steps.when",
        "'rk4'",
        "use a value of its search",
    ),
    "when, circular": (
        SAMPLING + "~    grid: {choice: [log, rho], when: {steps: 4}}\n    steps: {choice: [4, 8], when: {grid: log}}\n",
        "search.sampler.grid.when",
        "steps",
        "remove one `when`",
    ),
    "when, itself": (
        SAMPLING + "~    steps: {choice: [4, 8], when: {steps: 4}}\n",
        "search.sampler.steps.when",
        "steps",
        "remove one `when`",
    ),
    "when, shape": (
        SAMPLING + "~    steps: {choice: [4, 8], when: euler}\n",
        "search.sampler.steps.when",
        "'euler'",
        "{solver: dopri5}",
    ),
    "T below t_min": (TINY.replace("sampler: {", "~sampler: {T: 0.01, t_min: 0.02, "), "sampler.T", "0.01", "above t_min"),
    "rule's T below t_min": (TINY.replace("sampler: {", "~sampler: {t_min: 50, "), "T", "t_min = 50", "lower t_min"),
    "T_ratio below t_min": (
        TINY + "search:\n  sampler:\n~    T_ratio: {log_uniform: [1e-5, 10]}\n",
        "search.sampler.T_ratio",
        "1e-05",
        "lower t_min",
    ),
    "absurd T": (
        TINY + "design: {name: sobol}\nsearch:\n  train:\n~    M: {log_uniform: [10, 600]}\n"
        "    tau: {log_uniform: [0.01, 0.3]}\n",
        "search.train.M",
        "1e+06",
        "search height_ratio instead",
    ),
    "absurd fixed T": (TINY.replace("sampler: {", "~sampler: {T: 1.0e+9, "), "sampler.T", "1e+09", "allow_extreme: true"),
    "top too low": (TINY.replace("sampler: {", "~sampler: {t_min: 0.1, "), "sampler.t_min", "t_min = 0.1", "lower t_min"),
    "tolerance zero": (
        TINY.replace("sampler: {solver: heun2, steps: 4}", "~sampler: {rtol: 0.0}"),
        "sampler.rtol",
        "0.0",
        "greater than 0",
    ),
    "tolerance negative": (
        TINY.replace("sampler: {solver: heun2, steps: 4}", "~sampler: {atol: -1e-3}"),
        "sampler.atol",
        "-0.001",
        "greater than 0",
    ),
    "unknown solver": (
        TINY.replace("solver: heun2", "solver: heun").replace("sampler", "~sampler"),
        "sampler.solver",
        "'heun'",
        "'heun2'",
    ),
    "whole numbers from a choice": (
        SAMPLING + "~    steps: {choice: [8, 16.5]}\n",
        "search.sampler.steps",
        "16.5",
        "write whole numbers",
    ),
    "own size outside": (
        SEARCH + "~    width: {choice: [64, 128]}\n",
        "search.train.width",
        "512",
        "set network.width inside it",
    ),
    "given size outside": (
        SEARCH + "    depth: {choice: [1, 2]}\n~network: {depth: 3}\n",
        "network.depth",
        "3",
        "move the default",
    ),
    "size under train": (
        TINY.replace("train: {", "~train: {width: 64, "),
        "train.width",
        "64",
        "did you mean `network.width`?",
    ),
    "size under sampler": (
        SAMPLING + "~    width: {choice: [64]}\n",
        "search.sampler.width",
        "64",
        "did you mean `search.train.width`?",
    ),
    "search of the network": (
        TINY + "search:\n~  network: {width: {choice: [64, 512]}}\n",
        "search.network",
        "64",
        "did you mean `search.train.depth` or `search.train.width`?",
    ),
    "search without a group": (
        TINY + "search:\n~  T_ratio: {choice: [1, 2]}\n",
        "search.T_ratio",
        "[1, 2]",
        "did you mean `search.sampler.T_ratio`?",
    ),
    "sampler key of train": (
        TINY.replace("train: {", "~train: {solver: heun2, "),
        "train.solver",
        "heun2",
        "did you mean `sampler.solver`?",
    ),
    "searched key of some processes": (
        SEARCH + "    process: {choice: [pfgmpp, ve]}\n~    n_aug: {choice: [8.0, .inf]}\n",
        "search.train.n_aug",
        "belongs to process pfgmpp, this study searches ve too, got [8.0, inf]",
        "write `when: {process: pfgmpp}` beside it",
    ),
    "searched key of the wrong process": (
        SEARCH + "    process: {choice: [pfgm, ve, vp]}\n~    sigma: {log_uniform: [0.05, 0.2], when: {process: [pfgm, vp]}}\n",
        "search.train.sigma",
        "belongs to process pfgm, this study searches vp too, got [0.05, 0.2]",
        "write `when: {process: pfgm}` beside it",
    ),
    "searched key of no process": (
        SEARCH + "    process: {choice: [pfgmpp, ve]}\n~    sigma: {log_uniform: [0.05, 0.2]}\n",
        "search.train.sigma",
        "[0.05, 0.2]",
        "has no meaning under pfgmpp or ve",
    ),
    "searched gamma of some processes": (
        SEARCH + "    process: {choice: [pfgm, pfgmpp]}\n    objective: {choice: [normalized, raw], when: {process: pfgm}}\n"
        "~    gamma: {choice: [2.0, 5.0]}\n",
        "search.train.gamma",
        "[2.0, 5.0]",
        "`when: {process: pfgm}`",
    ),
    "searched objective of some processes": (
        SEARCH + "    process: {choice: [pfgm, ve]}\n~    objective: {choice: [normalized, raw]}\n",
        "search.train.objective",
        "belongs to process pfgm",
        "`when: {process: pfgm}`",
    ),
    "plain head of ve": (
        TINY.replace("train: {", "train: {process: ve, ") + "~network: {skip: false}\n",
        "network.skip",
        "false has a meaning under process pfgm alone, this study uses ve",
        "remove it",
    ),
    "plain head of other processes": (
        SEARCH + "    process: {choice: [pfgmpp, vp]}\n~network: {skip: false}\n",
        "network.skip",
        "pfgmpp or vp",
        "remove it",
    ),
    "exempt of the larger network": (
        SEARCH + "    depth: {choice: [1, 2]}\n~perturb: {weight_bits: [4], exempt: ['backbone.blocks.1.*']}\n",
        "perturb.exempt",
        "at depth = 1: 'backbone.blocks.1.*'",
        "they are called backbone.first.weight",
    ),
    "exempt of a range of networks": (
        SEARCH + "    depth: {int_uniform: [2, 5]}\n~perturb: {weight_bits: [4], exempt: ['backbone.blocks.4.*']}\n",
        "perturb.exempt",
        "at depth = 2: 'backbone.blocks.4.*'",
        "they are called backbone.first.weight",
    ),
    "exempt of an impossible network": (
        SEARCH + "~    depth: {choice: [0, 2]}\nperturb: {weight_bits: [4], exempt: ['*.bias']}\n",
        "search.train.depth",
        "0",
        "greater than 0",
    ),
    "exempt of a network for images": (
        TINY + "~network: {name: unet}\nperturb: {weight_bits: [4], exempt: ['*.bias']}\n",
        "network.name",
        "unet",
        "use name: mlp",
    ),
    "key of another solver": (
        TINY.replace("sampler: {", "~sampler: {rtol: 1e-3, "),
        "sampler.rtol",
        "0.001",
        "adaptive solvers",
    ),
    "reference above data": (
        TINY.replace("train: {", "~train: {reference_batch_size: 301, "),
        "train.reference_batch_size",
        "301",
        "use `all`",
    ),
    "reference below batch": (
        TINY.replace("train: {", "~train: {reference_batch_size: 31, "),
        "train.reference_batch_size",
        "31",
        "lower batch_size",
    ),
    "searched reference below batch": (
        SEARCH + "~    reference_batch_size: {choice: [16, all]}\n",
        "search.train.reference_batch_size",
        "16",
        "lower batch_size",
    ),
    "key of pfgmpp": (TINY.replace("train: {", "~train: {n_aug: 64.0, "), "train.n_aug", "64.0", "remove it"),
    "key of pfgm": (
        TINY.replace("train: {", "~train: {process: pfgmpp, sigma: 0.1, "),
        "train.sigma",
        "0.1",
        "remove it",
    ),
    "searched key of pfgmpp": (SEARCH + "~    n_aug: {choice: [64.0, 128.0]}\n", "search.train.n_aug", "64.0", "pfgmpp"),
    "objective of pfgmpp": (
        TINY.replace("train: {", "~train: {objective: denoise, "),
        "train.objective",
        "denoise",
        "normalized or raw",
    ),
    "gamma without use": (
        TINY.replace("train: {", "~train: {objective: raw, gamma: 5.0, "),
        "train.gamma",
        "5.0",
        "remove it",
    ),
    "raw in 64 dimensions": (
        TINY.replace("data: {name: rings, n: 300}", "data: {name: digits}").replace("train: {", "~train: {objective: raw, "),
        "train.objective",
        "raw",
        "use normalized",
    ),
    "T beyond all numbers": (
        TINY.replace("name: rings, n: 300", "name: digits").replace("sampler: {", "~sampler: {T_ratio: 1.0e+308, "),
        "sampler.T_ratio",
        "1e+308",
        "is beyond all numbers; lower it",
    ),
    "searched T beyond all numbers": (
        TINY.replace("name: rings, n: 300", "name: digits") + "search:\n  sampler:\n~    T_ratio: {choice: [1.0, 1.0e+308]}\n",
        "search.sampler.T_ratio",
        "1e+308",
        "is beyond all numbers; lower it",
    ),
    "truncation of nothing": (
        TINY.replace("sampler: {", "~sampler: {T: 0.01, max_radius_ratio: 5.0e-324, "),
        "sampler.max_radius_ratio",
        "5e-324",
        "must be positive, got 0",
    ),
    "truncation without mass": (
        TINY.replace("sampler: {", "~sampler: {max_radius_ratio: 1.0e-200, "),
        "sampler.max_radius_ratio",
        "1e-200",
        "keeps no mass at d = 2",
    ),
    "M and height_ratio": (
        TINY.replace("train: {", "~train: {M: 100.0, height_ratio: 2.0, "),
        "train.height_ratio",
        "2.0",
        "remove one",
    ),
    "M and height_ratio searched": (
        SEARCH + "~    height_ratio: {uniform: [0.5, 2]}\n    M: {uniform: [50, 200]}\n",
        "search.train.height_ratio",
        "[0.5, 2]",
        "one of them",
    ),
    "T and T_ratio searched": (
        SAMPLING + "    T: {uniform: [1, 50]}\n~    T_ratio: {uniform: [0.5, 2]}\n",
        "search.sampler.T_ratio",
        "[0.5, 2]",
        "one of them",
    ),
    "T fixed, T_ratio searched": (
        TINY.replace("sampler: {", "sampler: {T: 40.0, ") + "search:\n  sampler:\n~    T_ratio: {uniform: [0.5, 2]}\n",
        "search.sampler.T_ratio",
        "T",
        "remove one",
    ),
    "M fixed, height_ratio searched": (
        TINY.replace("train: {", "train: {M: 100.0, ") + "search:\n  train:\n~    height_ratio: {uniform: [0.5, 2]}\n",
        "search.train.height_ratio",
        "M",
        "remove one",
    ),
    "duplicate key": (TINY + "~name: again\n", "name", "line 1", "remove one"),
    "duplicate searched key": (
        SEARCH + "    sigma: {choice: [0.1]}\n~    sigma: {choice: [0.2]}\n",
        "search.train.sigma",
        "line 8",
        "remove one",
    ),
    "python object": (TINY + "~storage: !!python/object/apply:os.system ['true']\n", "storage", "tag", "write plain"),
    "python tag": (TINY + "~storage: !!python/name:os.system x\n", "storage", "python/name:os.system", "write plain"),
    "merge key": (TINY + "design: &a {name: grid}\nseeds:\n~  <<: *a\n", "seeds", "<<", "write the keys out"),
    "alias of itself": (TINY + "~search: &a {train: *a}\n", "search", "", "without aliases"),
    "list as key": (TINY + "~? [a, b]\n: 1\n", "", "list", "write the keys out"),
    "not YAML": (TINY + "~seeds: {train: 1\n", "", "not YAML", "check indents"),
    "control character": ("~name: a\x00b\n", "", "not YAML", "plain text"),
    "brackets": ("~name: " + "[" * 3000 + "\n", "", "", "brackets"),
    "empty file": ("~", "", "empty", "--example"),
    "a list": ("~- name\n", "", "list", "mapping"),
    "two documents": (TINY + "~---\nname: b\n", "", "not YAML", ""),
    "bad name": (TINY.replace("name: tiny", "~name: a/b", 1), "name", "'a/b'", "letters"),
    "number as name": (TINY.replace("name: tiny", "~name: 5", 1), "name", "5", "letters"),
    "reserved name": (TINY.replace("name: tiny", "~name: fields", 1), "name", "'fields'", "choose another"),
    "storage in another cloud": (TINY + "~storage: gs://bucket\n", "storage", "'gs://bucket'", "directory"),
    "storage without bucket": (TINY + "~storage: 's3:///x'\n", "storage", "'s3:///x'", "s3://bucket"),
    "unknown storage option": (
        TINY + "~storage: 's3://b?n=3'\n",
        "storage",
        "'s3://b?n=3'",
        "endpoint_override",
    ),
    "credentials in storage": (TINY + "~storage: 's3://me:secret@b/x'\n", "storage", "credentials", "AWS_ACCESS_KEY_ID"),
    "negative retries": (TINY + "~retries: -1\n", "retries", "-1", "0 to 100"),
    "retries as text": (TINY + "~retries: many\n", "retries", "'many'", "integer"),
    "no time": (TINY + "~limits: {trial_minutes: 0}\n", "limits.trial_minutes", "0", "greater than 0"),
    "unknown limit": (TINY + "~limits: {minutes: 5}\n", "limits.minutes", "5", "trial_minutes"),
    "extreme as text": (TINY + "~allow_extreme: 'yes'\n", "allow_extreme", "'yes'", "true or false"),
    "negative seeds": (TINY + "~seeds: {train: [0, -1]}\n", "seeds.train", "[0, -1]", "greater than or equal to 0"),
    "duplicate seeds": (TINY + "~seeds: {train: [1, 1]}\n", "seeds.train", "[1, 1]", "remove one"),
    "truth as seeds": (TINY + "~seeds: {sample: true}\n", "seeds.sample", "True", "integer"),
    "a word as seeds": (TINY + "~seeds: {sample: owned}\n", "seeds.sample", "'owned'", "own"),
    "no seeds": (TINY + "~seeds: {train: 0}\n", "seeds.train", "0", "greater than 0"),
    "disjoint list": (TINY + "~seeds: {train: [1, 2], disjoint: true}\n", "seeds.disjoint", "[1, 2]", "number"),
    "trials, one at a time": (TINY + "~design: {name: one_at_a_time, trials: 8}\n", "design.trials", "8", "remove"),
    "unknown design": (TINY + "~design: {name: sobel}\n", "design.name", "'sobel'", "'sobol'"),
    "arm seeds": (TINY + "~design: {arm_seeds: 3}\n", "design.arm_seeds", "3", "at most"),
    "tpe without search": (TINY + "~design: {name: tpe}\n", "design.name", "'tpe'", "add a parameter"),
    "tpe of no metric": (
        SEARCH + "    sigma: {choice: [0.1, 0.2]}\n~design: {name: tpe, optimize: {sliced_wasserstein: minimize}}\n",
        "design.optimize",
        "sliced_wasserstein",
        "add it to evaluate.metrics",
    ),
    "huge grid": (
        TINY + "design: {name: grid}\nsearch:\n~  train:\n    sigma: {uniform: [0.05, 0.2], levels: 200}\n"
        "    tau: {uniform: [0.02, 0.05], levels: 200}\n",
        "search.train",
        "40000",
        "lower `levels`",
    ),
    "few samples": (TINY.replace("evaluate: {samples: 60", "~evaluate: {samples: 10"), "evaluate.samples", "10", "at least 50"),
    "a step for a share": (
        TINY.replace("evaluate: {", "~evaluate: {at_steps: [5, 20], "),
        "evaluate.at_steps",
        "[5.0, 20.0]",
        "write shares of train.steps, above 0 and at most 1, such as [0.25, 0.5, 1]",
    ),
    "no share": (
        TINY.replace("evaluate: {", "~evaluate: {at_steps: [0, 1], "),
        "evaluate.at_steps",
        "[0.0, 1.0]",
        "write shares",
    ),
    "shares that fall": (
        TINY.replace("evaluate: {", "~evaluate: {at_steps: [0.5, 0.25, 1], "),
        "evaluate.at_steps",
        "[0.5, 0.25, 1.0]",
        "must grow, got [0.5, 0.25, 1.0]; write [0.25, 0.5, 1.0]",
    ),
    "one share": (TINY.replace("evaluate: {", "~evaluate: {at_steps: 0.5, "), "evaluate.at_steps", "0.5", "must be a list"),
    "shares of none": (TINY.replace("evaluate: {", "~evaluate: {at_steps: [], "), "evaluate.at_steps", "[]", "such as [0.25"),
    "a share in words": (
        TINY.replace("evaluate: {", "~evaluate: {at_steps: [half, 1], "),
        "evaluate.at_steps",
        "['half', 1]",
        "must be a valid number",
    ),
    "shares of a given field": (
        TINY.replace("evaluate: {", "~evaluate: {at_steps: [0.5, 1], ").replace("train: {steps: 20, batch_size: 32}\n", "")
        + "field: {exact: empirical}\n",
        "evaluate.at_steps",
        "nothing is trained",
        "remove this, or remove field",
    ),
    "shares under tpe": (
        SEARCH.replace("evaluate: {", "~evaluate: {at_steps: [0.5, 1], ")
        + "    sigma: {choice: [0.1, 0.2]}\ndesign: {name: tpe}\n",
        "evaluate.at_steps",
        "tpe",
        "use one_at_a_time or sobol",
    ),
    "unknown metric": (
        TINY.replace("evaluate: {samples: 60, metrics: [fid]", "~evaluate: {metrics: [fib]"),
        "evaluate.metrics",
        "fib",
        "'fid'",
    ),
    "metric twice": (
        TINY.replace("evaluate: {samples: 60, metrics: [fid]", "~evaluate: {metrics: [fid, fid]"),
        "evaluate.metrics",
        "['fid', 'fid']",
        "twice",
    ),
    "digits features in the plane": (
        TINY.replace("evaluate: {", "~evaluate: {features: digits, "),
        "evaluate.features",
        "digits",
        "use pixels",
    ),
    "unet on vectors": (TINY + "~network: {name: unet}\n", "network.name", "unet", "use name: mlp"),
    "unknown data": (TINY.replace("data: {name: rings", "~data: {name: ringz"), "data.name", "'ringz'", "use one of"),
    "npz without path": (
        TINY.replace("data: {name: rings, n: 300}", "~data: {name: npz}"),
        "data.path",
        "None",
        "needs the file's path",
    ),
    "npz missing": (
        TINY.replace("data: {name: rings, n: 300}", "data:\n  name: npz\n~  path: none.npz"),
        "data.path",
        "none.npz",
        "give the path",
    ),
    "npz of objects": (
        TINY.replace("data: {name: rings, n: 300}", "~data: {name: npz, path: objects.npz}"),
        "data.path",
        "objects.npz",
        "not numbers",
    ),
    "npz not finite": (
        TINY.replace("data: {name: rings, n: 300}", "~data: {name: npz, path: nan.npz}"),
        "data.path",
        "nan.npz",
        "not finite",
    ),
    "path of a toy": (TINY.replace("data: {", "~data: {path: a.npz, "), "data.path", "a.npz", "name: npz"),
    "infinite sigma": (TINY.replace("train: {", "~train: {sigma: .inf, "), "train.sigma", "inf", "finite"),
    "sigma not a number": (TINY.replace("train: {", "~train: {sigma: .nan, "), "train.sigma", "nan", "finite"),
    "infinite gpus": (TINY + "~resources: {gpus: .inf}\n", "resources.gpus", "inf", "finite"),
    "no field in a bundle": (TINY + "resources:\n~  bundle: 0\n", "resources.bundle", "0", "greater than 0; or must be 'auto'"),
    "half a field": (TINY + "~resources: {bundle: 2.5}\n", "resources.bundle", "2.5", "integer"),
    "as many as there are": (TINY + "~resources: {bundle: all}\n", "resources.bundle", "'all'", "'auto'"),
    "compiled bundle": (TINY + "~resources: {bundle: 4, compile: true}\n", "resources.bundle", "4", "or bundle: 1"),
    "compiled, if they gain": (
        TINY + "~resources: {bundle: auto, compile: true}\n",
        "resources.bundle",
        "auto",
        "compile: false",
    ),
    "nothing at once": (TINY + "~resources: {concurrent: 0}\n", "resources.concurrent", "0", "'auto'"),
    "tolerance of the report": (TINY + "~analysis: {tolerance: 0}\n", "analysis.tolerance", "0", "greater than 0"),
}


@pytest.fixture
def npz_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}, {"b": 2}], dtype=object))
    np.savez(tmp_path / "nan.npz", x=np.full((10, 2), math.nan))


def bad_file(folder: Path, text: str) -> tuple[Path, int]:
    """The file of a case, and the line of its mistake."""
    number = next(k for k, line in enumerate(text.split("\n"), 1) if line.startswith("~"))
    return write(folder, re.sub(r"^~", "", text, flags=re.MULTILINE)), number


@pytest.mark.usefixtures("npz_files")
@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_with_place_value_and_cure(tmp_path: Path, case: str) -> None:
    text, key, value, cure = BAD[case]
    path, number = bad_file(tmp_path, text)
    line = refusal(path)
    assert line.startswith(f"{path}:{number}: {key if key != 'T' else 'sampler'}"), line
    assert value in line and cure in line, line


@pytest.mark.usefixtures("npz_files")
def test_the_command_line_refuses_and_creates_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case, (text, *_) in BAD.items():
        path, number = bad_file(tmp_path, text)
        before = sorted(tmp_path.rglob("*"))
        assert main([str(path)]) == 2, case
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1 and f"{path}:{number}:" in printed.err, printed.err
        assert printed.out == ""
        assert sorted(tmp_path.rglob("*")) == before, case


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    line = refusal(tmp_path / "none.yaml")
    assert f"{tmp_path}/none.yaml: no such file" in line and "study.run --example" in line
    assert f"{tmp_path}: cannot be read" in refusal(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe\n")
    assert "cannot be read as UTF-8" in refusal(tmp_path / "bytes.yaml")
    (tmp_path / "huge.yaml").write_text(TINY + "# " + "x" * 1_000_000)
    assert "are more than the 1000000 of a study file; name another file" in refusal(tmp_path / "huge.yaml")
    levels = "".join(f"  l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 9)}]\n" for k in range(1, 12))
    bomb = write(tmp_path, TINY + "search:\n  l0: &l0 [x, x]\n" + levels)
    line = refusal(bomb)
    assert "too deep or too long for a study file" in line and "without aliases" in line and f"{bomb}:" in line


def test_a_missing_name_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, TINY.replace("name: tiny\n", ""))
    line = refusal(path)
    assert f"{path}:1: name: missing" in line and "`name: my-study`" in line


def test_an_extreme_space_is_allowed_when_asked_for(tmp_path: Path) -> None:
    text = TINY.replace("sampler: {", "sampler: {T: 1.0e+9, ")
    assert load_study_config(write(tmp_path, text + "allow_extreme: true\n")).allow_extreme


def test_fixed_keys_count_where_they_have_a_meaning(tmp_path: Path) -> None:
    """Two processes in one study: each keeps its own fixed keys; gamma and the reference batch go with the objective."""
    text = TINY.replace("steps: 20", "sigma: 0.2, gamma: 2.0, n_aug: 64, reference_batch_size: 100, steps: 20")
    study = text + "search: {train: {process: {choice: [pfgm, pfgmpp]}}}\n"
    config = load_study_config(write(tmp_path, study))
    pfgm, pfgmpp = (config.training({"process": name}) for name in ("pfgm", "pfgmpp"))
    assert (pfgm.sigma, pfgm.gamma, pfgm.n_aug, pfgm.reference_batch_size) == (0.2, 2.0, None, 100)
    assert (pfgmpp.sigma, pfgmpp.gamma, pfgmpp.n_aug, pfgmpp.reference_batch_size) == (None, None, 64, None)
    assert [t.train.process for t in make_plan(config)] == ["pfgm", "pfgmpp"]
    again = load_study_config(write(tmp_path, config.to_yaml()))
    assert again.dump() == config.dump()
    with_arm = study.replace("pfgmpp]}", "pfgmpp]}, gamma: {choice: [2.0, 5.0], when: {process: pfgm}}")
    assert len(make_plan(load_study_config(write(tmp_path, with_arm)))) == 3


@pytest.mark.parametrize(
    ("train", "search", "message"),
    [
        ("gamma: 2.0", "process: {choice: [pfgmpp]}", "train.gamma: has no meaning under pfgmpp; remove 2.0"),
        ("sigma: -1.0", "process: {choice: [pfgm, pfgmpp]}", "train.sigma: must be greater than 0, got -1.0"),
        ("n_aug: 0", "process: {choice: [pfgm, pfgmpp]}", "train.n_aug: must be greater than or equal to 0.5, got 0"),
        ("gamma: 2.0", "process: {choice: [pfgm, pfgmm]}", "search.train.process: .*'pfgmm'"),
        ("objective: raw", "process: {choice: [pfgmpp]}", "train.objective: has no meaning under pfgmpp; remove 'raw'"),
        ("sigma: 0.1, n_aug: 64", "steps: {choice: [20, 30]}", "train.n_aug: belongs to process pfgmpp"),
    ],
)
def test_keys_without_a_meaning_are_refused(tmp_path: Path, train: str, search: str, message: str) -> None:
    text = TINY.replace("steps: 20", f"{train}, steps: 20") + f"search: {{train: {{{search}}}}}\n"
    with pytest.raises(ConfigError, match=message):
        load_study_config(write(tmp_path, text))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", r"search.yaml:1: data: missing; say what is studied, such as `data: \{name: digits\}`"),
        ("data:\n", r"search.yaml:2: data: missing; say what is studied"),
        ("data: {center: true}\n", r"search.yaml:2: data: name is missing; say which data set"),
        ("data: {names: rings}\n", r"search.yaml:2: data.names: unknown key .* did you mean `name`"),
    ],
)
def test_a_study_says_what_it_studies(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study_config(write(tmp_path, TINY.replace("data: {name: rings, n: 300}\n", data)))
    assert load_study_config(write(tmp_path, TINY)).data.name == "rings"


WHOLE = """\
name: whole
data: {name: shell, n: 3%(k)s, dim: %(four)s}
network: {name: mlp, width: 16%(z)s, depth: 1%(z)s}
train: {steps: 2%(k)s, batch_size: 32%(z)s, warmup_steps: 10%(z)s, reference_batch_size: 64%(z)s}
sampler: {solver: heun2, steps: 4%(z)s, batch_size: 1%(k)s}
evaluate: {samples: 1%(k)s, metrics: [fid], pr_samples: 1%(k)s}
search:
  train: {steps: {choice: [2%(k)s, 3%(k)s]}, width: {int_uniform: [8%(z)s, 16%(z)s], levels: 2%(z)s}}
  sampler: {steps: {log_int_uniform: [4%(z)s, 1%(k)s]}}
design: {name: sobol, trials: 4%(z)s, sampler_points: 2%(z)s, seed: 7%(z)s}
seeds: {train: [0%(z)s, 5%(z)s], sample: 2%(z)s}
resources: {cpus: 1%(z)s, concurrent: 2%(z)s}
retries: 1%(z)s
perturb: {weight_bits: [8%(z)s]}
"""
"""A study whose whole numbers are all given as integers, or all as floats."""


def test_a_whole_float_is_an_integer_wherever_one_is_asked(tmp_path: Path) -> None:
    plain = load_study_config(write(tmp_path, WHOLE % {"k": "00", "z": "", "four": "4"}))
    floats = load_study_config(write(tmp_path, WHOLE % {"k": "e2", "z": ".0", "four": "0.4e1"}))
    assert floats.dump() == plain.dump() and floats.to_yaml() == plain.to_yaml()
    a, b = make_plan(plain), make_plan(floats)
    assert a == b and len(a) == 8
    cells = [[cell.to_row() for trial in trials for cell in trial.cells] for trials, config in ((a, plain), (b, floats))]
    assert [c["cell_id"] for c in cells[0]] == [c["cell_id"] for c in cells[1]] and cells[0] == cells[1]
    with pytest.raises(ConfigError, match=r"train.steps: .*integer.*, got 200.5"):
        load_study_config(write(tmp_path, (WHOLE % {"k": "00", "z": "", "four": "4"}).replace("steps: 200,", "steps: 200.5,")))


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("name: tiny", "name: 2024", r'search.yaml:1: name: .* got 2024; write it in quotes, such as "2024"$'),
        ("name: tiny", "name: true", r'name: .* got True; write it in quotes, such as "true"$'),
        ("name: rings, n: 300", "name: npz, path: 2024", r'data.path: .* got 2024; write it in quotes, such as "2024"$'),
        ("name: tiny", "name: tiny\nstorage: 7", r'storage: .* got 7; write it in quotes, such as "7"$'),
    ],
)
def test_a_word_that_yaml_reads_as_a_number_wants_quotes(tmp_path: Path, was: str, now: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study_config(write(tmp_path, TINY.replace(was, now)))
    assert load_study_config(write(tmp_path, TINY.replace("name: tiny", 'name: "2024"'))).name == "2024"


ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "docs" / "start" / "own-data.md", ROOT / "docs" / "howto" / "processes.md"]
STUDIES = [
    text for page in PAGES for text in re.findall(r"```yaml\n(name: .*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize("text", STUDIES, ids=lambda text: text.split()[1])
def test_studies_of_the_first_pages_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "my_vectors.npz", x=np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32))
    assert make_plan(load_study_config(write(tmp_path, text)))


def test_every_study_of_the_first_pages_is_complete() -> None:
    assert len(STUDIES) == sum(page.read_text(encoding="utf-8").count("```yaml") for page in PAGES) == 3
