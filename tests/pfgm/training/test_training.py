"""Training: golden losses, exact resume, learning that works, objectives that agree with their laws, checkpoints."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import pfgm.training.trainer
from pfgm import load_field
from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.field.empirical import mean_source, normalized_target
from pfgm.flow.packed import Damaged, pack_tensors, unpack_tensors
from pfgm.flow.trained import Field
from pfgm.flow.written import save_field
from pfgm.networks.build import build_network
from pfgm.networks.heads import field_head, median_noise_ratio, plain_length, root_magnitude
from pfgm.process.kernel import kernel_noise
from pfgm.process.make import make_process
from pfgm.process.pfgm import Pfgm
from pfgm.process.resolve import resolve_sampler, resolve_train
from pfgm.registry import OBJECTIVES
from pfgm.training.history import TrainingDiverged, derive_seed, learning_rate
from pfgm.training.objectives import raw
from pfgm.training.trainer import Trainer

SMALL = NetworkConfig(width=32, depth=1)
RINGS = DataConfig(name="rings", n=200)
GOLDEN = Path(__file__).parent / "golden_losses.txt"

CASES = [
    ("digits", TrainConfig(steps=5, batch_size=16, warmup_steps=2)),
    ("digits", TrainConfig(steps=5, batch_size=16, reference_batch_size=64)),
    ("rings", TrainConfig(steps=5, batch_size=16, sigma=0.03, objective="raw")),
    ("rings", TrainConfig(steps=5, batch_size=16, process="pfgmpp", n_aug=4.0)),
    ("rings", TrainConfig(steps=5, batch_size=16, process="pfgmpp", n_aug=math.inf, objective="reference")),
    ("digits", TrainConfig(steps=5, batch_size=16), SMALL.model_copy(update={"skip": False})),
    ("digits", TrainConfig(steps=5, batch_size=16), NetworkConfig(name="unet", width=16, depth=2)),
]  # fmt: skip


def data_of(name):
    return load_data(DataConfig(name=name, n=200 if name == "rings" else None))


def one_thread(function):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function()
    finally:
        torch.set_num_threads(before)


def golden_losses() -> list[float]:
    runs = [Trainer(data_of(name), network[0] if network else SMALL, train, seed=0) for name, train, *network in CASES]
    return [p.loss for trainer in runs for p in trainer.run(report_every=1)]


def test_golden_losses():
    """Five losses of each objective and network. If they move, trained fields no longer mean the same: raise
    FIELD_VERSION, then write the new numbers: run this file with python. Tolerance 1e-4: instruction sets differ
    in the last digits."""
    version, *numbers = GOLDEN.read_text().split()
    assert int(version) == pfgm.training.history.FIELD_VERSION, "FIELD_VERSION was raised: write the new golden losses"
    np.testing.assert_allclose(
        one_thread(golden_losses), [float(n) for n in numbers], rtol=1e-4, err_msg="training changed: raise FIELD_VERSION"
    )


@pytest.mark.parametrize("stop", [7, 20, 33])
def test_resume_is_bit_identical(stop, tmp_path):
    """Stopped at a step and continued through a file, weights, average and history equal an uninterrupted run's."""
    data, train = data_of("rings"), TrainConfig(steps=40, batch_size=16, sigma=0.03, reference_batch_size=50)

    def interrupted():
        first = Trainer(data, SMALL, train, seed=3)
        for progress in first.run(report_every=1):
            if progress.step == stop:
                break
        (tmp_path / "training.state").write_bytes(pack_tensors(first.state()))
        second = Trainer(data, SMALL, train, seed=3)
        second.load_state(unpack_tensors((tmp_path / "training.state").read_bytes()))
        list(second.run(report_every=1))
        return second

    whole = Trainer(data, SMALL, train, seed=3)
    one_thread(lambda: list(whole.run(report_every=1)))
    continued = one_thread(interrupted)
    for a, b in zip(whole.parameters + whole.average, continued.parameters + continued.average, strict=True):
        assert torch.equal(a, b)
    assert [(p.step, p.loss) for p in whole.history] == [(p.step, p.loss) for p in continued.history]


