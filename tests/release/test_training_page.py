"""The lines for training loops on the site: short, and of methods that the tracker has.

PyTorch and Lightning are not installed here; the lines were run with both.
"""

import ast
import re
from pathlib import Path

import ufm

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
TRACKERS = {"tracker", "CollapseTracker"}


def test_each_way_is_ten_lines_of_what_exists():
    assert len(BLOCKS) == 3
    used = set()
    for block in BLOCKS:
        assert len(block.strip().splitlines()) <= 10
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute):
                owner = getattr(node.value, "attr", getattr(node.value, "id", None))
                used |= {node.attr} if owner in TRACKERS else set()
    assert used >= {"update", "compute", "nearest_mean", "state", "from_state", "merge"}
    assert all(hasattr(ufm.CollapseTracker, name) for name in used)


def test_every_field_is_in_the_table():
    fields = ufm.CollapseTracker(2, 1).compute().__dataclass_fields__
    page = PAGE.read_text("utf-8")
    assert [name for name in fields if f"`{name}`" not in page] == ["num_samples"]
