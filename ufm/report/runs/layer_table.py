r"""The examination of a trained last layer as a table for a paper: booktabs, a row for each number.

\usepackage{booktabs}
\input{table.tex}
"""

from ufm.certificates.certificate import Verdict
from ufm.last_layer.examine import Examination
from ufm.report.runs.latex import described, label_in_tex, number_in_tex, tabular

_DECIMALS = 3


def layer_table(examination: Examination) -> str:
    """Write a column for the layer as given and, where it differs, one for centred features."""
    views = [view for view in (examination, examination.centred) if view is not None]
    label = label_in_tex(examination.layer.problem.loss.label())
    headings = (label, "as given", "centred")[: 1 + len(views)]
    comments = [f"{described(view.layer.problem)}." for view in views]
    comments += [
        "Needs \\usepackage{booktabs}.",
        "gap: f minus a proven lower bound. distance: to the nearest predicted minimiser.",
    ]
    columns = zip(*map(_cells, views), strict=True)
    rows = ((cells[0][0], *(value for _, value in cells)) for cells in columns)
    return tabular("l" + "r" * len(views), headings, rows, comments)


def _dual_norm(view: Examination) -> str:
    """What is compared with μ, or with 1 beside multipliers."""
    problem = view.layer.problem
    if problem.lam_w is None or problem.lam_h is None:
        return "dual norm"
    return r"$\|G\|_2/\mu$" if problem.variant is None else r"$\gamma^\circ(G)/\mu$"


def _cells(view: Examination) -> list[tuple[str, str]]:
    found, minimum, nearest = view.certificate, view.minimum, view.nearest
    nan = float("nan")
    numbers = {
        "$f$": found.value,
        r"$f^\star$": minimum.value if minimum.is_exact else nan,
        "gap": found.gap,
        r"$\|\nabla f\|$": found.grad_norm,
        _dual_norm(view): found.dual_norm / found.threshold,
        "distance": nan if nearest is None else nearest.distance,
        **{rf"$\mathcal{{NC}}_{i}$": getattr(view.metrics, f"nc{i}") for i in (1, 2, 3, 4)},
    }
    verdict = Verdict(int(found.verdict)).name.lower().replace("_", " ")
    shown = ((name, number_in_tex(float(x), _DECIMALS)) for name, x in numbers.items())
    return [("verdict", verdict), *shown]
