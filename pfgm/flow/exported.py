"""A field as plain torch: a folder with one Python file and its weights, which another project can use without this package.

``field.py`` holds D(x, t) as a torch module, its forward pass traced by torch.export and written as Python, and a sampler of a
few lines: Heun's method along levels that are worked out here. ``weights.safetensors`` holds numbers, and ``field.py`` reads
them with torch alone. Nothing is unpickled: whoever has read ``field.py`` knows all that will run.

The lines of every process obey one equation in its own clock (`pfgm.process.clock`), dz/du = (r z − D(z/s, t))/w with numbers
r, s, t, w of u alone, so a table of (u, t, s, r, w) is the whole of process, clock and grid.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pfgm.config import OWN_GRIDS, SamplerConfig
from pfgm.mistakes import Mistake
from pfgm.process.clock import Clock
from pfgm.process.resolve import resolve_sampler, sampler_point
from pfgm.sampling.solvers import heights

if TYPE_CHECKING:
    from pfgm.flow.trained import Field
    from pfgm.networks.base import FieldNetwork
    from pfgm.process.base import Process

KEYS = ("T", "T_ratio", "t_min", "steps", "grid")
"""Of ``sampler``, those that an exported sampler has."""
WHOLE = 2**63 - 1
"""The end of a slice that keeps everything, as torch writes it."""
TRACED = 3
"""Points that the forward pass is traced with; any number may be given afterwards."""

TEMPLATE = '''\
"""A field that makes {what}: the mean source D(x, t) as a torch module, and a sampler. Needs torch alone.

    from {folder}field import Field, sample
    images = sample(Field(), 16)  # (16, {items}) in the units of the data; Field().to("cuda") is a module like any other

The weights lie beside this file. The forward pass was traced by torch.export {torch}, and can be traced again.
"""

import json
from math import inf, nan, prod
from pathlib import Path

import torch

SHAPE, BOUNDS = {shape}, {bounds}
WIDTH, N_AUG = {width}, {n_aug}  # of the law at the top: Student-t of N_AUG degrees of freedom, normal for inf
LEVELS = (  # u, t, s, r, w of dz/du = (r z - D(z/s, t))/w: time, noise level, scale of the state z = s x
{levels}
)
DTYPES = {{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "I64": torch.int64}}


def start(n):
    """Return n points (n, d) of the law at the top, by torch's generator (torch.manual_seed)."""
    x = WIDTH * torch.randn(n, prod(SHAPE), dtype=torch.float64)
    if N_AUG == inf:
        return x
    return x * (N_AUG / torch.distributions.Chi2(torch.tensor(N_AUG, dtype=torch.float64)).sample((n, 1))).sqrt()


@torch.no_grad()
def sample(field, n=1, x=None):
    """Return n items, or those at the ends of the lines from x (n, d) at the top; Heun's method, {calls} calls of the field."""
    z = LEVELS[0][2] * (start(n) if x is None else x).to(next(field.parameters()))

    def source(z, t, s):
        return field(z / s, torch.full((len(z),), t).to(z))

    for (u, t, s, r, w), (v, t_next, s_next, r_next, w_next) in zip(LEVELS, LEVELS[1:]):
        slope = (r * z - source(z, t, s)) / w
        ahead = z + (v - u) * slope
        z = z + (v - u) / 2 * (slope + (r_next * ahead - source(ahead, t_next, s_next)) / w_next)
    x = source(z, *LEVELS[-1][1:3]) + field.data_mean
    x = x if BOUNDS is None else x.clamp(*BOUNDS)
    return (x * field.data_scale + field.data_offset).reshape(-1, *SHAPE)


