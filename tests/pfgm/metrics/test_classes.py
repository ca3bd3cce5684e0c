"""Class accuracy and FID by class: known values, and classifiers that know what they are told."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import pfgm
from pfgm.config import DataConfig, EvaluateConfig
from pfgm.data.dataset import load_data
from pfgm.data.given import dataset
from pfgm.data.grid import _chosen, picture
from pfgm.metrics.card import Seen
from pfgm.metrics.classes import ClassMoments, class_accuracy, class_distances
from pfgm.metrics.evaluator import Evaluator
from pfgm.metrics.features.classifiers import HERE
from pfgm.metrics.features.judge import fitted_judge, shipped_judge
from pfgm.metrics.frechet import frechet_distance, moments
from pfgm.mistakes import Mistake


def test_the_share_that_is_right():
    assert class_accuracy(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])) == 0.75


def test_the_distance_of_each_class_is_that_of_its_own_samples():
    """Gaussians shifted by one unit: the class that is left alone has distance 0, the other 1 in the mean."""
    g = torch.Generator().manual_seed(0)
    data, labels = torch.randn(400, 3, generator=g), torch.arange(400) % 2
    samples = data + torch.tensor([1.0, 0, 0]) * (labels == 1)[:, None]
    found = class_distances(samples, labels, ClassMoments.of(data, labels, 2))
    assert found[0] == pytest.approx(0.0, abs=1e-5) and found[1] == pytest.approx(1.0, abs=1e-5)
    own = frechet_distance(*moments(samples[labels == 1]), *moments(data[labels == 1]))
    assert found[1] == pytest.approx(own)


def test_a_fitted_classifier_separates_what_can_be_separated():
    """Three clusters far apart are all told; noise is told to a third, to 5 standard errors."""
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (1000,), generator=g)
    noise = torch.randn(1000, 6, generator=g)
    apart = fitted_judge(noise + 12 * torch.eye(6)[labels], labels, 3)
    assert apart.accuracy == 1.0 and class_accuracy(labels, apart.guesses(noise + 12 * torch.eye(6)[labels])) == 1.0
    assert abs(fitted_judge(noise, labels, 3).accuracy - 1 / 3) < 5 * (2 / 9 / 200) ** 0.5


def test_shipped_features_are_judged_by_their_own_last_layer():
    facts = json.loads((HERE / "digits_features.json").read_text())
    assert shipped_judge("digits", "digits").accuracy == facts["test_accuracy"] > 0.98
    assert shipped_judge("digits", "images") is None and shipped_judge("random", "digits") is None


@pytest.mark.parametrize("features", [None, "random"])
def test_real_digits_are_of_their_class(features):
    """By the shipped classifier nearly all, by a linear one on random features most; wrong labels are seen."""
    data = load_data(DataConfig(name="digits"))
    metrics = ("class_accuracy", "class_fid")
    evaluator = Evaluator(data, EvaluateConfig(samples=500, metrics=metrics, features=features))
    x, labels = data.raw[:500], data.labels[:500]

    def row(told):
        return evaluator.values(Seen(evaluator, x, torch.ones(500), None, told), of_field=False)

    right, wrong = row(labels), row((labels + 1) % 10)
    assert right["metric_class_accuracy"] > (0.98 if features is None else 0.8) and right["metric_class_accuracy_real"] > 0.8
    assert wrong["metric_class_accuracy"] < 0.1
    assert right["metric_class_fid"] < wrong["metric_class_fid"] / 5
    assert right["metric_class_fid"] <= right["metric_class_fid_worst"] and right["metric_class_worst"] in data.info.classes
    assert row(None) == {}


def test_classes_are_measured_of_conditional_fields_alone():
    field = pfgm.fit("digits", steps=2, network={"width": 8}, progress=False)
    with pytest.raises(Mistake, match="metrics: 'class_accuracy' is of conditional fields"):
        pfgm.evaluate(field, "digits", samples=50, metrics=["fid", "class_accuracy"])
    x = np.random.default_rng(0).standard_normal((60, 3))
    told = pfgm.fit(x, labels=np.arange(60) % 2, steps=2, network={"width": 8}, progress=False)
    with pytest.raises(Mistake, match="metrics: 'class_fid' needs data with the field's classes"):
        pfgm.evaluate(told, x, samples=50, metrics=["class_fid"])
    found = pfgm.evaluate(
        told, dataset(x, labels=np.arange(60) % 2), samples=50, metrics=["class_fid", "class_accuracy"], guidance=2.0
    )
    assert found["class_fid"] > 0 and 0 <= found["class_accuracy"] <= 1 and found["nfe"] == 50


def test_a_picture_has_a_row_for_each_class():
    labels = torch.tensor([2, 0, 2, 0, 1, 2])
    rows, columns = _chosen(6, labels)
    assert columns == 3 and rows.tolist() == [1, 3, -1, 4, -1, -1, 0, 2, 5]
    assert _chosen(100, None)[1] == 8 and _chosen(100, torch.zeros(100, dtype=torch.int64))[1] == 8
    data = load_data(DataConfig(name="digits"))
    assert picture(data.raw[:40], data.info, data.labels[:40]) != picture(data.raw[:40], data.info)
