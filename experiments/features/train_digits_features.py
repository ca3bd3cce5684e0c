"""Train the frozen digits feature network that the package ships, and write it with its hash and test accuracy.

    python experiments/features/train_digits_features.py [--out pfgm/metrics]

Every fifth digit is held out; the others are shifted by up to one pixel while training. Takes about a minute on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from sklearn.datasets import load_digits

from pfgm.metrics.features.classifiers import DigitsFeatures


def train(epochs: int = 60, seed: int = 0) -> tuple[DigitsFeatures, float]:
    """The trained network and its accuracy on the held-out fifth."""
    torch.manual_seed(seed)
    digits = load_digits()
    x = torch.tensor(digits.data / 8 - 1, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    held_out = torch.arange(len(x)) % 5 == 0
    x_train, y_train = x[~held_out], labels[~held_out]
    network = DigitsFeatures()
    steps = epochs * (len(x_train) // 64)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        index = torch.randint(len(x_train), (64,))
        images = x_train[index].reshape(-1, 8, 8)
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        shifted = F.pad(images, (1, 1, 1, 1), value=-1.0)[:, 1 + dy : 9 + dy, 1 + dx : 9 + dx]
        loss = F.cross_entropy(network.logits(shifted.reshape(-1, 64)), y_train[index], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        accuracy = (network.logits(x[held_out]).argmax(1) == labels[held_out]).double().mean()
    return network, float(accuracy)


def main() -> None:
    """Command line: train, then write ``digits_features.safetensors`` and its facts (hash, test accuracy, parameters)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("pfgm/metrics"), help="folder to write to (default: %(default)s)")
    out = parser.parse_args().out
    network, accuracy = train()
    content = save({name: value.contiguous() for name, value in network.state_dict().items()})
    (out / "digits_features.safetensors").write_bytes(content)
    parameters = sum(p.numel() for p in network.parameters())
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "test_accuracy": accuracy, "parameters": parameters}
    (out / "digits_features.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    print(f"digits features: {parameters:,} parameters, test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
