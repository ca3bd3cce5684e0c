"""Train the frozen Fashion-MNIST feature network that the package ships, and write it with its hash and test accuracy.

    python experiments/features/train_fashion_mnist_features.py [--data FOLDER] [--out pfgm/metrics]

The 60,000 training images, mirrored and shifted by a pixel at random; accuracy on the 10,000 test images. Takes about
six minutes on one core.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from pfgm.metrics.features.classifiers import FashionFeatures

EPOCHS, BATCH = 6, 128


def read(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28) in [−1, 1] and labels (n,) of ``train`` or ``t10k``."""
    images = gzip.decompress((folder / f"{split}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / f"{split}-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = np.frombuffer(images, np.uint8).reshape(-1, 1, 28, 28).astype(np.float32) / 127.5 - 1
    return torch.from_numpy(pixels), torch.from_numpy(np.frombuffer(labels, np.uint8).astype(np.int64))


def augmented(images: Tensor) -> Tensor:
    """One batch, half of it mirrored, all of it shifted by at most a pixel."""
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    moved = F.pad(images, (1, 1, 1, 1), value=-1.0)[:, :, 1 + dy : 29 + dy, 1 + dx : 29 + dx]
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, moved, moved.flip(3))


def train(images: Tensor, labels: Tensor, seed: int = 0) -> FashionFeatures:
    """The trained network."""
    torch.manual_seed(seed)
    network = FashionFeatures().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=5e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    started = time.perf_counter()
    for epoch in range(EPOCHS):
        for index in torch.randperm(len(images))[: len(images) // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(network.logits(augmented(images[index])), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(
            f"epoch {epoch + 1} of {EPOCHS}: loss {float(loss.detach()):.3f}, {time.perf_counter() - started:.0f} s", flush=True
        )
    return network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def main() -> None:
    """Command line: train, then write ``fashion_mnist_features.safetensors`` and its facts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("pfgm/metrics"), help="folder to write to (default: %(default)s)")
    options = parser.parse_args()
    network = train(*read(options.data, "train"))
    test_images, test_labels = read(options.data, "t10k")
    with torch.no_grad():
        guesses = torch.cat([network.logits(part).argmax(1) for part in test_images.split(1000)])
    accuracy = float((guesses == test_labels).double().mean())
    content = save({name: value.contiguous() for name, value in network.state_dict().items()})
    (options.out / "fashion_mnist_features.safetensors").write_bytes(content)
    parameters = sum(p.numel() for p in network.parameters())
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "test_accuracy": accuracy, "parameters": parameters}
    (options.out / "fashion_mnist_features.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    print(f"fashion_mnist features: {parameters:,} parameters, test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
