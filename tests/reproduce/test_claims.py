"""The registry of published claims, the rule of verdicts, and checks against other references."""

import json
import math
import re

import pytest
from import_order import ROOT

from ufm._support.strict_json import dumps
from ufm.certificates.certificate import Verdict
from ufm.reproduce import PAPERS, Finding, Judgement, Row, chosen, run
from ufm.reproduce.checks import benign
from ufm.reproduce.dang_2023 import largest_root
from ufm.reproduce.fang_2021 import minority_collapse
from ufm.reproduce.garrod_keating_2025 import collapsed_value, not_optimal, paired_value
from ufm.reproduce.jiang_2023 import softmax_codes
from ufm.reproduce.zhou_2022 import NARROW, WIDE, equal_accuracy

#: Claims that take a second or two, with numbers that were computed independently of this library:
#: by multi-start descent, an SVD, or bisection of the focal loss's tie.
CHEAP = {
    "zhou-2022:focal-uniqueness": {
        "γ=1, K=24: margin of the second, beside 0": "0.0565",
        "γ=2, K=18: margin of the second, beside 0": "0.0640",
        "γ=3, K=18: margin of the second, beside 0": "0.0544",
    },
    "thrampoulidis-2022:seli-limit": {
        "slope: ‖w‖² of a large class over a small one": "1.9952",
        "slope: cosine of two small ones": "0.0794",
        "slope: cosine of two large classifiers": "-0.4590",
        "slope: cosine of a large and a small one": "-0.3821",
        "Z at μ=4.5e-11: cosine of two small ones": "0.0986014",
        "Z at μ=4.5e-05: cosine of two large classifiers": "-0.52258313",
    },
    "thrampoulidis-2022:slower": {},
    "dang-2023:imbalanced-mse": {
        "1 layer: f": "0.0189421",
        "1 layer, n=200: logit of the label": "0.985858",
        "1 layer, n=100: logit of the label": "0.980000",
        "1 layer, n=50: logit of the label": "0.971716",
    },
    "dang-2023:more-layers": {
        "3 layers: f": "0.0122184",
        "3 layers, n=200: logit of the label": "0.996232",
        "3 layers, n=100: logit of the label": "0.993655",
        "3 layers, n=50: logit of the label": "0.989306",
        "6 layers: f": "0.0132204",
        "6 layers, n=200: logit of the label": "0.997865",
        "6 layers, n=100: logit of the label": "0.996128",
        "6 layers, n=50: logit of the label": "0.992970",
    },
    "hong-ling-2023:minority-threshold": {
        "5 large and 5 small classes: threshold √n_min/N": "0.00333333",
        "3 large and 7 small classes: threshold √n_min/N": "0.00454545",
    },
    "li-2023:tag-average": {"f": "0.906316695432"},
    "andriopoulos-2024:regression-collapse": {},
    "zhao-2026:gradient-descent": {},
    # By multi-start descent in another program.
    "graf-2021:regular-simplex": {"K=4: highest f": "1.617852761740"},
    "graf-2021:unequal-classes": {
        "cosine of two large classes": "-0.81",
        "cosine of a large and a small one": "-0.25",
        "cosine of two small classes": "0.35",
    },
    "kini-2024:orthogonal-frame": {},
    "yaras-2022:strict-saddles": {},
    "yaras-2022:global-minimisers": {},
    "dang-2023:deep-cross-entropy": {"f*": "1.0665225579"},
    "garrod-keating-2025:persists": {"2 layers: f": "0.0906622", "3 layers: f": "0.0769484"},
    "zhou-2022:supervised-contrastive": {},
    "zhou-2022:equal-accuracy": {},
    "jiang-2023:under-decay": {
        "K=4: lowest f of 5 runs": "0.1120030687",
        "K=5: lowest f of 5 runs": "0.1786659960",
        "K=6: lowest f of 5 runs": "0.2344544540",
    },
    "zhu-2021:fixed-classifier": {"margin farthest from that of training": "5.25227"},
    "papyan-2020:class-outliers": {},
}


