"""The authors' rules: M from the data and T, the starting height and the largest radius that follow from it.

Source: PFGM (arXiv 2209.11178), the rule for M, the starting height and the largest radius.
"""

import math


def height_max(sigma: float, tau: float, M: float) -> float:
    """Height scale of the most stretched points: t_hi = σ (1+τ)^M.

    Raises:
        ValueError: if σ, τ or M is not positive.
    Source: PFGM (arXiv 2209.11178), Algorithm 2.
    """
    require_positive(sigma=sigma, tau=tau, M=M)
    return sigma * math.exp(M * math.log1p(tau))


def rule_height(norm: float, d: int, sigma: float) -> float:
    """Height scale t_hi that the authors' rule aims at, before M is rounded: σ (‖y‖²/(2√d σ²))^{3/4}.

    Args:
        norm: mean norm ‖y‖ of the data as trained, in data units.
        d: dimension of the data.
        sigma: noise σ, in data units.
    Raises:
        ValueError: if an argument is not positive.
    Source: PFGM (arXiv 2209.11178), the rule for M.
    """
    return sigma * math.exp(0.75 * _log_ratio(norm, d, sigma))


def rule_M(norm: float, d: int, sigma: float, tau: float) -> float:
    """The authors' rule: M = ⌊0.75 ln(‖y‖²/(2√d σ²)) / ln(1+τ)⌋ + 1.

    Args:
        norm: mean norm ‖y‖ of the data as trained, in data units.
        d: dimension of the data.
        sigma: noise σ, in data units.
        tau: growth τ.
    Returns:
        M, a whole number as a float.
    Raises:
        ValueError: if an argument is not positive, or σ is so large that M would not be.
    Source: PFGM (arXiv 2209.11178), the rule for M.
    """
    require_positive(tau=tau)
    M = float(math.floor(0.75 * _log_ratio(norm, d, sigma) / math.log1p(tau)) + 1)
    if M <= 0:
        raise ValueError(f"the rule gives M = {M} for sigma = {sigma} and data of norm {norm}: lower sigma or give M")
    return M


def rule_T(t_hi: float) -> float:
    """Starting height of the authors' rule: T = E|N(0, t_hi²)| = √(2/π) t_hi.

    Raises:
        ValueError: if t_hi is not positive.
    Source: PFGM (arXiv 2209.11178), choice of the starting height.
    """
    require_positive(t_hi=t_hi)
    return math.sqrt(2.0 / math.pi) * t_hi


def rule_R_max(t_hi: float, d: int) -> float:
    """Largest trained radius of the authors' rule: R_max = √d t_hi.

    Raises:
        ValueError: if t_hi or d is not positive.
    Source: PFGM (arXiv 2209.11178), choice of the largest radius.
    """
    require_positive(t_hi=t_hi, d=d)
    return math.sqrt(d) * t_hi


def _log_ratio(norm: float, d: int, sigma: float) -> float:
    """ln(‖y‖²/(2√d σ²))."""
    require_positive(norm=norm, d=d, sigma=sigma)
    return 2.0 * (math.log(norm) - math.log(sigma)) - math.log(2.0) - 0.5 * math.log(d)


def require_positive(**values: float) -> None:
    """Refuse a value that is not a positive finite number."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive finite number, got {value}: give {name} > 0")