def test_a_lost_generator_state_would_be_seen():
    """The resume test can fail: dropping one stream's state changes the weights."""
    data, train = data_of("rings"), TrainConfig(steps=6, batch_size=16, sigma=0.03)
    first = Trainer(data, SMALL, train, seed=3)
    next(iter(first.run(report_every=3)))
    state = first.state()
    state["generator.perturb"] = Trainer(data, SMALL, train, seed=3).state()["generator.perturb"]
    second = Trainer(data, SMALL, train, seed=3)
    second.load_state(state)
    list(second.run())
    list(first.run())
    assert not torch.equal(first.average[0], second.average[0])


def test_seeds_and_roles_are_separate():
    assert len({derive_seed(s, r) for s in (0, 1, 2) for r in ("init", "order", "perturb")}) == 9
    a, b = (Trainer(data_of("rings"), SMALL, TrainConfig(steps=3, sigma=0.03), seed=s) for s in (0, 1))
    assert not torch.equal(a.parameters[0], b.parameters[0])


def test_learning_rate_schedule():
    train = TrainConfig(steps=1000, warmup_steps=100, learning_rate=1e-3)
    assert learning_rate(train, 0) == pytest.approx(1e-5)
    assert learning_rate(train, 99) == pytest.approx(1e-3)
    assert learning_rate(train, 550) == pytest.approx(5e-4)
    assert learning_rate(train, 999) < 1e-8
    constant = train.model_copy(update={"constant_rate": True})
    assert [learning_rate(constant, k) for k in (99, 100, 999)] == [pytest.approx(1e-3)] * 3


def test_average_follows_the_ramp():
    """One parameter by hand: decay min(0.999, (1+k)/(10+k)) at step k."""
    trainer = Trainer(data_of("rings"), SMALL, TrainConfig(steps=4, sigma=0.03), seed=0)
    average = trainer.parameters[0].detach().clone()
    for k, _ in enumerate(trainer.run(report_every=1)):
        decay = min(0.999, (1 + k) / (10 + k))
        average = decay * average + (1 - decay) * trainer.parameters[0].detach()
    torch.testing.assert_close(trainer.average[0], average)


def test_nan_loss_raises():
    train = TrainConfig(steps=200, sigma=0.03, objective="raw", learning_rate=1e30, warmup_steps=0)
    with pytest.raises(TrainingDiverged, match="not finite between steps"):
        list(Trainer(data_of("rings"), SMALL.model_copy(update={"skip": False}), train, seed=0).run())


def test_bf16_trains():
    trainer = Trainer(data_of("rings"), SMALL, TrainConfig(steps=20, sigma=0.03, bf16=True), seed=0)
    losses = [p.loss for p in trainer.run(report_every=10)]
    assert all(math.isfinite(v) for v in losses)
    assert trainer.parameters[0].dtype == torch.float32


@pytest.mark.parametrize(
    "process", [{}, {"objective": "raw"}, {"process": "pfgmpp", "n_aug": 128.0}, {"process": "pfgmpp", "n_aug": math.inf}]
)
def test_learns_the_field_of_rings(process):
    """Error of D against the exact mean source, over 400 steps: falls below 0.6 of the untrained head's."""
    data = data_of("rings")
    train = TrainConfig(**({"sigma": 0.05} if process.get("process") != "pfgmpp" else {}), steps=400, batch_size=128, **process)
    trainer = Trainer(data, NetworkConfig(width=64, depth=2), train, seed=0)
    x, t = trainer.process.training_points(data.points[:].repeat(5, 1), torch.Generator().manual_seed(9))
    keep = (t > 0.02) & (t < 1.0)
    x, t = x[keep], t[keep]
    exact = mean_source(x, t, data.points, n_aug=trainer.process.n_aug)

    def error():
        d = Field.from_trainer(trainer).mean_source(x, t)
        return float((d - exact).square().mean())

    untrained = error()
    list(trainer.run())
    assert error() < 0.6 * untrained


