"""Three panels of a loss: the profile and its envelope, its convexity along p, phases over decays.

loss_figure(ufm.check_loss("gce:0.7")).savefig("gce.png")
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ufm.loss_check.experiment import Prediction, predict
from ufm.loss_check.profile import envelope
from ufm.loss_check.report import LossReport
from ufm.report._figure import Page, page_files
from ufm.report._style import COLUMN

#: Decays of the phase line, in units of the threshold.
_LINE = np.linspace(0.05, 1.25, 49)
_FEW_WITH_BIAS = 13


def loss_files(report: LossReport) -> list[tuple[str, bytes]]:
    """Make the image in every format, its data and its caption."""
    parts = [
        r"Left: the loss at equal margins, $\varphi(s)$, and its convex envelope where it differs. "
        r"Middle: its second derivative over the label's probability at equal rivals; the profile "
        r"is concave where shaded.",
    ]
    if np.isfinite(report.threshold) and report.predictions:
        best, live = "at neural collapse", ""
        if report.levels is not None:
            best = "at the best symmetric point"
        elif report.lam_b is not None:
            live = ", of the best point with dead classes (their number)"
        parts.append(
            rf"Right: $f$ over $K\sqrt n\,\mu$, $\mu=\sqrt{{\lambda_W\lambda_H}}$: "
            rf"{best}{live}, at the origin, and where runs ended. Vertical: the threshold."
        )
    return page_files("loss", _page, report, " ".join(parts))


def _page(report: LossReport) -> Page:
    profile = report.profile
    data = {"s": profile.s, "value": profile.value, "curvature": profile.curvature}
    return loss_figure(report), [data | {"p": profile.probability(profile.s)}]


def loss_figure(report: LossReport) -> Figure:
    """Draw profile and envelope, convexity along p_k, and f over the decay with solved points."""
    figure, axes = plt.subplots(1, 3, figsize=(2.4 * COLUMN, 0.8 * COLUMN), layout="constrained")
    _draw_profile(report, axes[0])
    _draw_convexity(report, axes[1])
    _draw_phases(report, axes[2])
    return figure


def _draw_profile(report: LossReport, axes: Axes) -> None:
    profile = report.profile
    shown = profile.s <= _far(report)
    s, value = profile.s[shown], profile.value[shown]
    axes.plot(s, value, label=r"$\varphi(s)$")
    corners = envelope(s, value)
    below = np.interp(s, s[corners], value[corners])
    if np.max(value - below) > 1e-9 * np.max(np.abs(value)):
        axes.plot(s, below, "--", label="convex envelope")
        axes.legend()
    axes.set_xlabel("margin $s$")
    axes.set_ylabel("loss at equal margins")


def _far(report: LossReport) -> float:
    """The margin at which the profile has completed 98 % of its fall."""
    profile = report.profile
    finite = profile.s <= 60.0
    fall = profile.value[0] - profile.value[finite]
    done = np.flatnonzero(fall >= 0.98 * np.max(fall))
    return float(max(profile.s[done[0]], 1.0)) if len(done) and np.max(fall) > 0 else 10.0


def _draw_convexity(report: LossReport, axes: Axes) -> None:
    """Draw φ'' over the label's probability; the profile is concave where it is negative."""
    profile = report.profile
    chosen = profile.s < 30.0
    p, curvature = profile.probability(profile.s[chosen]), profile.curvature[chosen]
    axes.axhline(0.0, color="0.6", linewidth=0.6)
    axes.plot(p, curvature)
    axes.fill_between(p, curvature, 0.0, where=list(curvature < 0), color="C1", alpha=0.3)
    axes.set_xlabel("$p_k$ at equal rivals")
    axes.set_ylabel(r"$\varphi''$")
    axes.set_xlim(float(p[0]), 1.0)


def _draw_phases(report: LossReport, axes: Axes) -> None:
    """Draw f of collapse, of live classes and of the origin over the decay, with solved points."""
    if not np.isfinite(report.threshold) or not report.predictions:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no threshold", ha="center", va="center", transform=axes.transAxes)
        return
    # As far as the runs, and beyond the decay from which on the origin is the minimum.
    last = max(report.origin_threshold, *(p.decay for p in report.predictions)) / report.threshold
    count = len(_LINE) if report.lam_b is None else _FEW_WITH_BIAS
    line = np.linspace(_LINE[0], max(_LINE[-1], 1.05 * last), count)
    found = [_at(report, float(x)) for x in line]
    decays = [p.decay for p in found]
    symmetric = report.levels is not None
    axes.plot(decays, [p.nc_value for p in found], label="symmetric" if symmetric else "NC")
    if report.lam_b is not None and not symmetric:
        axes.plot(decays, [p.live_value for p in found], "--", label="live classes")
        for p in found:
            if p.kind.endswith("live classes"):
                axes.annotate(str(p.num_live), (p.decay, p.live_value), fontsize=6, ha="center")
    axes.axhline(found[0].origin_value, color="0.5", linestyle=":", label="origin")
    axes.axvline(report.threshold, color="0.8", linewidth=0.8, label="threshold")
    runs = list(zip(report.predictions, report.outcomes, strict=False))
    ends = [(p.decay, value) for p, o in runs for value in o.values]
    if ends:
        axes.plot(*zip(*ends, strict=True), "o", color="C3", ms=2.5, zorder=3, label="runs")
    axes.set_xlabel(r"$K\sqrt{n}\,\mu$")
    axes.set_ylabel("$f$")
    axes.legend()


def _at(report: LossReport, share: float) -> Prediction:
    decay = share * report.threshold
    return predict(
        report.loss, report.profile, decay, share, report.lam_b, falls=False, levels=report.levels
    )
