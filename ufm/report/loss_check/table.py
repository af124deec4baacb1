r"""The properties of a loss as tables for a paper: booktabs, a row for each answer and each decay.

\usepackage{booktabs}
\input{table.tex}
"""

import math
from collections.abc import Iterator

from ufm.loss_check.report import LossReport
from ufm.report.runs.latex import label_in_tex, number_in_tex, tabular

#: The names of the answers in a table.
_ANSWERS = {
    "equivariant": "equivariant under permutations of classes",
    "shift_invariant": r"invariant under $z\mapsto z+t1$",
    "of_label_probability": "a function of $p_k$",
    "finite": r"finite for logits of $\pm10^4$",
    "bounded_below": "bounded below",
    "contrastive": "contrastive",
    "minimisation": "minimisation property",
    "convex": "convex",
}
_DECIMALS = 6


def loss_table(report: LossReport) -> str:
    """Write a row for each answer, then one for each decay: prediction and best of the runs."""
    label = label_in_tex(report.loss.label())
    comments = [
        f"K={report.num_classes}, {_bias(report.lam_b)}. Needs \\usepackage{{booktabs}}.",
        "undecided: samples found no violation, which proves nothing.",
        "The decay is K sqrt(n) mu, mu = sqrt(lambda_W lambda_H).",
    ]
    answers = ((_ANSWERS[name], answer.word) for name, answer in report.answers.items())
    first = tabular("lr", (label, "answer"), [*answers, *_threshold(report)], comments)
    if not report.predictions:
        return first
    headings = (r"$K\sqrt n\,\mu$", "predicted", r"$f$", r"lowest $f$ found", "runs there")
    return first + "\n\\bigskip\n\n" + tabular("rlrrr", headings, _decays(report))


def _threshold(report: LossReport) -> Iterator[tuple[str, str]]:
    if not math.isfinite(report.threshold):
        yield r"collapse up to $K\sqrt n\,\mu=$", "any"
        return
    yield r"collapse up to $K\sqrt n\,\mu=$", number_in_tex(report.threshold, 4)
    if report.origin_threshold > report.threshold:
        yield "all features equal from there to", number_in_tex(report.origin_threshold, 4)
    jump = f"to $p_k={report.jump_probability:.3f}$" if report.jumps else "no"
    yield "jump of the minimiser there", jump


def _decays(report: LossReport) -> Iterator[list[str]]:
    for i, prediction in enumerate(report.predictions):
        found = report.outcomes[i] if i < len(report.outcomes) else None
        yield [
            number_in_tex(prediction.decay, 4),
            prediction.kind,
            number_in_tex(prediction.value, _DECIMALS),
            "" if found is None else number_in_tex(found.best, _DECIMALS),
            "" if found is None else f"{found.reached(prediction.value)}/{len(found.values)}",
        ]


def _bias(lam_b: float | None) -> str:
    return "no bias" if lam_b is None else f"lambda_b={lam_b:g}"
