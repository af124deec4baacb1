"""The output of `ufm spectrum`, on the terminal and in files."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ufm.cli.output.console import Table, plain_table, title
from ufm.cli.output.console import show as show_table
from ufm.cli.output.print import say
from ufm.cli.output.table import headline

if TYPE_CHECKING:
    from ufm.hessian import Spectrum
    from ufm.model.problem import Problem
    from ufm.spectra.along_run import SpectrumPath
    from ufm.spectra.at_points import SpectrumRecord

Paths = Sequence[tuple["Problem", "SpectrumPath"]]

_FORMAT = 1


# On the terminal -----------------------------------------------------------------------------


def show_spectra(records: "Sequence[SpectrumRecord]", notes: Sequence[str] = ()) -> None:
    """Print a table for each spectrum, and its meaning in one line."""
    say(headline(records[0].problem))
    for note in notes:
        say(f"note: {note}")
    for record in records:
        title(record.problem.loss.label())
        show_table(_eigenvalues(record.spectrum), ("error",))
        for line in conclusions(record):
            say(line)


def _eigenvalues(spectrum: "Spectrum") -> Table:
    from ufm.report.spectra.table import ENDS, listed

    headings = ("eigenvalue", "multiplicity", "error", "comes from")
    table = plain_table(headings, words=headings[-1:], gap=2)
    count = len(spectrum.eigenvalues)
    for i in listed(count):
        if i is None:
            table.add_row("…", f"{count - 2 * ENDS} more", "", "see --json or --out")
            continue
        value = float(spectrum.eigenvalues[i])
        table.add_row(
            "0" if abs(value) <= spectrum.zero_tol else f"{value:.6e}",
            f"{int(spectrum.multiplicities[i]):,}",
            f"{float(spectrum.residuals[i]):.0e}",
            spectrum.labels[i],
        )
    return table


def conclusions(record: "SpectrumRecord") -> list[str]:
    """The numbers of eigenvalues by sign, the causes of zeros, and at a saddle its curvature."""
    found = record.spectrum
    lines = [f"{found.dimension:,} eigenvalues; their signs are not counted."]
    if found.negative is not None:
        zeros, explained = found.zero or 0, min(found.zero or 0, found.gauge_dimension)
        lines = [
            f"{found.dimension:,} eigenvalues: {found.negative:,} negative, {zeros:,} zero, "
            f"{found.positive:,} positive."
        ]
        if zeros:
            lines[0] += (
                f" {_symmetries(record.problem)} explain {explained:,} of the {zeros:,} zeros."
            )
    definite = {True: "", False: "not ", None: "not decided to be "}[found.definite_modulo_gauge]
    lines.append(f"Modulo rotations the Hessian is {definite}positive definite.")
    lines.append(f"Method: {found.method}" + (f", {found.note}." if found.note else "."))
    if not found.converged:
        lines.insert(
            0,
            "WARNING: not converged: the eigenvalues at the ends have the listed errors, "
            "and others may lie beyond them",
        )
    smallest = float(found.eigenvalues[0])
    if smallest < -found.zero_tol:
        lines.append(f"The smallest eigenvalue is {smallest:.6e}.")
        if record.escape is not None:
            lines.append(
                f"Along the theory's escape direction: −2(‖G‖−μ)μ/(λ_W+λ_H) = {record.escape:.6e}."
            )
    return lines


def _symmetries(problem: "Problem") -> str:
    """Name the symmetries of f."""
    free = problem.has_bias and float(problem.lam_b or 0.0) == 0.0
    return "Rotations and shifts of b" if free and problem.loss.shift_invariant else "Rotations"


def show_paths(paths: Paths) -> None:
    """Print a table for each run."""
    say(headline(paths[0][0]))
    for problem, path in paths:
        title(problem.loss.label())
        headings = ("step", "f", "smallest", "largest", "negative", "zero", "positive")
        table = plain_table(headings, gap=2)
        for i, step in enumerate(path.step):
            counts = (path.negative[i], path.zero[i], path.positive[i])
            table.add_row(
                f"{int(step)}",
                f"{float(path.value[i]):.8g}",
                *(f"{float(x):.4e}" for x in (path.smallest[i], path.largest[i])),
                *(f"{int(x):,}" for x in counts),
            )
        show_table(table)
        least, most = int(path.rotations.min()), int(path.rotations.max())
        left_out = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        say(
            f"Modulo rotations: {left_out} directions along which f is constant are left out. "
            f"Zero is within ±{path.zero_tol:.1e}. Counts are exact"
            + ("." if path.reliable else ", but an eigenvalue lies within rounding of that.")
        )


# As JSON -------------------------------------------------------------------------------------


def spectra_json(records: "Sequence[SpectrumRecord]") -> str:
    """All distinct eigenvalues and all printed numbers, as JSON."""
    return _json([_of_spectrum(record) for record in records])


def _of_spectrum(record: "SpectrumRecord") -> dict[str, Any]:
    found = record.spectrum
    columns = zip(
        found.eigenvalues.tolist(),
        found.multiplicities.tolist(),
        found.residuals.tolist(),
        found.labels,
        found.parts,
        strict=True,
    )
    names = ("eigenvalue", "multiplicity", "residual", "label", "parts")
    return {
        **_of_problem(record.problem),
        "dimension": found.dimension,
        "negative": found.negative,
        "zero": found.zero,
        "positive": found.positive,
        "zeros_by_symmetry": found.gauge_dimension,
        "zero_tol": found.zero_tol,
        "definite_modulo_rotations": found.definite_modulo_gauge,
        "complete": found.complete,
        "converged": found.converged,
        "method": found.method,
        "note": found.note,
        "smallest": float(found.eigenvalues[0]),
        "largest": float(found.eigenvalues[-1]),
        "escape_curvature": record.escape,
        "eigenvalues": [dict(zip(names, row, strict=True)) for row in columns],
    }


def paths_json(paths: Paths) -> str:
    """Each run as columns over its steps, as JSON."""
    return _json(
        [
            {
                **_of_problem(problem),
                "zero_tol": path.zero_tol,
                "reliable": path.reliable,
                **{name: column.tolist() for name, column in _columns(path).items()},
            }
            for problem, path in paths
        ]
    )


def _of_problem(problem: "Problem") -> dict[str, Any]:
    from ufm.model.problem_spec import ProblemSpec

    return {"label": problem.loss.label(), **ProblemSpec.of(problem).named()}


def _json(spectra: list[dict[str, Any]]) -> str:
    from ufm._support.strict_json import dumps
    from ufm.runs.run_folder import environment

    return dumps({"format": _FORMAT, "environment": environment(), "spectra": spectra})


# As files ------------------------------------------------------------------------------------


def spectrum_files(records: "Sequence[SpectrumRecord]") -> dict[str, bytes]:
    """spectrum.npz (one row per distinct eigenvalue of each loss), .csv, .json, and table.tex."""
    import numpy as np

    from ufm.report.spectra.table import eigenvalue_table

    columns: dict[str, Any] = {
        name: np.concatenate([np.asarray(getattr(r.spectrum, name)) for r in records])
        for name in ("eigenvalues", "multiplicities", "labels", "residuals")
    }
    columns["loss"] = _repeated([(r.problem, len(r.spectrum.eigenvalues)) for r in records])
    tables = [{"loss": r.problem.loss.label(), **_csv_columns(r.spectrum)} for r in records]
    return _files(columns, tables, spectra_json(records), eigenvalue_table(records))


def _csv_columns(spectrum: "Spectrum") -> dict[str, Any]:
    return {
        "eigenvalue": spectrum.eigenvalues,
        "multiplicity": spectrum.multiplicities,
        "residual": spectrum.residuals,
        "label": spectrum.labels,
    }


def path_files(paths: Paths) -> dict[str, bytes]:
    """The same files, with one row per step of each run."""
    import numpy as np

    from ufm.report.spectra.table import along_table

    columns = {
        name: np.concatenate([_columns(path)[name] for _, path in paths])
        for name in _columns(paths[0][1])
    }
    columns["loss"] = _repeated([(problem, len(path.step)) for problem, path in paths])
    tables = [{"loss": problem.loss.label(), **_columns(path)} for problem, path in paths]
    return _files(columns, tables, paths_json(paths), along_table(paths))


def _columns(path: "SpectrumPath") -> dict[str, Any]:
    names = ("step", "products", "value", "smallest", "largest", "error")
    return {
        name: getattr(path, name) for name in (*names, "negative", "zero", "positive", "rotations")
    }


def _repeated(counts: "list[tuple[Problem, int]]") -> Any:
    import numpy as np

    from ufm.losses import loss_spec

    specs = ((loss_spec(problem.loss.without_targets()[0]), count) for problem, count in counts)
    return np.concatenate([np.full(count, spec) for spec, count in specs])


def _files(
    columns: dict[str, Any], tables: list[dict[str, Any]], text: str, latex: str
) -> dict[str, bytes]:
    import numpy as np

    from ufm.report._table import to_csv

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    return {
        "spectrum.npz": buffer.getvalue(),
        "spectrum.csv": to_csv(tables).encode(),
        "spectrum.json": text.encode(),
        "table.tex": latex.encode(),
    }


def draw_spectra(records: "Sequence[SpectrumRecord]") -> list[tuple[str, bytes]]:
    """The figure's files."""
    from ufm.cli.output.progress import waiting
    from ufm.report import spectrum_files as figure

    with waiting("drawing"):
        return figure(records)


def draw_paths(paths: Paths) -> list[tuple[str, bytes]]:
    """The figure's files."""
    from ufm.cli.output.progress import waiting
    from ufm.report import spectrum_path_files

    with waiting("drawing"):
        return spectrum_path_files([(problem.loss.label(), path) for problem, path in paths])