def test_raw_objective_is_unbiased():
    """The loss of a constant output is least at −t^d times the mean field: 40,000 draws of y' detect 4 standard errors."""
    data = data_of("rings")
    process = make_process(resolve_train(TrainConfig(sigma=0.05, objective="raw"), data.info), data.info)
    x, t = torch.tensor([[0.4, 0.2]]), torch.tensor([0.5])

    class Constant(torch.nn.Module):
        skip = False

        def __init__(self, output):
            super().__init__()
            self.output = torch.nn.Parameter(output)

        def forward(self, x, t):
            return self.output.expand(len(x), 3)

    class Fixed(Pfgm):
        def training_points(self, y, generator):
            return x.expand(len(y), 2), t.expand(len(y))

    def gradient(output):
        network = Constant(output.float())
        y = data.points[torch.arange(40_000) % 200]
        raw(network, Fixed(process.train, process.info), y, data.points, torch.Generator().manual_seed(0)).backward()
        return network.output.grad.double()

    difference = torch.cat([x - data.points[:], t.expand(200)[:, None]], 1).double()
    rho = difference.norm(dim=1, keepdim=True)
    targets = -(difference / rho) * (0.5 / rho) ** 2
    error = 4 * targets.std(0) / math.sqrt(40_000)  # the gradient is 2/d (o − mean of the targets drawn), d = 2
    assert (gradient(targets.mean(0)).abs() < error).all()
    assert (gradient(-targets.mean(0)).abs() > error).any()
    assert (gradient(1.1 * targets.mean(0)).abs() > error).any()


def test_raw_objective_learns_the_mean_source():
    """300 steps on rings: D is within 25 % (RMS, of the data's size) of the exact mean source, from t = 0.1 up."""
    data = data_of("rings")
    train = TrainConfig(steps=300, batch_size=256, sigma=0.05, objective="raw", warmup_steps=20)
    trainer = Trainer(data, SMALL, train, seed=0)
    list(trainer.run())
    y = data.points[:].double()
    x, t = trainer.process.training_points(y.repeat(10, 1), torch.Generator().manual_seed(1))
    x, t = x[t > 0.1], t[t > 0.1]
    with torch.no_grad():
        error = trainer.process.mean_source(trainer.network, x, t) - mean_source(x, t, y)
    assert len(t) > 500
    assert float(error.square().mean().sqrt()) < 0.25 * data.info.sd, error.square().mean().sqrt() / data.info.sd


def test_head_obeys_the_quadratic():
    """The root of the head's own v is ‖(x − D, t)‖, to 1e-9, from t = 1e-3 to 50."""
    g = torch.Generator().manual_seed(0)
    x, d = torch.randn(200, 64, generator=g, dtype=torch.float64) * 3, torch.randn(200, 64, generator=g, dtype=torch.float64)
    t = torch.logspace(-3, 1.7, 200, dtype=torch.float64)
    v = field_head(d, x, t, 5.0)
    magnitude = root_magnitude(v[:, :-1], t, 5.0)
    torch.testing.assert_close(magnitude, torch.cat([x - d, t[:, None]], 1).norm(dim=1), rtol=1e-9, atol=0)
    back = x + (magnitude + 5.0)[:, None] * v[:, :-1] / 8
    torch.testing.assert_close(back, d, rtol=1e-8, atol=1e-8)


def test_a_plain_head_is_read_exactly():
    data = data_of("digits")
    process = make_process(resolve_train(TrainConfig(), data.info), data.info)

    class Exact(torch.nn.Module):
        skip, dtype, root_below = False, torch.float64, None

        def forward(self, x, t):
            return normalized_target(x, t, data.points[:].double(), 5.0)

    x, t = process.training_points(data.points[:100].double(), torch.Generator().manual_seed(1))
    exact = mean_source(x, t, data.points[:].double())
    torch.testing.assert_close(process.mean_source(Exact(), x, t), exact, rtol=1e-5, atol=1e-5)


