"""What a conditional field is asked for: classes by number of the sample, guidance, and what a guided call costs."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import torch

import pfgm
from pfgm.config import NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.given import dataset
from pfgm.flow.trained import Field
from pfgm.mistakes import Mistake
from pfgm.sampling.asked import spread
from pfgm.sampling.integrate import sample
from pfgm.training.trainer import Trainer


def points(labelled: bool = True):
    rng = np.random.default_rng(5)
    which = rng.choice(3, 200, p=[0.5, 0.3, 0.2])
    x = np.array([[2, 0], [-2, 0], [0, 2]])[which] + 0.2 * rng.standard_normal((200, 2))
    return dataset(x, labels=np.array(["right", "left", "top"])[which] if labelled else None)


def made(conditional: bool) -> Field:
    trainer = Trainer(points(), NetworkConfig(width=32), TrainConfig(conditional=conditional, steps=120, batch_size=32), seed=0)
    list(trainer.run())
    return Field.from_trainer(trainer)


@pytest.fixture(scope="module")
def field() -> Field:
    return made(True)


def test_every_first_few_samples_have_the_shares_of_the_data():
    """Exactly, to within two samples of each class, for equal and for very different shares; 300 samples."""
    for counts in ((1, 1, 1), (500, 300, 200), (9990, 9, 1), tuple(range(1, 30))):
        labels = spread(counts, 300)
        for n in (1, 7, 60, 300):
            found = np.bincount(labels[:n], minlength=len(counts))
            assert np.abs(found - n * np.array(counts) / sum(counts)).max() < 2
    assert spread((5, 5, 5), 6).tolist() == [0, 1, 2, 0, 1, 2]


def test_the_class_of_a_sample_depends_on_its_number_alone(field):
    assert field.labels(40).tolist() == field.labels(200)[:40].tolist()
    assert field.labels(5, label="top").tolist() == [field.process.info.classes.index("top")] * 5
    assert made(False).labels(5) is None


def test_batches_change_no_class_of_a_sample(field):
    """A fixed-step solve of 50 samples in batches of 7 and of 50 is the same to rounding."""
    whole, parts = (field.sample(50, guidance=1.5, batch_size=size) for size in (50, 7))
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4)
    one = field.sample(50, guidance=1.5, label=int(field.labels(50)[3]), batch_size=50)
    torch.testing.assert_close(whole[3], one[3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", ["dopri5", "heun2", "pc3", "ipndm4", "multistep2"])
def test_every_solver_sees_the_class_of_each_row(field, solver):
    """Each sample of a mixed batch is that of a batch of its class alone."""
    options = {"solver": solver} | ({"rtol": 1e-6} if solver == "dopri5" else {"steps": 24})
    mixed, labels = field.sample(12, **options), field.labels(12)
    for k in range(3):
        alone = field.sample(12, label=k, **options)
        torch.testing.assert_close(mixed[labels == k], alone[labels == k], rtol=1e-3, atol=1e-3)


def test_guidance_extrapolates_from_the_field_of_all_classes(field):
    """w = 0 and 1 are the plain fields bit for bit; w = 2 is D_u + 2 (D_c − D_u)."""
    x, t = torch.randn(9, 2), torch.full((9,), 1.5)

    def source(w):
        return field.asked(SamplerConfig(label="left", guidance=w)).of_rows(0, 9)(x, t)

    every, own = field.mean_source(x, t), field.of_class("left").mean_source(x, t)
    assert torch.equal(source(0.0), every) and torch.equal(source(1.0), own) and not torch.equal(every, own)
    assert torch.equal(source(2.0), every + 2.0 * (own - every))
    assert torch.equal(field.of_class("left", 2.0).mean_source(x, t), source(2.0))


@pytest.mark.parametrize(("guidance", "calls"), [(None, 1), (0.0, 1), (1.0, 1), (1.5, 2), (3.0, 2)])
def test_a_guided_call_is_two_calls_of_the_network(field, guidance, calls):
    asked = []
    handle = field.network.backbone.register_forward_hook(lambda *_: asked.append(1))
    config = SamplerConfig(solver="heun2", steps=5, denoise=True, guidance=guidance)
    found = sample(field.asked(config), field.process, config, 10)
    handle.remove()
    assert found.nfe == found.nfe_max == len(asked) == 11 * calls


def test_a_saved_field_makes_the_same_samples(field, tmp_path):
    field.save(tmp_path / "field")
    again = pfgm.load_field(tmp_path / "field")
    assert again.process.info.classes == ("left", "right", "top")
    assert torch.equal(again.sample(30, guidance=2.0), field.sample(30, guidance=2.0))


def test_an_unconditional_field_keeps_no_classes(tmp_path):
    made(False).save(tmp_path / "field")
    text = (tmp_path / "field" / "field.json").read_text()
    assert "classes" not in text and "conditional" not in text and "label_dropout" not in text
    assert pfgm.load_field(tmp_path / "field").process.info.classes == ()


def test_a_field_of_one_class_samples_it_unless_told_otherwise(field):
    top = field.of_class("top", 2.0)
    assert torch.equal(top.sample(8), field.sample(8, label="top", guidance=2.0))
    assert torch.equal(top.sample(8, label="left"), field.sample(8, label="left", guidance=2.0))
    assert torch.equal(top.of_class("left", 1.0).sample(8), field.sample(8, label="left"))
    assert top.labels(2).tolist() == [2, 2]


def test_items_go_to_latents_and_back_in_the_field_of_their_class(field):
    x = field.sample(6, label="top", denoise=False).float()
    latents = field.encode(x, label="top")
    torch.testing.assert_close(field.decode(latents, label="top").float(), x, rtol=2e-2, atol=2e-2)
    with pytest.raises(Mistake, match="label: say of which class the items are"):
        field.encode(x)
    with pytest.raises(Mistake, match="label: say of which class the items are"):
        field.decode(latents)


def test_the_likelihood_is_that_of_the_class_asked_for(field):
    """Points of a class are likelier under it than under another; without a class it is the field of all."""
    data = points()
    x = data.raw[:][data.labels == 2][:20].double()
    own, other, every = (float(field.log_likelihood(x, **asked, t_min=0.1).log_prob.mean()) for asked in
                         ({"label": 2}, {"label": 0}, {}))  # fmt: skip
    assert own > other and math.isfinite(other)
    assert every == float(field.log_likelihood(x, guidance=0.0, t_min=0.1).log_prob.mean())


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_field_of_a_class_is_exported(field, tmp_path, guidance):
    with pytest.raises(Mistake, match=r"label: an exported field makes items of one class; write field\.of_class"):
        field.export(tmp_path / "none")
    field.of_class("top", guidance).export(tmp_path / "top", steps=8)
    spec = importlib.util.spec_from_file_location("exported_top", tmp_path / "top" / "field.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x, t = torch.randn(7, 2), torch.full((7,), 1.2)
    torch.testing.assert_close(module.Field()(x, t), field.of_class("top", guidance).mean_source(x, t), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"label": "bottom"}, "label: no class 'bottom'; use all, a number from 0 to 2, or one of left, right, top"),
        ({"label": 3}, "label: no class 3; use all"),
        ({"guidance": -1.0}, "guidance: "),
    ],
)
def test_a_class_that_is_not_known_is_refused(field, keys, text):
    with pytest.raises(Mistake, match=text):
        field.sample(4, **keys)


@pytest.mark.parametrize("keys", [{"label": 1}, {"guidance": 2.0}])
def test_an_unconditional_field_is_asked_for_no_class(keys):
    with pytest.raises(Mistake, match="asks a conditional field for a class; train one with conditional: true, or remove it"):
        made(False).sample(4, **keys)


def test_tuned_levels_are_those_of_the_field_of_all_classes(field):
    """Found once for all classes and strengths of guidance."""
    for keys in ({"label": 1, "guidance": 2.0}, {}):
        assert field.sample(5, solver="pc2", steps=4, grid="tuned", **keys).isfinite().all()
    assert len(field._tuned) == 1