class Field(torch.nn.Module):
    """D(x, t), shape (B, d), of points x (B, d) less the data's mean and noise levels t (B,) > 0."""

    def __init__(self, weights=Path(__file__).with_name("weights.safetensors")):
        super().__init__()
        content = bytearray(Path(weights).read_bytes())
        first = 8 + int.from_bytes(content[:8], "little")  # of the numbers, behind a length and a JSON of what they are
        for name, is_ in json.loads(content[8:first]).items():
            begin, end = is_["data_offsets"]
            values = torch.frombuffer(content[first + begin : first + end], dtype=DTYPES[is_["dtype"]]).reshape(is_["shape"])
            if name in {buffers}:
                self.register_buffer(name, values)
            else:
                self.register_parameter(name, torch.nn.Parameter(values))
        self.to(memory_format=torch.channels_last)  # convolutions prefer it

    def forward(self, x, t):
        device = x.device
{body}
'''


def export_field(field: Field, folder: str | Path, sampler: dict[str, object]) -> None:
    """Write ``field.py`` and ``weights.safetensors`` into a folder; see `pfgm.flow.trained.Field.export`."""
    folder = Path(folder)
    if (folder / "field.py").exists():
        raise FileExistsError(f"{folder} holds an exported field already; name another folder, or remove it")
    if field.process.classes and field.told is None:
        raise Mistake("label", "an exported field makes items of one class; write field.of_class(3).export(…)")
    config = _config(sampler)
    network = copy.deepcopy(field.network).cpu().eval()
    body, tensors, buffers = _traced(_Source(network, field.process, field.told), field.process.info.dim, field.dtype)
    text = _text(field, config, folder.resolve().name, body, (*buffers, *(facts := _facts(field))))
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in (tensors | facts).items()}
    (folder / "weights.safetensors").write_bytes(save(weights))
    (folder / "field.py").write_text(text, encoding="utf-8")


def _config(sampler: dict[str, object]) -> SamplerConfig:
    """Return the sampler point; refuse what an exported sampler has not."""
    for key in sampler:
        if key not in KEYS:
            raise Mistake(key, f"an exported sampler is heun2 with the keys {', '.join(KEYS)}; remove it")
    config = sampler_point({**sampler, "solver": "heun2"})
    assert config.grid not in OWN_GRIDS  # heun2 has none
    return config


class _Source(nn.Module):
    """D(x, t) as a module, with all that a process makes of the network's numbers."""

    def __init__(self, network: FieldNetwork, process: Process, told: tuple[int, float] | None) -> None:
        super().__init__()
        self.network, self.process, self.told = network, process, told

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.told is None:
            return self.process.mean_source(self.network, x, t)
        label, guidance = self.told
        told = self.network.told(torch.full_like(t, label, dtype=torch.int64))
        own = self.process.mean_source(told, x, t)
        if guidance == 1.0:
            return own
        every = self.process.mean_source(self.network, x, t)
        return every + guidance * (own - every)


def _traced(source: _Source, dim: int, dtype: torch.dtype) -> tuple[str, dict[str, Tensor], list[str]]:
    """Return the forward pass as lines of Python, the tensors that they name, and which of these are buffers."""
    batch = torch.export.Dim("batch")
    points = torch.ones(TRACED, dim, dtype=dtype), torch.ones(TRACED, dtype=dtype)
    try:
        program = torch.export.export(source, points, dynamic_shapes=({0: batch}, {0: batch}))
    except RuntimeError as error:  # torch's words for whatever cannot be traced
        raise Mistake(
            "network", f"torch.export cannot trace it (x.shape[0] it follows, len(x) not): {str(error).strip().splitlines()[0]}"
        ) from error
    graph, aten = program.graph_module.graph, torch.ops.aten
    for node in list(graph.nodes):
        if node.target is aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif node.target is aten.slice.Tensor and node.args[2:] == (0, WHOLE):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    names, tensors, buffers = {}, {}, []
    for spec in program.graph_signature.input_specs:
        if spec.target is not None:
            short = spec.target.removeprefix("network.").replace(".", "_")
            names[spec.arg.name] = f"self.{short}"
            tensors[short] = (
                program.state_dict[spec.target] if spec.target in program.state_dict else program.constants[spec.target]
            )
            if not isinstance(tensors[short], nn.Parameter):
                buffers.append(short)
    return _lines(graph.python_code("self").src, names), tensors, buffers


def _lines(code: str, names: dict[str, str]) -> str:
    """Return the body of a traced function, whose weights are named as the module's own."""
    body = code.partition("):\n")[2].strip().replace("device(type='cpu')", "device")
    lines = []
    for line in body.splitlines():
        what, _, freed = line.strip().partition(";  ")
        kept = [name for name in freed.split(" = ")[:-1] if name not in names]  # weights stay
        what = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), what)
        what = re.sub(r"^return \((\w+),\)$", r"return \1", what)
        lines.append(f"        {what}" + (f"; {' = '.join(kept)} = None" if kept else ""))
    return "\n".join(lines)


def _facts(field: Field) -> dict[str, Tensor]:
    """Return the units of the data: what samples are multiplied with, and what is added."""
    info = field.process.info
    none = torch.zeros((), dtype=field.dtype)
    scale, offset = (none + 1 if info.scale is None else info.scale), (none if info.offset is None else info.offset)
    return {"data_mean": info.mean.to(field.dtype), "data_scale": scale, "data_offset": offset}


def _text(field: Field, config: SamplerConfig, folder: str, body: str, buffers: tuple[str, ...]) -> str:
    process, info = field.process, field.process.info
    T = resolve_sampler(config, process).T
    grid = process.native_grid if config.grid == "native" else config.grid
    assert config.steps is not None and grid is not None
    rows = [_row(process.clock, t) for t in heights(T, config.t_min, config.steps, grid, process.clock).tolist()]
    prior = process.prior(T)
    parts = re.findall(r"[A-Za-z_]\w*", folder)  # names and numbers alone: what a field file says becomes code here
    shape, bounds = tuple(map(int, info.shape)), None if info.bounds is None else tuple(map(float, info.bounds))
    return TEMPLATE.format(
        what=f"items like those of {re.sub(r'[^ ,.0-9A-Za-z_-]', '', info.name)!r}", torch=torch.__version__,
        folder=f"{folder}." if parts == [folder] else "", items=", ".join(map(str, shape)), shape=shape, bounds=bounds,
        width=float(prior.T), n_aug=float(prior.n_aug), calls=2 * config.steps + 1, buffers=buffers,
        levels="\n".join(f"    {row}," for row in rows), body=body,
    )  # fmt: skip


def _row(clock: Clock, t: float) -> tuple[float, ...]:
    """Return (u, t, s, r, w) at a noise level."""
    u, one, zero = clock.time(t), torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    w = -1 / float(clock.slope(zero, one, u))
    return u, clock.level(u), clock.scale(u), float(clock.slope(one, zero, u)) * w, w