COMMITTED = {
    "fang-2021:minority-collapse": {
        "R₀ with 3 large classes": "245.50",
        "R₀ with 5 large classes": "12.192",
        "R₀ with 7 large classes": "4.0005",
    },
    "dang-2024:orthogonal-means": {
        "μ=0.0032, n=400: margin": "3.63568",
        "μ=0.0032, n=100: margin": "2.86013",
        "μ=0.0032, n=25: margin": "1.97850",
        "μ=0.0032, n=4: margin": "0.08870",
        "μ=0.0032: f": "0.42259209",
        "μ=0.0034, n=4: margin": "0.00000",
    },
    "garrod-keating-2025:not-optimal": {
        "K=10, 1 layer: lowest f of 5 runs": "0.1398673",
        "K=10, 2 layers: lowest f of 5 runs": "0.0800127",
        "K=6, 3 layers: lowest f of 5 runs": "0.0361438",
    },
    "zhou-2022:global-minimisers": {"CE: f": "0.28239624276350517"},
}


def test_every_claim_says_what_a_reader_needs():
    names = [f"{paper.key}:{claim.name}" for paper, claim in chosen(None)]
    assert len(set(names)) == len(names) > 10
    assert len({paper.arxiv for paper in PAPERS}) == len(PAPERS)
    for paper, claim in chosen(None):
        assert re.fullmatch(r"[a-z-]+-20\d\d[a-z]?", paper.key)
        assert re.fullmatch(r"\d{4}\.\d{5}", paper.arxiv)
        assert re.fullmatch(r"[a-z-]+", claim.name)
        assert claim.statement.endswith(".")
        assert all((paper.reference, paper.read, claim.where, claim.setting))


def test_every_paper_of_the_folder_is_in_the_registry():
    files = {path.stem for path in (ROOT / "ufm" / "reproduce").glob("*_20*.py")}
    assert files == {paper.key.replace("-", "_") for paper in PAPERS}


@pytest.mark.parametrize("name", CHEAP)
def test_a_cheap_claim_has_its_recorded_verdict_and_the_numbers_of_the_references(name):
    result = run(*chosen([name])[0])
    assert result.as_recorded, result.explain()
    assert dumps(result.as_dict())
    ours = {row.quantity: row.ours for row in result.finding.rows}
    for quantity, reference in CHEAP[name].items():
        # References are rounded to the digits shown; the slope also misses its limit by 1/L³.
        digits = len(reference.partition(".")[2])
        slack = 4e-4 if quantity.startswith("slope") else 0.0
        assert ours[quantity] == pytest.approx(
            float(reference), rel=0, abs=0.6 * 10.0**-digits + slack
        )


def test_the_ratio_at_which_minorities_collapse_under_budgets():
    (row,) = minority_collapse((7,)).rows
    assert row.agrees
    assert row.ours == pytest.approx(4.0005, abs=5e-5)


@pytest.mark.parametrize(
    ("layers", "collapsed", "pairs"),
    [(1, 0.1398673, 0.1505188), (2, 0.0906622, 0.0800127), (3, 0.0769484, 0.0609208)],
)
def test_deep_collapse_and_pairs_at_ten_classes(layers, collapsed, pairs):
    assert collapsed_value(10, layers) == pytest.approx(collapsed, abs=6e-8)
    assert paired_value(10, layers) == pytest.approx(pairs, abs=6e-8)


def test_pairs_beat_deep_collapse_of_four_classes_from_three_layers():
    found = not_optimal(((4, 2), (4, 3)))
    assert [row.ours for row in found.rows[3::4]] == [0, 1]
    assert [row.claimed for row in found.rows[2::4]] == pytest.approx(
        [0.0302276, 0.0236576], abs=6e-8
    )
    assert found.judgement is Judgement.CONFIRMED


def test_the_largest_root_is_the_minimum_up_to_the_tie_with_the_origin_only():
    found = largest_root()
    tie, end, below, *above = found.rows
    # (L−1)^{(L−1)/L}/L at L = 3; x³ = 1/2 is the maximum of L x²/(x³ + 1)².
    assert tie.ours == pytest.approx(2 ** (2 / 3) / 3, abs=1e-9)
    assert end.ours == pytest.approx(3 * 0.5 ** (2 / 3) / 1.5**2, abs=1e-9)
    assert below.agrees
    assert below.ours < 0.49
    assert [row.ours for row in above] == pytest.approx([0.5, 0.5])
    assert found.judgement is Judgement.REFUTED


