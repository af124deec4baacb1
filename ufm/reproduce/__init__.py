"""Published claims as checks, a file for each paper: what is claimed, what is found, the verdict.

>>> from ufm.reproduce import chosen, run
>>> [paper, claim] = chosen(["hong-ling-2023:minority-threshold"])[0]
>>> claim.recorded.value
'confirmed'
"""

from ufm.reproduce.claim import Claim as Claim
from ufm.reproduce.claim import Finding as Finding
from ufm.reproduce.claim import Judgement as Judgement
from ufm.reproduce.claim import Paper as Paper
from ufm.reproduce.claim import Result as Result
from ufm.reproduce.claim import Row as Row
from ufm.reproduce.registry import PAPERS as PAPERS
from ufm.reproduce.registry import chosen as chosen
from ufm.reproduce.registry import run as run
