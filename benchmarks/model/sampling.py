"""How near each solver comes to the converged samples for a number of network calls, and what it costs.

    python -m benchmarks.model.sampling [--calls 5 6 8 10 14 20 30 40] [--samples 600]
                                        [--fields digits fashion_mnist digits_pp exact]

The fields: an MLP on digits, a U-Net on Fashion-MNIST and an MLP of PFGM++ (128 extra dimensions) on digits, all trained here
in a few minutes and kept in ``--folder``; and the exact field of all digits, with 1 and with 128 extra dimensions. T is the
rule's and 8 times that (128 extra dimensions: 80 data units).

Every solver starts from the same fresh latents and ends with a denoise, which is one of its calls. The converged samples are
those of dopri5 at 1e-5. FDc is the Fréchet distance to them in the features of the data set; RMS the mean over samples of the
root mean square over coordinates; "switched" the share with an RMS above 0.3 standard deviations of the data. The grids are
fixed beforehand: log and rho of the solvers that were there, rho of iPNDM-4 and of UniPC of order 3 (in log t), heights of
each sample's own, and those that were tuned on other latents. The ratio is the best FDc of the former over that of pc3 with own
heights, and over that of pc2 with tuned ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks.ratios import tell
from pfgm.config import DataConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.flow.base import Flow
from pfgm.flow.checkpoint import load_field
from pfgm.flow.exact import exact_field
from pfgm.metrics.features.networks import default_features, feature_network
from pfgm.metrics.frechet import frechet_distance, moments
from pfgm.prior.latent import latents
from pfgm.process.resolve import resolve_train
from pfgm.registry import SOLVERS
from pfgm.sampling.integrate import Solution, integrate
from pfgm.sampling.multistep import predictor_corrector
from pfgm.sampling.own_levels import Width
from pfgm.sampling.solvers import Solver

ROOT = Path(__file__).resolve().parents[2]

T_MIN, CONVERGED, SWITCHED = 1e-3, 1e-5, 0.3
TRAINED: dict[str, dict[str, Any]] = {
    "digits": {"data": {"name": "digits"}, "network": {"width": 512}, "train": {"steps": 2500, "learning_rate": 2e-3}},
    "fashion_mnist": {
        "data": {"name": "fashion_mnist"},
        "network": {"name": "unet", "width": 32, "depth": 2, "patch": 2},
        "train": {"reference_batch_size": 256, "steps": 2500, "batch_size": 16, "learning_rate": 4e-3},
    },
    "digits_pp": {
        "data": {"name": "digits"},
        "network": {"width": 512},
        "train": {"process": "pfgmpp", "steps": 2500, "learning_rate": 2e-3},
    },
}
BEFORE = (("multistep2", "log"), ("multistep2", "rho"), ("heun2", "rho"), ("euler", "rho"))
OTHERS = (("ipndm4", "rho"), ("unipc3", "rho"))
UNIPC3 = Solver(predictor_corrector(3, 4), calls=1)
OURS = (("pc2", "rho"), ("pc3", "rho"), ("pc3", "rho5"), ("pc2", "own"), ("pc3", "own"), ("pc2", "tuned"))


@dataclass
class Case:
    """One field at one T: starts x (n, d), features of items, and the width of its data."""

    name: str
    T: float
    flow: Flow
    x: Tensor
    features: Callable[[Tensor], Tensor]
    width: Width


def trained(name: str, folder: Path) -> Path:
    """The stored field of a study that trains it; a field that is there is used again."""
    folder.mkdir(parents=True, exist_ok=True)
    small = {"sampler": {"solver": "heun2", "steps": 4}, "evaluate": {"samples": 300, "metrics": ["fid"]}}
    study = {"name": name, "storage": str(folder / name), **TRAINED[name], **small}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "study.run", str(folder / f"{name}.yaml"), "--inline", "--no-report"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    return next(path for path in (folder / name / "fields").iterdir() if not path.name.startswith("."))


def cases(names: list[str], folder: Path, n: int) -> Iterator[Case]:
    """Every field at every T."""
    for name in names:
        if name == "exact":
            data = load_data(DataConfig())
            kinds = {"exact digits, n_aug 1": {}, "exact digits, n_aug 128": {"process": "pfgmpp"}}
            for label, train in kinds.items():
                yield from of_flow(label, exact_field("empirical", data, resolve_train(TrainConfig(**train), data.info)), n)
        else:
            yield from of_flow(name, load_field(trained(name, folder)), n)


def of_flow(name: str, flow: Flow, n: int) -> Iterator[Case]:
    """A flow at the rule's T, and at 8 times that where its prior has a heavy tail."""
    process, info = flow.process, flow.process.info
    network = feature_network(default_features(info.name, info.shape), info.shape)

    def features(x: Tensor) -> Tensor:
        return network(info.to_data_units(x, clamp=True).reshape(len(x), *info.shape))

    for ratio in (1, 8) if process.n_aug == 1 else (1,):
        T = process.rule_T * ratio
        x = process.prior(T, None).from_latent(*latents(n, info.dim, 20261126)).float()
        yield Case(f"{name}, T = {ratio} × rule", T, flow, x, features, Width(info.sd, process.n_aug))