def errors_of_readings(t_now: float, gamma: float) -> dict[str, float]:
    """Median relative error of ‖Ê‖ + γ by reading, on digits, of an exact v with an error of 0.003 √d in every direction."""
    y = data_of("digits").points[:].double()
    g = torch.Generator().manual_seed(3)
    t = torch.full((400,), t_now, dtype=torch.float64)
    x = y[:400] + t_now * torch.randn(400, 64, generator=g, dtype=torch.float64) * 1.5
    exact = normalized_target(x, t, y, gamma)
    length = -8 * t / exact[:, -1]
    # an error along v_x and one of v_t, of equal size
    error = 0.003 * 8 * torch.randn(400, 2, generator=g, dtype=torch.float64)
    along = exact[:, :-1] / exact[:, :-1].norm(dim=1, keepdim=True)
    v = exact + torch.cat([error[:, :1] * along, error[:, 1:]], 1)
    read = {
        "root": root_magnitude(v[:, :-1], t, gamma) + gamma,
        "own": -8 * t / v[:, -1],
        "both": plain_length(v, t, gamma, gamma),
        "exact": plain_length(exact, t, gamma, gamma),
    }
    return {name: float((value / length - 1).abs().median()) for name, value in read.items()}


@pytest.mark.parametrize("gamma", [0.3, 5.0])
@pytest.mark.parametrize("ratio", [0.05, 0.2, 1.0, 5.0, 20.0])
def test_both_readings_of_a_plain_head_are_as_good_as_the_better_one(ratio, gamma):
    """An exact v is read exactly. Of a v with errors, the mean is at most a tenth worse than the better reading: the root five
    times below γ, the network's own v_t five times above. There the other one is more than twice as bad."""
    error = errors_of_readings(ratio * gamma, gamma)
    assert error["exact"] < 1e-8
    assert error["both"] < 1.1 * min(error["root"], error["own"]), error
    if ratio <= 0.2:
        assert error["own"] > 2 * error["both"], error
    if ratio >= 5:
        assert error["root"] > 2 * error["both"], error


def test_far_above_gamma_the_root_alone_loses_samples():
    """An exact field with a relative error of 0.003, d = 3072, T = 40, γ = 5, Euler with 20 steps: the root alone sends samples
    more than twenty data units away. A v_t of the wrong sign is not read."""
    d, gamma = 3072, 5.0
    g = torch.Generator().manual_seed(0)
    y = torch.randn(8, d, generator=g, dtype=torch.float64).clamp(-1, 1)
    radius = 40 * torch.linspace(20, 75, 24, dtype=torch.float64)
    start = torch.nn.functional.normalize(torch.randn(24, d, generator=g, dtype=torch.float64), dim=1) * radius[:, None]

    def ends(read):
        x, noise = start, torch.Generator().manual_seed(1)
        times = torch.logspace(math.log10(40), -3, 21, dtype=torch.float64)
        for now, then in itertools.pairwise(times):
            t = now.expand(len(x))
            v = normalized_target(x, t, y, gamma)
            v = v * (1 + 0.003 * torch.randn(len(x), 1, generator=noise, dtype=torch.float64))
            drift = -read(v, t)[:, None] * v[:, :-1] / math.sqrt(d) / now
            x = x + (then - now) * drift
        return float(x.abs().max())

    assert ends(lambda v, t: plain_length(v, t, gamma, gamma)) < 2
    assert ends(lambda v, t: root_magnitude(v[:, :-1], t, gamma) + gamma) > 20
    v, t = torch.tensor([[0.5, 0.5, 0.1]], dtype=torch.float64), torch.tensor([30.0], dtype=torch.float64)
    torch.testing.assert_close(plain_length(v, t, gamma, gamma), root_magnitude(v[:, :-1], t, gamma) + gamma)


@pytest.mark.parametrize("n_aug", [0.5, 1.0, 2.0, 128.0, 3e6, math.inf])
def test_kernel_noise_has_the_beta_law(n_aug):
    """KS of R²/(R² + n_aug t²) against Beta(d/2, n_aug/2), 4,000 draws: detects a radius off by about 3 %."""
    from scipy import stats

    dim, t = 8, torch.full((4000,), 0.7, dtype=torch.float64)
    r2 = kernel_noise(dim, t, n_aug, torch.Generator().manual_seed(2)).square().sum(1).numpy()
    if math.isinf(n_aug):
        p = stats.kstest(r2 / 0.49, stats.chi2(dim).cdf).pvalue
        wrong = stats.kstest(r2 / 0.49 * 1.1, stats.chi2(dim).cdf).pvalue
    else:
        law = stats.betaprime(dim / 2, n_aug / 2)
        p = stats.kstest(r2 / (n_aug * 0.49), law.cdf).pvalue
        wrong = stats.kstest(r2 / (n_aug * 0.49) * 1.25, law.cdf).pvalue
    assert p > 1e-3
    assert wrong < 1e-3


