"""Student's t, central and not, from scipy; infinite degrees of freedom are the normal."""

from math import isinf


def upper_tail(t: float, df: float) -> float:
    """P(T > t)."""
    from scipy import special

    return float(special.ndtr(-t) if isinf(df) else special.stdtr(df, -t))


def upper_quantile(alpha: float, df: float) -> float:
    """The t that is exceeded with probability ``alpha``."""
    from scipy import special

    return float(-special.ndtri(alpha) if isinf(df) else -special.stdtrit(df, alpha))


def welch_power(shift: float, alpha: float, repeats: int) -> float:
    """The chance that Welch's one-sided test of two samples of one spread rejects.

    Its degrees of freedom depend on how the two variances happen to differ, so the noncentral t of
    2 * (repeats - 1) is averaged over that: A's part of their sum has a symmetric beta distribution.

    Args:
        shift: Of the true mean, in standard errors.
        alpha: Level of the test.
        repeats: Of each sample.
    """
    from scipy import special

    df, nodes = repeats - 1, 100
    parts = (float(special.betaincinv(df / 2, df / 2, (i + 0.5) / nodes)) for i in range(nodes))
    critical = (upper_quantile(alpha, df / (part**2 + (1 - part) ** 2)) for part in parts)
    return sum(float(1 - special.nctdtr(2 * df, shift, t)) for t in critical) / nodes
