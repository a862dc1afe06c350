"""Student's t, central and not, from scipy; infinite degrees of freedom are the normal."""

from math import isinf


def upper_tail(t: float, df: float) -> float:
    """P(T > t)."""
    from scipy import special  # type: ignore[import-untyped]

    return float(special.ndtr(-t) if isinf(df) else special.stdtr(df, -t))


def upper_quantile(alpha: float, df: float) -> float:
    """The t that is exceeded with probability ``alpha``."""
    from scipy import special

    return float(-special.ndtri(alpha) if isinf(df) else -special.stdtrit(df, alpha))


def power(shift: float, alpha: float, df: float) -> float:
    """P of exceeding the quantile of ``alpha`` where the mean is ``shift`` standard errors up."""
    from scipy import special

    return float(1 - special.nctdtr(df, shift, upper_quantile(alpha, df)))
