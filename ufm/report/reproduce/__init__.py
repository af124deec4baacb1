"""Published claims and ours, for a paper and as a page."""

from ufm.report.reproduce.page import claims_page as claims_page
from ufm.report.reproduce.table import claims_table as claims_table
