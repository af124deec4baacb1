"""Tables of the site from committed results: benchmarks/, sweeps/networks-*, docs/reproduce.json.

A line `{{ name }}` of a page becomes the table of that name. `python docs/hooks/measurements.py`
writes the one of the README.
"""

import json
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def on_page_markdown(markdown: str, **_: Any) -> str:
    def text(found: re.Match[str]) -> str:
        return TABLES[found[1]]() if found[1] in TABLES else found[0]

    return re.sub(r"^\{\{ (\S+) \}\}$", text, markdown, flags=re.MULTILINE)


def read(path: str) -> dict[str, Any]:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            digits = 0 if seconds / size >= 10 else 1
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.1e} s"


def environment(path: str) -> str:
    """The machine and the versions of one file."""
    found = read(path)["environment"]
    versions = {
        k: v for k, v in found.items() if k not in ("backend", "device", "cores", "cpu", "threads")
    }
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    cpu = f" ({found['cpu']})" if "cpu" in found else ""
    return f"`{path}`: {found['cores']} cores{cpu}, {found['backend']}; {listed}."


def solvers() -> str:
    report = read("benchmarks/solvers.json")
    cases = report["cases"]
    names = list(dict.fromkeys(name for case in cases.values() for name in case["methods"]))

    def cell(case: dict[str, Any], name: str) -> str:
        entry = case["methods"].get(name)
        if entry is None:  # the grid of the tuned method gives up beyond this factor
            return "> 3 × ufm" if case["grid"] else "not run"
        warm = time(statistics.median(run["seconds"] for run in entry["runs"]))
        worst = max(run["gradient_norm"] for run in entry["runs"])
        return warm if worst <= report["tol"] else f"{warm}, stopped at {worst:.0e}"

    rows = [[name, *(cell(case, name) for case in cases.values())] for name in names]
    first = [time(case["methods"][names[0]]["cold"]) for case in cases.values()]
    rows.insert(1, [f"{names[0]}, first run with compilation", *first])
    return table(["method", *cases], rows)


def first_answer() -> str:
    report = read("benchmarks/first_answer.json")
    counts = list(next(iter(report["contenders"].values())))

    def cell(count: str, entry: dict[str, Any]) -> str:
        taken = time(statistics.median(entry["answer"]))
        short = f", {entry['arrived']} of {count} arrived"
        return taken if entry["arrived"] == int(count) else taken + short

    rows = (
        [
            name,
            time(statistics.median(found[counts[0]]["import"])),
            *(cell(count, found[count]) for count in counts),
        ]
        for name, found in report["contenders"].items()
    )
    return table(["method", "imports", "one run", *(f"{x} starts" for x in counts[1:])], rows)


def loaded_environment(path: str) -> str:
    before, after = read(path)["load"].values()
    return f"{environment(path)} Load average {before:.1f} before, {after:.1f} after."


def tour() -> str:
    report = read("benchmarks/first_answer.json")

    def row(name: str, found: dict[str, Any]) -> list[str]:
        old = report["version 0.1"].get(name, {})
        return [
            name,
            time(statistics.median(found["seconds"])),
            f"{found['ratio']:.2f}",
            f"{old['ratio']:.2f}" if old else "–",
            str(found["programs"]),
            str(old.get("programs") or "–"),
            time(statistics.median(found["cached_seconds"])),
        ]

    head = ["step", "time", "ratio", "ratio in 0.1", "programs", "programs in 0.1", "with a cache"]
    return table(head, (row(*item) for item in report["tour"].items()))


def batches() -> str:
    report = read("benchmarks/batches.json")
    ways = list(next(iter(report["cases"].values())))
    return table(
        ["problem", *ways],
        (
            [label, *(time(statistics.median(found[way])) for way in ways)]
            for label, found in report["cases"].items()
        ),
    )


def roofline() -> str:
    return table(
        ["K, d, n", "Hessian product", "six matrix products", "ratio"],
        (
            [
                size.replace(",", ", "),
                *(time(statistics.median(x)) for x in found["seconds"].values()),
                f"{found['ratio']:.2f}",
            ]
            for size, found in read("benchmarks/roofline.json")["sizes"].items()
        ),
    )


def spectra() -> str:
    methods = read("benchmarks/spectra.json")["methods"]

    def error(found: dict[str, Any]) -> str:
        known = (found.get(f"{part}_error") for part in ("full", "largest", "smallest"))
        worst = next((value for value in known if value is not None), None)
        return "–" if worst is None else f"{worst:.0e}" if worst else "reference"

    return table(
        ["method", "time", "products", "error", "remark"],
        (
            (
                name,
                time(found["seconds"]),
                str(found["products"] or "–"),
                error(found),
                found["note"].replace("closed_form", "closed form"),
            )
            for name, found in methods.items()
        ),
    )


def products() -> str:
    report = read("benchmarks/spectra.json")
    rows = ([name, time(found["seconds"])] for name, found in report["products"].items())
    return table(["Hessian product", "time"], rows)


def landscape() -> str:
    cases = {
        (problem, loss, starts): methods
        for problem, losses in read("benchmarks/landscape.json")["results"].items()
        for loss, kinds in losses.items()
        for starts, methods in kinds.items()
        if isinstance(methods, dict)
    }
    names = list(dict.fromkeys(name for methods in cases.values() for name in methods))

    def cell(found: dict[str, Any] | None) -> str:
        if found is None:
            return "not run"
        return f"{found['critical']} of {found['starts']}, {time(found['seconds_per_start'])}"

    rows = ([*case, *(cell(found.get(name)) for name in names)] for case, found in cases.items())
    return table(["problem", "loss", "starts", *names], rows)


