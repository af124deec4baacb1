"""`ufm.check_loss` for a paper: profile, convexity and phases of a loss, and its answers."""

from ufm.report.loss_check.figure import loss_figure as loss_figure
from ufm.report.loss_check.figure import loss_files as loss_files
from ufm.report.loss_check.table import loss_table as loss_table