@pytest.mark.parametrize("t_now", [1e-3, 0.1, 3.0])
def test_plain_raw_head_is_read_by_its_ratio(t_now):
    """An exact raw field as the network: D to 1e-9, close to the data and thirty heights away."""
    data = data_of("rings")
    process = make_process(resolve_train(TrainConfig(sigma=0.05, objective="raw"), data.info), data.info)
    sources = data.points[:].double()

    class Exact(torch.nn.Module):
        skip, dtype = False, torch.float64

        def forward(self, x, t):
            difference = torch.cat([x[:, None] - sources, t[:, None, None].expand(-1, len(sources), 1)], 2)
            rho = difference.norm(dim=2, keepdim=True)
            return -((difference / rho) * (t[:, None, None] / rho) ** 2).mean(1)

    far = torch.tensor([[30.0, 0.0], [0.0, -30.0]], dtype=torch.float64) * t_now
    x, t = torch.cat([far, sources[:20] + 0.01]), torch.full((22,), t_now, dtype=torch.float64)
    torch.testing.assert_close(process.mean_source(Exact(), x, t), mean_source(x, t, sources), rtol=1e-9, atol=1e-9)


def test_median_noise_ratio():
    assert median_noise_ratio(1.0) == pytest.approx(1.4826, abs=1e-3)
    assert median_noise_ratio(math.inf) == 1.0
    assert median_noise_ratio(1e6) == pytest.approx(1.0, abs=1e-5)


def test_rule_numbers_of_digits():
    data = data_of("digits")
    train = resolve_train(TrainConfig(), data.info)
    process = make_process(train, data.info)
    assert train.M == 121
    assert process.rule_T == pytest.approx(2.85, abs=0.01)
    from pfgm.config import SamplerConfig

    assert resolve_sampler(SamplerConfig(T_ratio=2.0), process).T == pytest.approx(2 * process.rule_T)
    same_height = [
        make_process(resolve_train(TrainConfig(tau=t, height_ratio=1.0), data.info), data.info).height_max for t in (0.02, 0.06)
    ]
    assert same_height[0] == pytest.approx(same_height[1], rel=1e-12)


def test_field_round_trip(tmp_path):
    trainer = Trainer(data_of("digits"), SMALL, TrainConfig(steps=5, batch_size=16), seed=0)
    list(trainer.run(report_every=2))
    field = Field.from_trainer(trainer)
    save_field(field, tmp_path / "f")
    save_field(field, tmp_path / "f")  # a second publisher changes nothing
    again = load_field(tmp_path / "f")
    assert not list(tmp_path.glob("*.tmp"))
    assert [p.step for p in again.history] == [2, 4, 5]
    images = again.sample(6, solver="heun2", steps=4)
    assert images.shape == (6, 1, 8, 8)
    assert images.abs().max() <= 1
    assert torch.equal(images, field.sample(6, solver="heun2", steps=4))
    with pytest.raises(ValueError, match="steps: not read by solver dopri5"):
        field.sample(6, solver="dopri5", steps=4)
    with pytest.raises(FileNotFoundError, match="no field at"):
        load_field(tmp_path / "nothing")


def flip(content: bytes, at: float) -> bytes:
    """One bit of a file changed, at a share of its length."""
    k = int(at * (len(content) - 1))
    return content[:k] + bytes([content[k] ^ 4]) + content[k + 1 :]


