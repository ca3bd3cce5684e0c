"""Heads: how the d + 1 raw numbers of a backbone become a denoiser's or a field's output.

At the noise level n̂ of (x, t) the best linear guess of the mean source is c_skip x, c_skip = sd²/(sd² + n̂²), and what is left
to learn has size c_out = sd n̂/√(sd² + n̂²) (EDM's weights, at n̂ in place of σ). The field head is the normalised field of
one charge at that denoiser's D: its v obeys the quadratic that recovers ‖Ê‖ exactly, with D as the answer, so D is read
directly. The raw field's head points to D as well, with a size of its own to learn. A plain head, the papers', takes the raw
numbers as the field; it must learn v ∝ x itself, and its length ‖Ê‖ + γ is read in two ways (`plain_length`). The heads as
published, which are told t itself, stand in `pfgm.networks.published`.
"""

from __future__ import annotations

import math

import torch
from scipy import special
from torch import Tensor

N_MAX = 1 - 1e-4
"""Largest n = ‖v_x‖/√d the quadratic root is read at: the target has n < 1, a network may not."""
SOFTPLUS_ONE = math.log(math.e - 1)
"""softplus(SOFTPLUS_ONE) = 1."""


def noise_level(x: Tensor, t: Tensor, sd: float, noise_ratio: float) -> Tensor:
    """n̂ (B,): the noise per coordinate that (x, t) shows, in data units; a smooth maximum of two estimates.

    n̂² = b + [a + √(a² + 4 b sd²)]/2, b = (noise_ratio · t)² the kernel's at t in the median, a = ‖x‖²/d − sd² − b what x shows
    beyond it. Close to the data, where ‖x‖ says nothing of the noise, n̂ follows t. The kink of a plain maximum would cost an
    adaptive solver four times the calls at tight tolerances.
    """
    b = (noise_ratio * t).square()
    a = x.square().mean(1) - sd**2 - b
    root = (a.square() + 4 * b * sd**2).sqrt()
    # a < 0 near the data: a + root would cancel in float32, and 2 b sd²/(root − a) is the same number
    shown = torch.where(a > 0, (a + root) / 2, 2 * b * sd**2 / (root - a.clamp(max=0)))
    return (b + shown).sqrt()


def median_noise_ratio(n_aug: float) -> float:
    """Median of ‖x − y‖/(√d t) for large d, √(n_aug / median χ²(n_aug)): 1.48 for n_aug = 1, 1 for ∞."""
    return 1.0 if math.isinf(n_aug) else math.sqrt(n_aug / (2 * float(special.gammaincinv(n_aug / 2, 0.5))))


def denoiser_head(raw: Tensor, x: Tensor, level: Tensor, sd: float) -> Tensor:
    """D = c_skip x + c_out o_x, shape (B, d), from raw (B, d + 1) and the noise level n̂ (B,)."""
    n2 = level.square()[:, None]
    return (sd**2 * x + sd * (n2 * (sd**2 + n2)).sqrt() * raw[:, :-1].to(x)) / (sd**2 + n2)


def field_head(denoised: Tensor, x: Tensor, t: Tensor, gamma: float | Tensor) -> Tensor:
    """v = −√d (x − D, t) / (‖(x − D, t)‖ + γ), shape (B, d + 1), of a head's D (B, d); γ is a number or (B, 1)."""
    e_hat = torch.cat([x - denoised, t[:, None]], 1)
    v: Tensor = -math.sqrt(x.shape[1]) * e_hat / (e_hat.norm(dim=1, keepdim=True) + gamma)
    return v


def raw_field_head(raw: Tensor, denoised: Tensor, x: Tensor, t: Tensor, level: Tensor) -> Tensor:
    """o = −g (x − D, t), shape (B, d + 1): a field that points to a head's D, g > 0 from the last of the raw numbers.

    g is in units of 1/(√d n̂), n̂ (B,) the noise level: o of a fresh network has length about one. Its target is shorter close
    to the data, but a g that starts there gives D hardly a gradient (on rings: ten times the Fréchet distance).
    """
    strength = torch.nn.functional.softplus(raw[:, -1:] + SOFTPLUS_ONE) / (math.sqrt(x.shape[1]) * level[:, None])
    return -strength * torch.cat([x - denoised, t[:, None]], 1)


def root_magnitude(v_x: Tensor, t: Tensor, gamma: float) -> Tensor:
    r"""‖Ê‖ from v_x alone: the positive root of ‖Ê‖² = n²(‖Ê‖ + γ)² + t², n = ‖v_x‖/√d, shape (B,), float64.

    ‖Ê‖ = [n²γ + √(n²γ² + (1 − n²) t²)]/(1 − n²). An error of n moves ‖Ê‖ + γ by about (‖Ê‖ + γ)/γ times as much, relatively.
    """
    v_x, t = v_x.double(), t.double()
    n2 = (v_x.norm(dim=1) / math.sqrt(v_x.shape[1])).clamp(max=N_MAX).square()
    magnitude: Tensor = (n2 * gamma + (n2 * gamma**2 + (1 - n2) * t.square()).sqrt()) / (1 - n2)
    return magnitude


def plain_length(v: Tensor, t: Tensor, gamma: float, root_below: float) -> Tensor:
    r"""‖Ê‖ + γ of a plain head's v = −√d Ê/(‖Ê‖ + γ), so that x − D = −(‖Ê‖ + γ) v_x/√d. Shape (B,), float64.

    Two readings of the same number:

    - the root, from v_x and the known t (`root_magnitude`): an error is multiplied by about (‖Ê‖ + γ)/γ;
    - the network's own v_t, ‖Ê‖ + γ = −√d t/v_t: an error is multiplied by (‖Ê‖ + γ)/t.

    So the root is the better one below t = γ, v_t above it. What is returned is the mean of both,
    1/(‖Ê‖ + γ) = (h⁴ · 1/root + t⁴ · 1/own)/(h⁴ + t⁴), h = ``root_below``: the root far below h, v_t far above it, and smooth
    between them. A sudden switch at h, as in the authors' code, is a step of the drift: it costs adaptive solvers two to five
    times the calls. Where v_t has the wrong sign the root is taken alone.

    Args:
        v: raw numbers of the network, shape (B, d + 1).
        t: heights in data units, shape (B,), positive.
        gamma: γ of the training, in data units.
        root_below: h, in data units; γ unless declared otherwise.
    Source: PFGM (arXiv 2209.11178) for v. The powers are chosen on four trained fields (digits, Fashion-MNIST): squares, the
    inverse variances for equal errors, save more calls of an adaptive solver, at a slightly larger Fréchet distance.
    """
    t = t.double()
    root = root_magnitude(v[:, :-1], t, gamma) + gamma
    inverse_own = -v[:, -1].double() / (math.sqrt(v.shape[1] - 1) * t)
    share = 1 / (1 + (root_below / t) ** 4)  # of the own reading
    inverse = torch.where(inverse_own > 0, (1 - share) / root + share * inverse_own, 1 / root)
    return 1 / inverse