def tracker() -> str:
    def row(size: str, kind: str, name: str, found: dict[str, Any], truth: Any) -> list[str]:
        if "error" in found:
            return [size, kind, name, "–", found["error"], "–"]
        errors = [
            abs(value - truth[x]) / abs(truth[x]) if truth[x] else abs(value)
            for x, value in found["values"].items()
        ]
        taken = time(statistics.median(found["seconds"]))
        return [size, kind, name, taken, f"{found['values']['nc1']:.4g}", f"{max(errors):.0e}"]

    rows = (
        row(size, kind, name, found, results["truth"])
        for size, kinds in read("benchmarks/tracker.json")["cases"].items()
        for kind, results in kinds.items()
        for name, found in results.items()
        if name != "truth"
    )
    return table(["size", "features", "library", "time", "NC1", "largest error"], rows)


def scaling() -> str:
    growth = read("benchmarks/scaling.json")["scaling"]
    names = {"per_class": "n", "num_classes": "K", "dim": "d"}
    rows = (
        (
            f"{names[axis]} = {int(size):,}",
            time(found["seconds"]),
            time(found["gradient_seconds"]),
            str(found["steps"]),
            str(found["products"]),
        )
        for axis, sizes in growth.items()
        for size, found in sizes.items()
    )
    return table(["size", "run", "one gradient", "steps", "products"], rows)


def network_table(path: str, keys: tuple[str, ...]) -> str:
    """Every loss of every setting: accuracy, difference to CE, NC1–NC3 with their falls, ‖G‖₂/μ."""

    def row(settings: dict[str, Any], found: dict[str, Any]) -> list[str]:
        against = found["against"]
        return [
            *(f"{settings[key]:g}" for key in keys),
            found["loss"],
            f"{found['test_accuracy']:.2f} ± {found['test_deviation']:.2f}",
            f"{against['low']:+.2f} to {against['high']:+.2f}" if against else "",
            *(
                f"{x:.2g} (÷{fall:.3g})"
                for x, fall in zip(found["nc"], found["falls"], strict=True)
            ),
            f"{found['dual_ratio']:.2g}",
        ]

    head = [*keys, "loss", "test accuracy, %", "minus CE, 90 % interval"]
    return table(
        [*head, "NC1", "NC2", "NC3", "‖G‖₂/μ"],
        (row(group["settings"], f) for group in read(path)["groups"] for f in group["losses"]),
    )


def claims() -> str:
    """A row for each claim; a verdict against it is set in bold."""

    def row(found: dict[str, Any]) -> list[str]:
        paper, _, name = found["name"].partition(":")
        source = f"[{paper}](https://arxiv.org/abs/{found['arxiv']})"
        about = f"Source: {found['where']}. Setting: {found['setting']}."
        verdict = found["verdict"]
        shown = verdict if verdict == "confirmed" else f"**{verdict}**"
        seconds = f"{found['seconds']:.0f} s"
        return [
            f"{source}<br>{name}",
            f"{found['claim']}<br><small>{about}</small>",
            shown,
            seconds,
        ]

    head = ["claim", "statement", "verdict", "time"]
    return table(head, map(row, read("docs/reproduce.json")["claims"]))


def verdicts() -> str:
    """How many statements have each verdict: those that sources make, and those beyond them."""
    kinds, found = ("confirmed", "refuted", "not decided"), read("docs/reproduce.json")["claims"]
    papers = len({x["arxiv"] for x in found})
    rows = []
    for name, beyond in ((f"claims of {papers} papers", False), ("statements beyond them", True)):
        given = [x["verdict"] for x in found if x["beyond"] is beyond]
        rows.append([name, *(str(given.count(kind)) for kind in kinds)])
    return table(["`ufm reproduce`", *kinds], rows)


def readme(text: str) -> str:
    """The text of the README with the table of today's verdicts between its marks."""
    begin, end = "<!--claims-->", "<!--/claims-->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n\n{verdicts()}\n\n{end}{rest.split(end)[1]}"


def claimed_numbers() -> str:
    """A row for each number of each claim; one that differs is set in bold."""
    rows = []
    for found in read("docs/reproduce.json")["claims"]:
        for row in found["rows"]:
            ours = f"{row['ours']:.8g}" if row["agrees"] else f"**{row['ours']:.8g}**"
            numbers = ["–", ours, "–"]
            if row["claimed"] is not None:
                numbers = [f"{row['claimed']:.8g}", ours, f"{row['difference']:.1e}"]
            quantity = row["quantity"].replace("|", "\\|")
            rows.append([f"`{found['name']}`", quantity, *numbers])
    return table(["claim", "quantity", "claimed", "ours", "difference"], rows)


TABLES = {
    "claims": claims,
    "claimed-numbers": claimed_numbers,
    "verdicts": verdicts,
    "claims-environment": lambda: environment("docs/reproduce.json"),
    "solvers": solvers,
    "first-answer": first_answer,
    "tour": tour,
    "first-answer-environment": lambda: loaded_environment("benchmarks/first_answer.json"),
    "batches": batches,
    "roofline": roofline,
    "spectra": spectra,
    "products": products,
    "landscape": landscape,
    "scaling": scaling,
    "tracker": tracker,
    "tracker-environment": lambda: loaded_environment("benchmarks/tracker.json"),
    "environment": lambda: environment("benchmarks/solvers.json"),
    "networks-collapse": lambda: network_table("sweeps/networks-collapse.json", ()),
    "networks-grid": lambda: network_table("sweeps/networks-grid.json", ("width", "epochs")),
}


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
