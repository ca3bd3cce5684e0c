"""The key at fault travels beside the text of an error, so nobody looks for it in the text."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from pfgm.config import SamplerConfig, TrainConfig
from pfgm.mistakes import Mistake, raised
from pfgm.process.resolve import sampler_point

ROOT = Path(__file__).resolve().parents[2]
CUT = re.compile(r"""(str\(error\)|reason\(error\)|\bmessage|\["msg"\])[^\n]*\.(r?partition|removeprefix)\(""")
SHORTENED = {"pfgm/training/trainer.py", "study/cluster/session.py"}
"""Where what a library said is cut to one line, to be shown."""


def test_no_error_text_is_cut_apart() -> None:
    files = [path for package in ("pfgm", "study", "analysis") for path in (ROOT / package).rglob("*.py")]
    found = {str(p.relative_to(ROOT)) for p in files if CUT.search(p.read_text(encoding="utf-8"))}
    assert found == SHORTENED
    assert CUT.search('key, _, text = str(error).partition(": ")')


def test_a_mistake_is_one_line_here_and_in_another_process() -> None:
    mistake = pickle.loads(pickle.dumps(Mistake("network.depth", "lower it")))
    assert (str(mistake), mistake.path, mistake.text) == ("network.depth: lower it", ("network", "depth"), "lower it")


def test_pydantic_carries_the_mistake_itself() -> None:
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({"objective": "denoise", "gamma": 5.0})
    found = raised(caught.value.errors()[0])
    assert isinstance(found, Mistake) and found.path == ("gamma",)
    with pytest.raises(ValidationError) as caught:
        SamplerConfig.model_validate({"rtol": -1.0})
    assert str(raised(caught.value.errors()[0])) == "Input should be greater than 0"


@pytest.mark.parametrize(
    ("sampler", "key", "message"),
    [
        ({"T": 1e-4}, "T", "T: must be above t_min, got T = 0.0001 and t_min = 0.001"),
        ({"rtol": 0.0}, "rtol", "rtol: Input should be greater than 0, got 0.0"),
        ({"solver": "dopri5", "steps": 3}, "steps", "steps: not read by solver dopri5; remove it, or choose another solver"),
    ],
)
def test_keywords_are_refused_by_their_name(sampler: dict[str, object], key: str, message: str) -> None:
    with pytest.raises(Mistake) as caught:
        sampler_point(sampler)
    assert (caught.value.path, str(caught.value)) == ((key,), message)
