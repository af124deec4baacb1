"""Published claims and ours for a paper: a row for each claim."""

from ufm.report.reproduce.table import claims_table as claims_table
