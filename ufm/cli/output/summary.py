"""The output of `ufm certify` on one point."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

from ufm._support.text import command as shell
from ufm.cli.output.console import show as show_table
from ufm.cli.output.console import show_facts, title
from ufm.cli.output.print import say, with_flags
from ufm.cli.output.table import headline

if TYPE_CHECKING:
    from ufm.last_layer.examine import Examination


def show(examination: "Examination", folder: Path, unwritten: str | None, command: Any) -> None:
    """Print the problem, how it was read, the verdict with its numbers, and the certificate.

    Do the same for the layer with centred features if it differs. `unwritten` is the reason why
    there is no certificate in `folder`. Notes name the flags of `command`.
    """
    notes, other = examination.layer.notes, examination.centred
    if other is not None:
        show_table("The layer as given", style="bold")
    say(_problem(examination))
    if notes:
        say("Read as:")
    for note in notes:
        say(f"  {with_flags(note, command)}")
    show_facts(_rows(examination) + _metric_rows(examination))
    if other is not None:
        title("The same layer with centred features")
        say(_problem(other))
        for note in other.layer.notes:
            if note not in notes:
                say(f"note: {with_flags(note, command)}")
        show_facts(_rows(other))
        say("")
    if unwritten is not None:
        say(f"No certificate is written: {unwritten}")
        return
    if other is not None:
        say("The certificate is of the layer as given; --centred writes that of the centred layer.")
    say(f"Certificate: {folder}")
    say(f"Check: {shell('python', folder / 'verify.py')}, with NumPy alone", whole=True)


def _problem(examination: "Examination") -> str:
    problem = examination.layer.problem
    return f"{problem.loss.label()}, {headline(problem)}"


def _rows(examination: "Examination") -> list[tuple[str, str, str]]:
    from ufm.certificates.certificate import REASONS, Reason, Verdict
    from ufm.model.rounding import resolved

    found, minimum, nearest = examination.certificate, examination.minimum, examination.nearest
    verdict = Verdict(int(found.verdict))
    closeness = f"f - (a proven lower bound); tolerance {float(found.tol):.1e}"
    star = ("f*", "unknown", minimum.reason)
    if minimum.is_exact:
        excess = resolved(float(found.value) - minimum.value, minimum.value)
        star = ("f*", f"{minimum.value:.10g}", f"{minimum.kind}; f - f* = {_short(excess)}")
    rows = [
        ("verdict", verdict.name, REASONS[Reason(int(found.reason))]),
        ("f", f"{float(found.value):.10g}", ""),
        star,
        ("gap", _short(found.gap), closeness),
        ("|grad f|", _short(found.grad_norm), f"critical up to {float(found.critical_tol):.1e}"),
        _dual_row(examination),
    ]
    if examination.match is not None:
        rows.append(_match_row(examination.match))
    if nearest is not None:
        relative = float(nearest.relative)
        text = f"to the nearest minimiser ({minimum.kind})"
        if math.isfinite(relative):
            text += f": {relative:.3g} of its norm"
        rows.append(("distance", _short(nearest.distance), text))
    if verdict is Verdict.STRICT_SADDLE:
        text = "curvature along the escape direction (escape_W, escape_H in arrays.npz)"
        rows.append(("escape", f"{float(found.escape.curvature):.3e}", text))
    return rows


def _dual_row(examination: "Examination") -> tuple[str, str, str]:
    certificate, problem = examination.certificate, examination.layer.problem
    ratio = f"{float(certificate.dual_norm / certificate.threshold):.8g}"
    if problem.lam_w is None or problem.lam_h is None:
        return ("dual norm", ratio, "1 if multipliers prove a minimum")
    name = "|G|/mu" if problem.variant is None else "polar/mu"
    return (name, ratio, "1 at every minimum but the origin")


def _match_row(match: Any) -> tuple[str, str, str]:
    """How far logits and Gram matrices are from those of the predicted minimisers."""
    if match.kind == "unknown":
        return ("geometry", "—", "no minimiser is known")
    parts = {"WW'": match.classifier_distance, "H'H of class means": match.feature_distance}
    text = ", ".join(f"{name} by {_short(x)}" for name, x in parts.items())
    return (
        "geometry",
        _short(match.logit_distance),
        f"logits off by this from {match.kind}; {text}",
    )


def _metric_rows(examination: "Examination") -> list[tuple[str, str, str]]:
    metrics = examination.metrics
    if examination.targets is not None:
        return _target_rows(examination.targets)
    first = ("NC1", _short(metrics.nc1), "variability within classes")
    if examination.layer.problem.has_targets:
        return [first]
    if examination.minimum.kind == "origin" and math.isnan(float(metrics.nc2)):
        return [("NC1–NC4", "—", "undefined: the layer has collapsed to the origin, the minimum")]
    rows = [
        first,
        ("NC2", _short(metrics.nc2), f"W against a simplex ETF{_expected(examination, 'nc2')}"),
        ("NC3", _short(metrics.nc3), f"W against the class means{_expected(examination, 'nc3')}"),
        ("NC4", _short(metrics.nc4), "share of samples whose nearest class mean is not the argmax"),
    ]
    frames = examination.frames
    if frames is not None:
        ends = f"{float(frames.cosine_min):.3g} to {float(frames.cosine_max):.3g}"
        text = f"mean cosine of class means, not centred ({ends}); 0 in an orthogonal frame"
        rows.append(("cosines", f"{float(frames.cosine_mean):.3g}", text))
    return rows


def _target_rows(metrics: Any) -> list[tuple[str, str, str]]:
    """Collapse onto targets; NRC3 is for MSE."""
    rows = [
        ("NRC1", _short(metrics.nrc1), "features outside their K principal directions"),
        ("NRC2", _short(metrics.nrc2), "features outside the row space of W"),
    ]
    if math.isfinite(float(metrics.nrc3)):
        rows.append(("NRC3", _short(metrics.nrc3), "W against the second moment of the targets"))
    return rows


def _expected(examination: "Examination", name: str) -> str:
    """The metric at the nearest minimiser, if that is not a simplex ETF."""
    from ufm.collapse.metrics import nc_metrics
    from ufm.model.class_means import reduced_problem

    if examination.minimum.kind in ("simplex ETF", "origin", "unknown"):
        return ""
    if examination.match is not None:
        return f"; {float(getattr(examination.match, name)):.3g} at the minimiser"
    if examination.nearest is None:
        return ""
    # The metrics of the class means are those of the minimiser, whose features are equal.
    small = reduced_problem(examination.layer.problem, examination.layer.problem.dim)
    means = dataclasses.replace(examination.minimum, problem=small).params(None)
    return f"; {float(getattr(nc_metrics(small, means), name)):.3g} at the minimiser"


def _short(number: SupportsFloat) -> str:
    value = float(number)
    if not math.isfinite(value):
        return "—"
    return f"{value:.2e}" if value else "0"
