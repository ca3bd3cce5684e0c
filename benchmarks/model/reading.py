"""Seconds and memory of reading a data set: Fashion-MNIST, and 50,000 RGB images of 32 × 32 in four layouts.

    python -m benchmarks.model.reading

Each is read in a process of its own, which imports everything first and then reports how long `load_data` took and how far its
resident memory grew: at its highest, and once the data are read. Mapped files count as resident, though processes share them.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.ratios import tell

N, BATCH = 50_000, 10_000


def resident_mb(field: str) -> float:
    """A line of this process's status: VmRSS, or its maximum, VmHWM."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def measure(name: str, path: str | None) -> dict[str, float]:
    """Read in this process; what it took."""
    import torch

    from pfgm.config import DataConfig
    from pfgm.data.dataset import load_data

    torch.set_num_threads(1)
    load_data(DataConfig())  # imports, allocators
    Path("/proc/self/clear_refs").write_text("5")  # the maximum starts anew
    before, started = resident_mb("VmRSS"), time.perf_counter()
    data = load_data(DataConfig(name=name, path=path))
    seconds = time.perf_counter() - started
    assert data.raw.stored.dtype == torch.uint8
    return {
        "seconds": seconds, "peak_mb": resident_mb("VmHWM") - before, "mb": resident_mb("VmRSS") - before, "n": data.info.n,
    }  # fmt: skip


def fresh(label: str, name: str, path: Path | None) -> None:
    """Measure in a new process, and print."""
    command = [sys.executable, "-m", "benchmarks.model.reading", name, *([str(path)] if path else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{label:44} {done.stderr.strip().splitlines()[-1]}")
        return
    m = json.loads(done.stdout)
    memory = f"+{m['peak_mb']:4.0f} MB at its highest, +{m['mb']:4.0f} MB kept"
    SECONDS[label] = m["seconds"]
    print(f"{label:44} {m['n']:7,.0f} points  {m['seconds']:6.2f} s  {memory}", flush=True)


SECONDS: dict[str, float] = {}
"""How long each took."""


def natural(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 32, 32, 3) bytes that are smooth enough to be compressed like photographs."""
    coarse = rng.integers(0, 256, (n, 8, 8, 3)).repeat(4, 1).repeat(4, 2)
    return np.clip(coarse + rng.integers(-8, 9, (n, 32, 32, 3)), 0, 255).astype(np.uint8)


def cifar_archive(path: Path, rng: np.random.Generator) -> None:
    """The layout of cifar-10-python.tar.gz."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name in (*(f"data_batch_{k}" for k in range(1, N // BATCH + 1)), "test_batch"):
            rows = natural(rng, BATCH).transpose(0, 3, 1, 2).reshape(BATCH, -1)
            content = pickle.dumps({"data": rows, "labels": [0] * BATCH}, protocol=3)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def main() -> None:
    """Make the files, and read each."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["PFGM_CACHE"] = str(folder / "cache")
        fresh("fashion_mnist", "fashion_mnist", None)
        cifar_archive(folder / "cifar.tar.gz", rng)
        fresh("cifar10 archive, first time", "cifar10", folder / "cifar.tar.gz")
        fresh("cifar10 archive, from the cache", "cifar10", folder / "cifar.tar.gz")
        images = natural(rng, N)
        np.save(folder / "images.npy", images)
        fresh("npy file (N, 32, 32, 3)", "npz", folder / "images.npy")
        np.save(folder / "vectors.npy", images.reshape(N, -1))
        fresh("npy file of vectors (N, 3072)", "vectors", folder / "vectors.npy")
        (folder / "pngs").mkdir()
        for k, image in enumerate(images):
            Image.fromarray(image).save(folder / "pngs" / f"{k}.png", compress_level=1)
        fresh("folder of PNG files, first time", "images", folder / "pngs")
        fresh("folder of PNG files, from the cache", "images", folder / "pngs")
    for layout in ("cifar10 archive", "folder of PNG files"):
        tell(
            f"{layout}, from the cache",
            "the first time",
            [SECONDS[f"{layout}, first time"] / SECONDS[f"{layout}, from the cache"]],
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)))
    else:
        main()
