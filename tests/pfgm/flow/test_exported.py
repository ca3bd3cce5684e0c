"""An exported field: one Python file that needs torch alone makes the samples of the field that it was made of."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import pfgm
from pfgm.mistakes import Mistake
from pfgm.prior.latent import latents

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(12, 3, 8, 8, generator=GENERATOR) * 2 - 1
VECTORS = torch.randn(40, 3, generator=GENERATOR, dtype=torch.float64) * torch.tensor([1.0, 50.0, 0.1]) + 7
SMALL = {"width": 8, "depth": 2}
CASES: dict[str, tuple[Tensor, dict[str, Any], dict[str, Any]]] = {
    "pfgm": (VECTORS, {"network": SMALL, "data": {"standardize": True}}, {"steps": 5}),
    "plain head": (VECTORS, {"network": SMALL | {"skip": False}}, {"steps": 4, "T_ratio": 0.5}),
    "unet, pfgmpp": (IMAGES, {"network": SMALL | {"name": "unet"}, "process": "pfgmpp"}, {"steps": 4, "grid": "native"}),
    "ddpmpp": (IMAGES[:, :1], {"network": SMALL | {"name": "ddpmpp", "depth": 1, "channel_mult": (1, 1)}}, {"steps": 3}),
    "vp": (VECTORS, {"network": SMALL, "process": "vp"}, {"steps": 6}),
    "ve": (VECTORS, {"network": SMALL, "process": "ve"}, {"steps": 3, "t_min": 0.05}),
}


def module(folder: Path) -> ModuleType:
    """The exported file as a stranger's project would import it."""
    spec = importlib.util.spec_from_file_location(f"exported_{folder.name}", folder / "field.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize(("x", "keys", "sampler"), CASES.values(), ids=CASES)
def test_it_makes_the_samples_of_the_field(x: Tensor, keys: dict[str, Any], sampler: dict[str, Any], tmp_path: Path) -> None:
    field = pfgm.fit(x, steps=4, batch_size=8, progress=False, **keys)
    with torch.no_grad():  # weights that are zero in a fresh network take part too
        for parameter in field.network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=GENERATOR))
    field.export(tmp_path / "made", **sampler)
    exported = module(tmp_path / "made")
    given = latents(6, field.process.info.dim, seed=3)
    expected = field.sample(6, latents=given, solver="heun2", **sampler)
    start = field.prior(solver="heun2", **sampler).from_latent(*given)
    plain = exported.Field()
    found = exported.sample(plain, x=start)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    size = float(expected.abs().max())
    assert float((found - expected).abs().max()) <= 1e-5 * max(size, 1.0)
    assert float(expected.std(0).max()) > 1e-3  # they are not one point
    drawn = exported.sample(plain, 3)
    assert drawn.shape == (3, *x.shape[1:]) and bool(drawn.isfinite().all())
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in field.network.parameters())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[pfgm.Field, Path]:
    field = pfgm.fit(VECTORS, steps=2, batch_size=8, network=SMALL, progress=False, process="pfgmpp", n_aug=8.0)
    folder = tmp_path_factory.mktemp("exported") / "made"
    field.export(folder)
    return field, folder


def test_it_needs_torch_alone_and_thirty_lines(made: tuple[pfgm.Field, Path]) -> None:
    tree = ast.parse((made[1] / "field.py").read_text())
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert named == {"json", "math", "pathlib", "torch"}
    lines = [f.end_lineno - f.lineno + 1 for f in tree.body if isinstance(f, ast.FunctionDef) and f.end_lineno is not None]
    assert len(lines) == 2 and sum(lines) <= 30
    assert sorted(path.name for path in made[1].iterdir()) == ["field.py", "weights.safetensors"]
    assert load_file(made[1] / "weights.safetensors").keys() >= {"data_mean", "backbone_first_weight"}


def test_its_starts_have_the_law_of_the_prior(made: tuple[pfgm.Field, Path]) -> None:
    """By the quartiles of 20,000 radii: an error of 3 % of one is detected, the seventh part of n_aug 8 against 7."""
    torch.manual_seed(0)
    radii = module(made[1]).start(20_000).norm(dim=1)
    q = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    torch.testing.assert_close(radii.quantile(q), made[0].prior().radius_icdf(q), rtol=0.03, atol=0)


def test_torch_export_takes_the_module_again(made: tuple[pfgm.Field, Path]) -> None:
    plain, x, t = module(made[1]).Field(), torch.randn(5, 3, generator=GENERATOR), torch.rand(5, generator=GENERATOR) + 0.1
    batch = torch.export.Dim("batch")
    program = torch.export.export(plain, (x[:2], t[:2]), dynamic_shapes=({0: batch}, {0: batch}))
    torch.testing.assert_close(program.module()(x, t), made[0].mean_source(x, t), rtol=1e-6, atol=1e-6)


def test_what_a_field_says_of_itself_does_not_become_code(made: tuple[pfgm.Field, Path], tmp_path: Path) -> None:
    process = made[0].process
    info = dataclasses.replace(process.info, name='x""" + open("{never}", "w") + r"""')
    dataclasses.replace(made[0], process=dataclasses.replace(process, info=info)).export(tmp_path / 'a"""b')
    first, before = (ast.parse((folder / "field.py").read_text()) for folder in (tmp_path / 'a"""b', made[1]))
    assert [type(node) for node in first.body] == [type(node) for node in before.body]
    assert isinstance(first.body[0], ast.Expr) and isinstance(first.body[0].value, ast.Constant)


class Doubtful(nn.Module):
    """A backbone that looks at its numbers before it goes on, which no trace can follow."""

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return torch.cat([x, x[:, :1]], 1) if float(x.sum()) > 0 else torch.zeros(len(x), x.shape[1] + 1)


def test_mistakes_are_one_line(made: tuple[pfgm.Field, Path], tmp_path: Path) -> None:
    field, folder = made
    with pytest.raises(FileExistsError, match="holds an exported field already; name another folder"):
        field.export(folder)
    for sampler, words in (
        ({"solver": "pc3"}, "solver: an exported sampler is heun2 with the keys T, T_ratio, t_min, steps, grid; remove it"),
        ({"grid": "own"}, "grid: own needs solver"),
        ({"steps": 0}, "steps: "),
    ):
        with pytest.raises(Mistake, match=words):
            field.export(tmp_path / "other", **sampler)
    network = pfgm.fit(VECTORS, steps=1, network=SMALL, batch_size=8, progress=False).network
    network.backbone = Doubtful()
    with pytest.raises(Mistake, match=r"^network: torch.export cannot trace it \(.*\): .+$"):
        dataclasses.replace(field, network=network).export(tmp_path / "other")
    assert not (tmp_path / "other").exists()
