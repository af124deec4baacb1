"""Who may import whom in the package, and a check of one module by its source.

`ORDER` is the order of the folders, `INSIDE` that of modules and subfolders within some of them.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: The folders directly inside ufm/. Each may import those before it, and its own modules.
ORDER = (
    *(
        "_support",
        "losses",
        "model",
        "collapse",
        "solvers",
        "hessian",
        "certificates",
        "minimum",
        "variants",
    ),
    *(
        "runs",
        "loss_check",
        "spectra",
        "last_layer",
        "landscape",
        "counterexamples",
        "sweep",
        "networks",
        "reproduce",
    ),
    *("report", "cli"),
)
ALLOWED = {folder: set(ORDER[:place]) for place, folder in enumerate(ORDER)}
# Some of those before are unknown to a folder all the same.
ALLOWED["solvers"] -= {"collapse"}
ALLOWED["hessian"] -= {"solvers"}
ALLOWED["last_layer"] -= {"spectra"}
# Networks stand apart: nothing but the command imports them, and reports get plain data of them.
ALLOWED["report"] -= {"networks"}
ALLOWED["reproduce"] -= {"networks"}
# They use the mathematics up to the certificate and the minimum, and sweeps; module by module.
ALLOWED["networks"] = {
    *("_support", "losses", "model.params", "model.problem", "model.objective", "model.evaluation"),
    *("collapse.metrics", "collapse.symmetric_solution", "hessian"),
    *("certificates.certificate", "minimum.global_minimum", "minimum.nearest_minimiser"),
    *("runs.run_folder", "last_layer.read", "last_layer.centring", "last_layer.streaming", "sweep"),
}

#: The same inside a folder: its modules and subfolders in layers, each importing earlier ones only.
#: Those that share a layer do not know each other, and what is not named comes last of all.
INSIDE = {
    "model": (
        ("params", "constraints"),
        ("checks", "variant"),
        ("problem",),
        ("objective", "start", "problem_batch"),
        ("evaluation",),
    ),
    "collapse": (
        ("margin_loss", "squared_error", "feature_batch", "mean_geometry"),
        ("metrics", "symmetric_solution", "origin", "live_classes"),
        ("class_moments",),
        ("nearest_mean", "streamed_metrics", "uncentred"),
    ),
    "hessian": (
        ("spectrum_result",),
        ("symmetry_zeros",),
        ("products",),
        ("counts", "krylov"),
        ("structured",),
        ("spectrum",),
    ),
    "certificates": (
        ("verdicts", "dual_state"),
        ("conjugate_bound",),
        ("dual_bounds",),
        ("decision",),
        ("second_order",),
        ("certificate", "escape"),
    ),
    "minimum": (
        ("minimiser", "structures", "plane_duals"),
        ("narrow_bound",),
        ("searched", "squared_error_minimum", "symmetric_targets"),
        ("global_minimum", "size_geometry"),
        ("geometry_match", "minority_thresholds", "zero_decay_limit", "decay_path"),
        ("nearest_minimiser",),
    ),
    # Contrastive features are on spheres, and a given classifier has the certificates of norms.
    "variants": (("deep", "nonnegative", "norms"), ("contrastive", "fixed_classifier")),
    "runs": (
        ("compilation_cache", "many_starts", "trajectory"),
        ("loss_result",),
        ("run_folder", "loss_summary"),
    ),
    "loss_check": (
        ("answers",),
        ("function",),
        ("symmetry", "contrastive", "convexity", "profile", "levels"),
        ("experiment", "conclusion"),
    ),
    "spectra": (("at_points", "along_run"),),
    "last_layer": (
        ("arrays", "labels", "soft_labels"),
        ("formats", "as_trained", "sets"),
        ("names", "stored_layer", "features", "feature_decay"),
        ("files", "streaming"),
        ("read",),
        ("centring", "stored_point"),
        ("examine",),
    ),
    "sweep": (
        ("record", "condition", "lock", "provenance"),
        ("batch",),
        ("index",),
        ("store",),
        ("problems", "work", "writer", "export"),
        ("plan", "growth"),
        ("cluster",),
    ),
    # Training measures the network on its way, and measures are of what training minimises.
    "networks": (("models", "data"), ("training", "measures"), ("sweeps",)),
    # Papers come last, and the registry, which knows all of them.
    "reproduce": (("claim",), ("checks",)),
    "report": (
        ("_style",),
        ("_lines", "_svg", "_table", "_words"),
        ("_page", "_figure"),
        ("runs",),
        ("spectra", "landscape", "phase", "networks", "loss_check", "reproduce"),
        ("sweep",),
    ),
    "cli": (("output",), ("parsing",)),
}
ACQUAINTED = {("networks", "training", "measures"), ("networks", "measures", "training")}

# What makes a command slow to start, so that `ufm --help` must not import it.
LIGHT = (["cli"], ["_support", "text"])
SLOW = {"jax", "jaxlib", "matplotlib", "optax", "equinox", "sklearn"}

# Where the command prints, and what of rich shows no string itself.
PRINTS, CONSOLE = "cli/output/print.py", "cli/output/console.py"
RICH = {"rich.table.Table"} | {
    f"rich.progress.{name}"
    for name in (
        *("BarColumn", "MofNCompleteColumn", "Progress", "ProgressColumn", "TimeElapsedColumn"),
    )
}


def imported_names(node: ast.AST) -> list[str]:
    """Full dotted names of what one statement imports; a relative import keeps its dots."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        return [f"{module}.{alias.name}" for alias in node.names]
    return []


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: not the bodies of functions."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if is_type_checking(child):
            continue
        yield child
        yield from run_at_import(child)