def solve(case: Case, solver: str, grid: str, calls: int) -> Solution | None:
    """A solve of so many calls, its denoise included; None where the solver's steps do not fit."""
    steps, rest = divmod(calls - 1, SOLVERS[solver].calls)
    if rest or not steps:
        return None
    width, tuned = None if solver == "unipc3" else case.width, None
    if grid == "tuned":
        tuned = case.flow.tuned(SamplerConfig(T=case.T, t_min=T_MIN, solver=solver, steps=steps, grid=grid))
    return integrate(
        case.flow.mean_source, case.x, T=case.T, t_min=T_MIN, solver=solver, steps=steps, grid=grid, denoise=True, width=width,
        tuned=tuned,
    )  # fmt: skip


def table(case: Case, calls: list[int]) -> None:
    """Print what one field gives."""
    exact = integrate(case.flow.mean_source, case.x, T=case.T, t_min=T_MIN, solver="dopri5", rtol=CONVERGED, denoise=True)
    default = integrate(case.flow.mean_source, case.x, T=case.T, t_min=T_MIN, solver="dopri5", rtol=1e-4, denoise=True)
    converged = moments(case.features(exact.x))

    def told(x: Tensor) -> tuple[float, float, float]:
        rms = (x - exact.x).square().mean(1).sqrt()
        distance = frechet_distance(*moments(case.features(x)), *converged)
        return distance, float(rms.mean()), float((rms > SWITCHED * case.width.sd).float().mean())

    print(
        f"\n## {case.name}: converged in {exact.nfe} calls; dopri5 at 1e-4 {default.nfe} calls, FDc {told(default.x)[0]:.4f}\n"
    )
    print("| calls | solver, grid | FDc | mean RMS | switched |\n|---|---|---|---|---|")
    for n in calls:
        found = {(s, g): told(made.x) for s, g in BEFORE + OTHERS + OURS if (made := solve(case, s, g, n)) is not None}
        for (solver, grid), (distance, rms, share) in found.items():
            print(f"| {n} | {solver}, {grid} | {distance:.4f} | {rms:.4f} | {share:.3f} |")
        own, tuned = found["pc3", "own"][0], found["pc2", "tuned"][0]
        before = min(value[0] for key, value in found.items() if key in BEFORE)
        others = min(value[0] for key, value in found.items() if key in OTHERS)
        for name, mine in (("own", own), ("tuned", tuned)):
            tell(f"{case.name}, {n} calls, {name}: FD to converged", "the best solver that was there", [before / mine])
            tell(f"{case.name}, {n} calls, {name}: FD to converged, others", "best of iPNDM-4, UniPC-3", [others / mine])
            told_others = f"iPNDM-4, UniPC-3 {others / mine:.2f} ×"
            print(f"| {n} | **ratio to {name}** | before {before / mine:.2f} × | {told_others} | |", flush=True)


def main() -> None:
    """Print a table for every field."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--calls", type=int, nargs="+", default=[5, 6, 8, 10, 14, 20, 30, 40], help="network calls a sample")
    parser.add_argument("--samples", type=int, default=600, help="samples of each solve (default 600)")
    parser.add_argument("--fields", nargs="+", default=[*TRAINED, "exact"], choices=[*TRAINED, "exact"], help="which fields")
    parser.add_argument("--folder", type=Path, default=Path("results/benchmark_sampling"), help="where trained fields are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    SOLVERS.register("unipc3", "__main__:UNIPC3")
    with torch.no_grad():
        for case in cases(arguments.fields, arguments.folder, arguments.samples):
            table(case, arguments.calls)


if __name__ == "__main__":
    main()
