"""The standard FID features: Inception-v3 of 2015-12-05, its last pooled activations (2,048), through torch-fidelity.

torch-fidelity is the optional extra ``fid``. Its network and its resizing are used as they are, so that distances compare with
those that torch-fidelity, or the original TensorFlow code, would print. Weights come from a file, or are downloaded once to
torch's hub cache. torch-fidelity would unpickle whatever the file holds; here it is first read as plain tensors.

Only the module of this one network is imported. The package as a whole also imports torchvision, which the network does not
use, and of which no build goes with the CPU build of torch from the registry.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import os
import pickle
import sys
import tempfile
import types
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pfgm.metrics.features.kind import FeatureKind, Shape, check_images
from pfgm.mistakes import Mistake

logger = logging.getLogger(__name__)

LIBRARY, MODULE = "torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"
STANDARD = "6726825d"
"""First digits of the standard weight file's SHA-256, as in its name; features of other weights are labelled by theirs."""


class InceptionFeatures(nn.Module):
    """(n, d) grey or RGB images in [−1, 1] → (n, 2048); pixels are rounded to 8 bits first, as in an image file."""

    def __init__(self, shape: tuple[int, ...], extractor: nn.Module) -> None:
        super().__init__()
        self.shape, self.extractor = shape, extractor

    def forward(self, x: Tensor) -> Tensor:
        pixels = ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).reshape(-1, *self.shape)
        features: Tensor = self.extractor(pixels.expand(-1, 3, -1, -1))[0]
        return features


def check_inception(shape: tuple[int, ...], weights: str | None) -> None:
    """Refuse now what would fail after a training: no torch-fidelity, or a weight file that cannot be used.

    Raises:
        ValueError: as `inception_network`; weights that are to be downloaded are not looked for.
    """
    if weights is not None:
        inception_network(shape, weights)
    else:
        _library()


@cache
def _library() -> Any:
    """torch-fidelity's module of the network; the package's own import, which would load torchvision, is left out."""
    if LIBRARY in sys.modules:
        return importlib.import_module(MODULE)
    spec = importlib.util.find_spec(LIBRARY)  # which imports nothing
    if spec is None or spec.submodule_search_locations is None:
        raise Mistake("features", "inception needs the package torch-fidelity; pip install torch-fidelity")
    package = types.ModuleType(LIBRARY)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[LIBRARY] = package  # where the module's own imports look
    try:
        return importlib.import_module(MODULE)
    except (ImportError, RuntimeError) as error:
        raise Mistake(
            "features",
            f"inception needs torch-fidelity, whose network does not import ({error}); pip install 'torch-fidelity>=0.3,<0.5'",
        ) from error
    finally:  # so that an import of the whole package elsewhere is a real one
        for name in [name for name in sys.modules if name.partition(".")[0] == LIBRARY]:
            del sys.modules[name]


def inception_network(shape: tuple[int, ...], weights: str | None = None) -> tuple[InceptionFeatures, str]:
    """(the network for images of ``shape``, its label): ``inception``, with the weights' hash if they are not the standard's.

    Raises:
        ValueError: torch-fidelity is not installed, or the weights cannot be downloaded or read.
    """
    fidelity = _library()
    path = Path(weights).expanduser() if weights is not None else _downloaded(fidelity.URL_INCEPTION_V3)
    try:
        content = path.read_bytes()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise Mistake("weights", f"cannot read {path} ({error.strerror}); give the path of the Inception weights") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError) as error:  # whatever it is
        raise Mistake("weights", f"{path} does not hold plain tensors; give pt_inception-2015-12-05-6726825d.pth") from error
    digest = hashlib.sha256(content).hexdigest()[: len(STANDARD)]
    network = InceptionFeatures(shape, _extractor(fidelity, state, path)).eval().requires_grad_(False)
    return network, "inception" if digest == STANDARD else f"inception-{digest}"


def _extractor(fidelity: Any, state: object, path: Path) -> nn.Module:
    """torch-fidelity's network with weights that are known to be plain tensors: it reads the copy that is written here."""
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "inception.pth")
        torch.save(state, copy)
        try:
            extractor: nn.Module = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], copy)
        except (RuntimeError, TypeError) as error:
            what = str(error).splitlines()[0]
            raise Mistake("weights", f"{path} are not Inception-v3's ({what}); give torch-fidelity's file") from error
    return extractor


def _downloaded(url: str) -> Path:
    """The standard weights in torch's hub cache, downloaded where they are not there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        logger.warning("downloading the Inception weights, 91 MB, to %s", path)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=STANDARD, progress=False)
        except (OSError, RuntimeError) as error:
            raise Mistake(
                "weights",
                f"the Inception weights could not be downloaded from {url} ({error});"
                " download them elsewhere and give evaluate.weights: <path>",
            ) from error
    return path


def _check(name: str, shape: Shape) -> None:
    check_images(name, shape)
    if shape[0] not in (1, 3):
        raise Mistake("features", f"{name} needs grey or RGB images, the data have {shape[0]} channels; use random")


INCEPTION = FeatureKind(lambda shape, weights: inception_network(shape, weights), _check, check_inception, weights=True)
