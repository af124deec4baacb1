"""Published claims and ours as one HTML page, from what `reproduce.json` holds.

Path("page.html").write_text(claims_page(json.loads(Path("reproduce.json").read_text())))
"""

from collections.abc import Mapping
from typing import Any

from ufm.report._page import render


def claims_page(told: Mapping[str, Any]) -> str:
    """Make the page: the verdict on each claim, then its source, setting and every number.

    Args:
        told: `environment` and `claims`, as in reproduce.json.

    Returns:
        The page, which needs no other file.
    """
    claims = told["claims"]
    verdicts = [found["verdict"] for found in claims]
    return render(
        "reproduce.html.j2",
        title="Published and ours",
        claims=claims,
        counts=[f"{verdicts.count(kind)} {kind}" for kind in dict.fromkeys(verdicts)],
        changed=[found["name"] for found in claims if found["verdict"] != found["recorded"]],
        config={"names": [found["name"] for found in claims]},
        environments=[told["environment"]],
    )