def test_margins_of_softmax_codes_in_the_plane():
    found = softmax_codes((4, 6))
    assert found.judgement is Judgement.CONFIRMED
    assert [row.claimed for row in found.rows[::3]] == pytest.approx([1.0, 0.5])
    for scipy, runs, any_minimiser in zip(*(found.rows[i::3] for i in range(3)), strict=True):
        assert scipy.ours == pytest.approx(runs.ours, abs=1e-6)
        assert scipy.ours - 0.02 < any_minimiser.ours < scipy.ours


@pytest.mark.parametrize(
    ("accuracies", "file", "settings"),
    [
        (WIDE, "collapse", {"width": 128, "epochs": 2000}),
        (NARROW, "grid", {"width": 16, "epochs": 10}),
    ],
)
def test_the_accuracies_are_those_of_the_committed_results(accuracies, file, settings):
    told = json.loads((ROOT / "sweeps" / f"networks-{file}.json").read_text(encoding="utf-8"))
    (group,) = [x for x in told["groups"] if settings.items() <= x["settings"].items()]
    committed = [tuple(x["test_accuracies"].values()) for x in group["losses"]]
    assert [x["loss"] for x in group["losses"]] == ["ce", "ls:0.05", "fl:3.0", "mse:1.0,15.0"]
    assert list(accuracies.values()) == [pytest.approx(x, abs=1e-9) for x in committed]
    # The library's own test of equivalence is of other code.
    ends = {x["loss"]: x["against"] for x in group["losses"] if x["against"]}
    rows = [row for row in equal_accuracy().rows if f"width {settings['width']}," in row.quantity]
    for row, against in zip(rows, ends.values(), strict=True):
        far = max(against["low"], against["high"], key=abs)
        assert row.ours == pytest.approx(far, rel=1e-9)


def test_the_committed_numbers_are_those_of_the_references():
    """Of claims that take too long for a test."""
    told = json.loads((ROOT / "docs" / "reproduce.json").read_text(encoding="utf-8"))["claims"]
    ours = {x["name"]: {row["quantity"]: row["ours"] for row in x["rows"]} for x in told}
    for name, references in COMMITTED.items():
        for quantity, reference in references.items():
            digits = len(reference.partition(".")[2])
            found = ours[name][quantity]
            assert found == pytest.approx(float(reference), rel=0, abs=0.6 * 10.0**-digits)


# Verdicts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "undecided", "verdict"),
    [
        ((Row("x", 1.0, 1.0),), "", Judgement.CONFIRMED),
        ((Row("x", 1.0, 1.1, 0.2), Row("y", 5.0)), "", Judgement.CONFIRMED),
        ((Row("x", 1.0, 1.0), Row("y", 1.0, 1.3, 0.2)), "", Judgement.REFUTED),
        ((Row("x", 1.0, 1.0),), "no certificate", Judgement.UNDECIDED),
        ((Row("x", 1.0, 2.0),), "no certificate", Judgement.UNDECIDED),
        ((Row("x", math.nan, 1.0), Row("y", 1.0, 1.0)), "", Judgement.UNDECIDED),
        ((Row("x", math.nan),), "", Judgement.UNDECIDED),
    ],
)
def test_numbers_make_the_verdict(rows, undecided, verdict):
    assert Finding(rows, undecided).judgement is verdict


@pytest.mark.parametrize(
    ("verdicts", "agree"),
    [
        ((Verdict.GLOBAL_MINIMUM, Verdict.STRICT_SADDLE, Verdict.STRICT_SADDLE), True),
        ((Verdict.STRICT_SADDLE,), False),
        ((Verdict.GLOBAL_MINIMUM, Verdict.LOCAL_MINIMUM), False),
        ((Verdict.GLOBAL_MINIMUM, Verdict.UNDECIDED), False),
    ],
)
def test_a_landscape_is_benign_if_all_else_is_a_strict_saddle(verdicts, agree):
    assert all(row.agrees for row in benign(verdicts)) is agree
