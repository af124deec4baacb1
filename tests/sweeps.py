"""Small sweeps that the tests share, on the shape that other tests compile too."""

from pathlib import Path

from ufm.sweep import Sweep, load_sweep

SIZES = "num_classes = 4\nper_class = 5\ndim = 6\n"
#: Eight cells of one program; the largest decays are beyond the collapse threshold 1/(4√5) ≈ 0.112.
TINY = f"""
title = "tiny"
loss = ["ce"]
[problem]
{SIZES}
lam_w = [1e-3, 0.5]
lam_h = [1e-2, 0.5]
[start]
count = 2
"""


def written(folder: Path, text: str = TINY, name: str = "tiny.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str = TINY) -> Sweep:
    return load_sweep(written(folder, text))


#: What may differ between two runs of one cell.
TIMES = ("seconds",)