def sets_jax_config(node: ast.AST) -> bool:
    """`jax.config.update(...)`, `config.update(...)` or an assignment to `jax.config.x`."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in ("jax.config.update", "config.update")
    if isinstance(node, ast.Assign):
        return any(ast.unparse(target).startswith("jax.config.") for target in node.targets)
    return False


def is_reexport(node: ast.AST) -> bool:
    """What may stand in ufm/__init__.py: its docstring, and the names that its stub lists."""
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] == "ufm"
    if isinstance(node, ast.Assign):
        return ast.unparse(node.value) == "lazy_exports(__name__)"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def may_know(folder: str, module: str, target: str) -> bool:
    """May a module or subfolder of a folder import another of it, by the layers in INSIDE?"""
    layers = INSIDE.get(folder, ())
    place = {name: level for level, layer in enumerate(layers) for name in layer}
    if module not in place or target in ("", module) or (folder, module, target) in ACQUAINTED:
        return True
    if target not in place:
        return not is_module(folder, target)
    return place[target] < place[module]


def is_module(folder: str, name: str) -> bool:
    """Is there such a module or subfolder, rather than a name that the folder exports?"""
    here = ROOT / "ufm" / folder / name
    return here.is_dir() or here.with_suffix(".py").is_file()


#: Functions that set JAX's configuration because the caller asks for it.
ASKED = ("runs/compilation_cache.py",)


def check_module(path: str, source: str) -> Iterator[str]:
    """Violations in one module of the package, `path` being relative to ufm/."""
    tree = ast.parse(source)
    if path == "__init__.py":
        for node in tree.body:
            if not is_reexport(node):
                yield f"line {node.lineno}: the package's __init__ only re-exports"
        return

    if path == "__main__.py":
        path = "cli/__main__.py"  # the command by another name
    unit, *inside = path.removesuffix(".py").split("/")
    if unit not in ALLOWED or not inside:
        yield f"{unit} has no place in the import order: give it one in ORDER"
        return

    for node in ast.walk(tree):
        if unit != "cli" and path not in ASKED and sets_jax_config(node):
            yield f"line {node.lineno}: only the command sets JAX's configuration"
        for name in imported_names(node):
            top, *rest = name.split(".")
            if top == "":
                yield f"line {node.lineno}: relative import: write ufm.…"
            elif top in ("matplotlib", "mpl_toolkits") and unit != "report":
                yield f"line {node.lineno}: matplotlib belongs in report"
            elif top == "ufm" and rest[:1] == [unit]:
                if not may_know(unit, inside[0], rest[1] if rest[1:] else ""):
                    yield f"line {node.lineno}: {unit}/{inside[0]} must not import {rest[1]}"
            elif top == "ufm" and unit != "cli":
                target = ".".join(rest[:2]) or "the whole package"
                if not {target, *rest[:1]} & ALLOWED[unit]:
                    yield f"line {node.lineno}: {unit} must not import {target}"

    if unit == "cli":
        yield from prints_by_itself(path, tree)
        for node in run_at_import(tree):
            for name in imported_names(node):
                top, *rest = name.split(".")
                light = rest[:1] in LIGHT or rest[:2] in LIGHT
                if top in SLOW or (top == "ufm" and not light):
                    yield f"line {node.lineno}: import {name} inside the command that needs it"


def prints_by_itself(path: str, tree: ast.AST) -> Iterator[str]:
    """What could show text from outside as it is: all but the two modules that make it plain."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "sys.stdout.write", "sys.stderr.write") and path != PRINTS:
                yield f"line {node.lineno}: print with {PRINTS}"
        for name in imported_names(node):
            if name.startswith("rich.") and name not in RICH and path != CONSOLE:
                yield f"line {node.lineno}: {name} takes markup: use {CONSOLE}"
