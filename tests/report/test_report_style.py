"""The palette, seen by dichromats and in grey; lines and marks that need no colour.

Simulations are Machado, Oliveira & Fernandes's (2009, table 1, severity 1), on linear RGB; ΔE is
CIE 1976's, the distance in L*a*b*.
"""

import itertools

import numpy as np
import pytest

from ufm.report import looks, style

SIMULATED = {
    "normal vision": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "grey": np.tile([0.2126729, 0.7151522, 0.0721750], (3, 1)),  # the luminance of sRGB
}
#: XYZ of linear sRGB (IEC 61966-2-1); its white has the row sums.
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
OKABE_ITO = ("0072B2", "D55E00", "009E73", "CC79A7", "E69F00", "56B4E9", "000000")


def lab(colour: str, simulated: str) -> np.ndarray:
    """L*, a*, b* of a colour in hexadecimal, as it is seen."""
    rgb = np.array([int(colour.lstrip("#")[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = TO_XYZ @ np.clip(SIMULATED[simulated] @ linear, 0, 1) / TO_XYZ.sum(axis=1)
    f = [t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def least_difference(colours, simulated: str) -> float:
    """ΔE of the two that look most alike."""
    seen = [lab(colour, simulated) for colour in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))


@pytest.fixture(scope="module")
def palette() -> list[str]:
    import matplotlib as mpl

    with style():
        return mpl.rcParams["axes.prop_cycle"].by_key()["color"]


def test_the_measure_knows_white_black_and_what_deuteranopes_confuse():
    """And rejects Okabe & Ito's palette in grey, in which four of its colours are one."""
    np.testing.assert_allclose(lab("FFFFFF", "normal vision"), [100, 0, 0], atol=1e-2)
    np.testing.assert_allclose(lab("FF0000", "normal vision"), [53.24, 80.09, 67.20], atol=0.02)
    red_green = [
        least_difference(("B46600", "8B7C00"), seen) for seen in ("normal vision", "deuteranopia")
    ]
    assert red_green[0] > 2 * red_green[1]
    assert (
        least_difference(OKABE_ITO, "grey") < 1 < 15 < least_difference(OKABE_ITO, "deuteranopia")
    )


@pytest.mark.parametrize("simulated", SIMULATED)
def test_every_two_colours_differ_however_they_are_seen(palette, simulated):
    """A just noticeable difference is 2.3; ten of them for dichromats, and five in grey of the

    four losses of `ufm solve`, whose colours come first.
    """
    all_of_them, losses = (least_difference(x, simulated) for x in (palette, palette[:4]))
    assert len(palette) == 7
    assert all_of_them > (5 if simulated == "grey" else 23)
    assert losses > (12 if simulated == "grey" else 30)
    # None is lost on white paper.
    assert max(lab(colour, simulated)[0] for colour in palette) < 82


def test_a_family_differs_in_lines_and_marks_too(palette):
    drawn = [looks(i) for i in range(35)]
    assert len({(x.color, str(x.linestyle), x.marker) for x in drawn}) == 35
    first = drawn[: len(palette)]
    assert len({x.marker for x in first}) == len(palette)
    assert len({str(x.linestyle) for x in drawn[:5]}) == 5
