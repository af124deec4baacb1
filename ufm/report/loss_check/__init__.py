"""The figure of `ufm.check_loss`: the profile, its convexity, and the phases over the decay."""

from ufm.report.loss_check.figure import save_loss_figure as save_loss_figure