@pytest.mark.parametrize("at", [0.0, 0.01, 0.3, 0.5, 0.99, 1.0])
def test_damaged_files_are_noticed(at, tmp_path):
    """A bit flipped anywhere, or a truncated end, of the weights, the description or a training state."""
    trainer = Trainer(data_of("digits"), SMALL, TrainConfig(steps=5, batch_size=16), seed=0)
    list(trainer.run(report_every=2))
    save_field(Field.from_trainer(trainer), tmp_path / "f")
    assert load_field(tmp_path / "f").seed == 0
    files = sorted((tmp_path / "f").iterdir())
    assert [f.suffix for f in files] == [".safetensors", ".json"]
    for file in files:
        content = file.read_bytes()
        for spoilt in (flip(content, at), content[: int(at * (len(content) - 1))]):
            file.write_bytes(spoilt)
            with pytest.raises(ValueError, match=r"damaged|does not match|do not match|newer"):
                load_field(tmp_path / "f")
        file.write_bytes(content)
    files[0].unlink()
    with pytest.raises(Damaged, match="is missing"):
        load_field(tmp_path / "f")
    state = pack_tensors(trainer.state())
    assert unpack_tensors(state)["step"] == 5
    for spoilt in (flip(state, at), state[: int(at * (len(state) - 1))]):
        with pytest.raises(Damaged, match="does not match"):
            unpack_tensors(spoilt)


def test_a_field_of_the_first_format_is_read(tmp_path):
    """Its weights are called field.safetensors, and its description has no checksum."""
    trainer = Trainer(data_of("digits"), SMALL, TrainConfig(steps=2, batch_size=16), seed=0)
    list(trainer.run())
    save_field(Field.from_trainer(trainer), tmp_path / "f")
    description = json.loads((tmp_path / "f/field.json").read_text())
    (tmp_path / "f" / description.pop("weights")).rename(tmp_path / "f/field.safetensors")
    del description["checksum"], description["size"]
    (tmp_path / "f/field.json").write_text(json.dumps(description | {"format": 1}))
    assert load_field(tmp_path / "f").sample(2, solver="heun2", steps=2).shape == (2, 1, 8, 8)
    (tmp_path / "f/field.json").write_text(json.dumps(description | {"format": 99}))
    with pytest.raises(ValueError, match="newer than this library"):
        load_field(tmp_path / "f")


def test_a_field_with_a_height_ratio_loads_and_keeps_its_height(tmp_path):
    trainer = Trainer(data_of("digits"), SMALL, TrainConfig(steps=2, batch_size=16, height_ratio=1.5), seed=0)
    list(trainer.run())
    save_field(Field.from_trainer(trainer), tmp_path / "f")
    assert load_field(tmp_path / "f").process.height_max == pytest.approx(trainer.process.height_max, rel=1e-12)


def test_a_state_of_another_device_is_refused():
    trainer = Trainer(data_of("rings"), SMALL, TrainConfig(steps=2, sigma=0.03), seed=0)
    state = trainer.state()
    state["generator.order"] = state["generator.order"][:16]
    with pytest.raises(ValueError, match="another kind of device"):
        trainer.load_state(state)


@pytest.mark.parametrize("network", [NetworkConfig(width=16, depth=2), NetworkConfig(name="unet", width=8, depth=3)])
def test_networks_have_the_declared_shapes_and_no_dead_weights(network):
    data = data_of("digits")
    process = make_process(resolve_train(TrainConfig(), data.info), data.info)
    net = build_network(network, data.info.shape, data.info.sd, 1.48)
    g = torch.Generator().manual_seed(0)
    y = data.points[:32]
    for _ in range(3):  # the last layer starts at zero: it must move before the others see a gradient
        loss = OBJECTIVES["normalized"](net, process, y, data.points, g)
        loss.backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
    assert net(y, torch.ones(32)).shape == (32, 65)
    unmoved = [name for name, p in net.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0]
    assert unmoved == []


def test_unet_refuses_what_it_cannot_take():
    with pytest.raises(ValueError, match="use name: mlp"):
        build_network(NetworkConfig(name="unet"), (2,), 1.0, 1.0)
    with pytest.raises(ValueError, match="cannot be halved 3 times"):
        build_network(NetworkConfig(name="unet", width=8, depth=4), (1, 12, 12), 1.0, 1.0)


if __name__ == "__main__":
    version, *known = GOLDEN.read_text().split()
    losses = one_thread(golden_losses)
    same = np.allclose(losses[: len(known)], [float(v) for v in known], rtol=1e-4)
    if int(version) == pfgm.training.history.FIELD_VERSION and not same:
        raise SystemExit("the losses moved: trained fields no longer mean the same; raise FIELD_VERSION first")
    GOLDEN.write_text("\n".join([str(pfgm.training.history.FIELD_VERSION), *(f"{v:.9g}" for v in losses)]) + "\n")
