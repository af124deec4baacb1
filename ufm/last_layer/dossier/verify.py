r"""Check the certificate in this folder again, with NumPy alone:

    python verify.py            the folder that holds this script
    python verify.py FOLDER     another folder: use a verify.py that you trust
    python verify.py FOLDER --features FILE ...     features in .npy files elsewhere

certificate.json makes claims about a point (W, H, b) of the unconstrained feature model; arrays.npz
has the point. If H is too large for it, H is the features in other files minus `offset`, and
certificate.json has their SHA-256: of the numbers in the type that it names, little-endian, one
sample after another. arrays.npz then has `dual`, the class averages of N Gamma: without the files
the lower bound is proven from it alone, and f, its gradient and the metrics are not recomputed.

The model has K classes, N samples with labels y_i, features of dimension d, and

    f(W, H, b) = g(V) + lam_w/2 |W|^2 + lam_h/2 |H|^2 + lam_b/2 |b|^2,
    V = W H + b 1',     g(V) = (1/N) sum_i a_i L(v_i, y_i),

with W (K x d), H (d x N), b (K), a loss L, Gamma = grad g(V) (K x N) and mu = sqrt(lam_w lam_h).
The factor a_i is the class weight of y_i, or 1 if the problem has no class weights.

With soft labels y_i is a row of `targets`, and equal rows are one of m groups of samples, which
class_counts counts instead of classes. With sample weights c_i sample i counts as c_i samples, in g
and in the penalty, and H of arrays.npz has the columns sqrt(c_i) h_i.

With non-negative features all points have H >= 0. The gradient is then that of the directions that
keep this, and max {|Gamma v| : v >= 0, |v| = 1} takes the place of the largest singular value.

With rows of W or columns of H on a sphere, all points are there, that factor has no decay, V is
W H / temperature + b 1', and gradients and directions are tangent. The lower bound is then that of
a tangent of g, and of a matrix of multipliers (`sphere_bound`).

A point is a global minimum if f equals a lower bound on f. By convex duality every K x N matrix
Gamma with largest singular value at most mu gives a lower bound,

    f >= -g*(Gamma) - |Gamma 1|^2 / (2 lam_b)      at every point (W, H, b).

For the focal loss with balanced classes, f >= min_s phi(s) + c s is one (`focal_bound`). The gap is
f minus the lower bound. It proves that f exceeds its minimum by at most the gap, no matter how the
point was computed.

The script has four steps:

1. Form      check that every number, text and array has the required type, shape and range.
2. Model     compute f, its gradient and its curvature from the arrays, with rounding errors.
3. Bounds    compute a lower bound on f from the arrays.
4. Checks    compare every claim with these numbers: one check, one function, one line.

A line begins with "ok", "FAILED", or "not checkable" if the claim cannot be decided here. The exit
code is 1 if a check failed, else 0. Texts are not checked: reason, notes, source, environment,
minimum_geometry and minimum_reason. Nor is `order`, which refers to another file.
"""

import functools
import hashlib
import io
import json
import math
import re
import sys
import zipfile
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

# The distance from 1 to the next larger number.
EPS = 2.0**-52
# Squares of smaller numbers underflow, so that such a number counts as zero.
SMALLEST = 1e-150

# Beyond this, rounding dominates the focal loss.
LARGEST_GAMMA = 1e4

# A gap counts as closed up to min(RELATIVE depth, max(OF_VALUE f, LEAST f(0))), or up to tol depth
# if the user gave a tolerance. The depth is max(f(0) - f, LEAST_DEPTH f(0)), with f at the point.
RELATIVE = 1e-6
OF_VALUE = 1e-3
LEAST = 1e-15
LEAST_DEPTH = 1e-3
# A minimum whose value is that accurate counts as found, however small the depth.
OF_MINIMUM = 1e-9
# Most classes of which all sets are searched; the size of negative entries of eigenvectors that
# rounding explains if the top eigenvalue is simple to within the second number times K EPS.
MOST_FACES, HIDDEN_SIGN, NEARLY_SIMPLE = 15, 1e-3, 1e4
# Norms of vectors on a sphere may differ from its radius by this, relative to it.
OFF_SPHERE = 1e-12
# Multiples of a dual point are searched for up to this number.
LARGEST_MULTIPLE = 1e6
# A gradient below this fraction of mu max(1, |(W, H, b)|) belongs to a critical point.
CRITICAL = 1e-6
# The sum of a soft label may differ from 1 by this, as in single precision.
ROW_SUM = 1e-5
# The distance from 1 to the next larger number of the types that features are read as.
PRECISIONS = {"float32": 2.0**-23, "float64": EPS}
# Numbers of features that are in memory at a time.
BLOCK = 2**19
UNREAD = "not recomputed without the features"


# Step 1: form ------------------------------------------------------------------------------------


class Refused(Exception):
    """A file in the folder does not have the form of a certificate."""


def demand(holds, complaint):
    if not holds:
        raise Refused(complaint)


VERDICTS = (
    "GLOBAL_MINIMUM",
    "MINIMUM_ON_CONVEX_REGION",
    "STRICT_SADDLE",
    "LOCAL_MINIMUM",
    "NOT_CRITICAL",
    "UNDECIDED",
)
KEYS = (
    "format",
    "problem",
    "lam_h_inferred",
    "tol",
    "claims",
    "reason",
    "rounding",
    "notes",
    "minimum_geometry",
    "minimum_reason",
    "environment",
    "source",
    "arrays_sha256",
)
PROBLEM_KEYS = ("loss", "class_counts", "dim", "lam_w", "lam_h", "lam_b")
# Class weights, K if labels are soft, whether samples have weights; the sets of the factors.
MORE_PROBLEM_KEYS = (
    *("class_weights", "outputs", "sample_weights"),
    *("features", "classifier", "temperature"),
)
# Claims that are always a number >= 0, and claims that are such a number or null.
NUMBERS = ("value", "tol", "grad_norm", "critical_tol", "dual_norm", "threshold")
METRICS = ("nc1", "nc2", "nc3", "nc4", "within_between_ratio")
NUMBERS_OR_NULL = (*METRICS, "minimum", "distance", "relative_distance")
OTHER_CLAIMS = ("verdict", "lower_bound", "gap", "escape_curvature")
CLAIM_KEYS = (*NUMBERS, *NUMBERS_OR_NULL, *OTHER_CLAIMS)


@dataclass(frozen=True)
class Problem:
    """The loss, the class sizes, the dimension and the decays."""

    loss: str
    alpha: float
    gamma: float
    scale: float
    target: float
    counts: tuple
    dim: int
    lam_w: float
    lam_h: float
    lam_b: float | None
    class_weights: tuple | None
    # K with soft labels, else None.
    outputs: int | None = None
    weighted: bool = False
    nonnegative: bool = False
    # The norms of rows of W and columns of H on a sphere, which have a decay of 0 here; None: free.
    radius_w: float | None = None
    radius_h: float | None = None
    temperature: float = 1.0
    # From arrays.npz: the soft labels (m x K), and the sums of the weights of each group.
    table: Any = field(default=None, compare=False)
    weight_sums: Any = field(default=None, compare=False)

    @property
    def classes(self):
        """K, the number of logits."""
        return self.outputs or len(self.counts)

    @property
    def groups(self):
        """The number of classes, or of different soft labels."""
        return len(self.counts)

    @property
    def samples(self):
        """The number of columns of H."""
        return sum(self.counts)

    @property
    def sizes(self):
        """The number of samples in each group, counting their weights."""
        return np.array(self.counts, float) if self.weight_sums is None else self.weight_sums

    @property
    def mass(self):
        """N, counting weights."""
        return total(self.sizes)

    @property
    def mu(self):
        return math.sqrt(self.lam_w) * math.sqrt(self.lam_h)

    @property
    def confined(self):
        """Whether vectors of a factor are on a sphere."""
        return self.radius_w is not None or self.radius_h is not None

    @property
    def has_bias(self):
        return self.lam_b is not None

    @property
    def labels(self):
        """The label of every sample; samples are ordered by class."""
        return np.repeat(np.arange(self.groups), self.counts)

    @property
    def factors(self):
        """a of each class: its weight, or 1 without class weights."""
        return np.ones(self.groups) if self.class_weights is None else np.array(self.class_weights)

    @property
    def targets(self):
        """The (smoothed) label of each group, as columns."""
        rows = np.eye(self.classes) if self.table is None else self.table
        return (1.0 - self.alpha) * rows.T + self.alpha * rows.sum(axis=1) / self.classes

    @property
    def label_sums(self):
        """The sum of the entries of each label: 1, but for sets of labels."""
        return np.ones(self.groups) if self.table is None else self.table.sum(axis=1)

    @property
    def shares(self):
        """The share of each group among the samples."""
        return self.sizes / self.mass

    def mean(self, terms):
        """The average over the samples of a number for each class."""
        return total(self.shares * terms)


def read_json(path):
    """Read certificate.json; no key may occur twice, and no number may be NaN or infinite."""

    def unique(pairs):
        keys = [key for key, _ in pairs]
        demand(len(keys) == len(set(keys)), "certificate.json has a key twice")
        return dict(pairs)

    def not_a_number(text):
        raise Refused(f"certificate.json has {text}, which is not a number")

    text = path.read_text(encoding="utf-8")
    return json.loads(text, object_pairs_hook=unique, parse_constant=not_a_number)


def check_keys(name, value, keys, optional=()):
    demand(isinstance(value, dict), f"{name} is not an object")
    missing, unknown = sorted(set(keys) - set(value)), sorted(set(value) - {*keys, *optional})
    demand(not missing, f"{name} lacks {', '.join(missing)}")
    demand(not unknown, f"{name} has unknown fields: {', '.join(unknown)}")


def number(name, value, least=None):
    """Check that a value is a finite number of at least `least`, and not a truth value."""
    kind = isinstance(value, (int, float)) and not isinstance(value, bool)
    demand(kind, f"{name} is not a number")
    demand(abs(value) <= sys.float_info.max, f"{name} is not a finite number")
    demand(least is None or value >= least, f"{name} is below {least}")
    return float(value)


def whole(name, value):
    kind = isinstance(value, int) and not isinstance(value, bool)
    demand(kind and 1 <= value <= 2**40, f"{name} is not a positive whole number")
    return value


def decay(name, value):
    """Check that a value is 0, or so large that products of two such values do not underflow."""
    size = number(name, value, 0.0)
    demand(size == 0.0 or size >= SMALLEST, f"{name} is positive and below {SMALLEST}")
    return size


def loss_numbers(text):
    """Read the name and numbers of a loss: ce, ls:ALPHA, fl:GAMMA, mse:SCALE,TARGET or bce."""
    demand(isinstance(text, str), "loss is not a text")
    name, colon, rest = text.partition(":")
    given = rest.split(",") if colon else []
    for part in given:
        demand(re.fullmatch(r"[0-9.e+-]+", part), f"loss has {part!r} for a number")
    try:
        values = [number("a number of the loss", float(part)) for part in given]
    except ValueError:
        raise Refused("a number of the loss is not a number") from None
    demand([repr(value) for value in values] == given, "loss is not in its canonical form")
    fields = {"ce": (), "ls": ("alpha",), "fl": ("gamma",), "mse": ("scale", "target"), "bce": ()}
    demand(name in fields, "loss is not one of ce, ls, fl, mse and bce")
    demand(len(values) == len(fields[name]), f"loss has {len(values)} numbers")
    numbers = {"alpha": 0.0, "gamma": 0.0, "scale": 1.0, "target": 1.0}
    numbers.update(zip(fields[name], values, strict=True))
    demand(0 <= numbers["alpha"] < 1, "alpha of the loss is not in [0, 1)")
    demand(0 <= numbers["gamma"] <= LARGEST_GAMMA, f"gamma is not in [0, {LARGEST_GAMMA}]")
    demand(numbers["scale"] > 0, "scale of the loss is not positive")
    demand(numbers["target"] > 0, "target of the loss is not positive")
    return name, numbers


def read_problem(given):
    check_keys("problem", given, PROBLEM_KEYS, MORE_PROBLEM_KEYS)
    name, numbers = loss_numbers(given["loss"])
    counts, outputs, lam_b = given["class_counts"], None, given["lam_b"]
    demand(isinstance(counts, list) and len(counts) >= 1, "class_counts is not a list of numbers")
    if "outputs" in given:
        outputs = whole("outputs", given["outputs"])
        plain = name != "fl" and numbers["scale"] == numbers["target"] == 1.0
        demand(plain, "a loss against soft labels is not one of ce, ls, bce and mse:1,1")
    demand((outputs or len(counts)) >= 2, "there are not two classes")
    weighted = given.get("sample_weights", False)
    demand(isinstance(weighted, bool), "sample_weights is not true or false")
    nonnegative = given.get("features") == "nonnegative"
    radius_w = radius("classifier", given.get("classifier"))
    radius_h = None if nonnegative else radius("features", given.get("features"))
    sets, temperature = "features" in given or "classifier" in given, 1.0
    demand(not (sets and name == "fl"), "no bound for the focal loss in sets")
    demand(not (nonnegative and radius_w), "no bound for features in this set beside a sphere")
    if "temperature" in given:
        temperature = number("temperature", given["temperature"], SMALLEST)
        demand(radius_w or radius_h, "a temperature without a sphere")
    for name_, on_sphere in (("lam_w", radius_w), ("lam_h", radius_h)):
        demand((given[name_] is None) == (on_sphere is not None), f"{name_} does not fit the sets")
    free = (radius_w or radius_h) and lam_b is not None and lam_b == 0
    demand(not free, "no bound for a free bias beside a sphere")
    weights = None
    if "class_weights" in given:
        weights = given["class_weights"]
        fits = isinstance(weights, list) and len(weights) == len(counts)
        demand(fits, "class_weights is not a list of one number for each class")
        weights = tuple(number("class_weights", weight, SMALLEST) for weight in weights)
        demand(max(weights) <= 1.0 / SMALLEST, f"class_weights exceed {1.0 / SMALLEST}")
    return Problem(
        loss=name,
        counts=tuple(whole("class_counts", count) for count in counts),
        dim=whole("dim", given["dim"]),
        lam_w=0.0 if radius_w else decay("lam_w", given["lam_w"]),
        lam_h=0.0 if radius_h else decay("lam_h", given["lam_h"]),
        lam_b=None if lam_b is None else decay("lam_b", lam_b),
        class_weights=weights,
        outputs=outputs,
        weighted=weighted,
        nonnegative=nonnegative,
        radius_w=radius_w,
        radius_h=radius_h,
        temperature=temperature,
        **numbers,
    )


def radius(name, text):
    """The radius in sphere or sphere:RADIUS; None if there is no set."""
    if text is None:
        return None
    fits = isinstance(text, str) and re.fullmatch(r"sphere(:[0-9.e+-]+)?", text)
    demand(fits, f"{name} are in an unknown set")
    try:
        size = float(text.partition(":")[2] or 1.0)
    except ValueError:
        raise Refused(f"the radius of {name} is not a number") from None
    demand(
        SMALLEST <= size <= 1.0 / SMALLEST, f"the radius of {name} is not positive, or too large"
    )
    return size


def check_words(told):
    """Check the types of the fields that are not checked further."""
    for name in ("reason", "minimum_geometry", "minimum_reason", "arrays_sha256"):
        demand(isinstance(told[name], str), f"{name} is not a text")
    for name in ("environment", "source"):
        words = told[name]
        fits = isinstance(words, dict) and all(isinstance(word, str) for word in words.values())
        demand(fits, f"{name} is not an object of texts")
    notes = told["notes"]
    fits = isinstance(notes, list) and all(isinstance(note, str) for note in notes)
    demand(fits, "notes is not a list of texts")


def check_claims(claims):
    """Check the types and ranges of the claims, and that related claims occur together."""
    check_keys("claims", claims, CLAIM_KEYS)
    verdict = claims["verdict"]
    demand(isinstance(verdict, str) and verdict in VERDICTS, "verdict is unknown")
    for name in NUMBERS:
        if name != "dual_norm" or claims[name] is not None:
            number(name, claims[name], 0.0)
    for name in NUMBERS_OR_NULL:
        if claims[name] is not None:
            number(name, claims[name], 0.0)
    for name in ("lower_bound", "gap"):
        if claims[name] is not None:
            number(name, claims[name])
    if claims["nc4"] is not None:
        demand(claims["nc4"] <= 1, "nc4 is a fraction and exceeds 1")
    known = [claims[name] is not None for name in ("lower_bound", "gap")]
    demand(known[0] == known[1], "one of lower_bound and gap is missing")
    known = [claims[name] is not None for name in ("minimum", "distance")]
    demand(known[0] == known[1], "one of minimum and distance is missing")
    demand(known[0] or claims["relative_distance"] is None, "relative_distance without minimum")
    if verdict == "STRICT_SADDLE":
        bend = number("escape_curvature", claims["escape_curvature"])
        demand(bend < 0, "escape_curvature is not negative")
    else:
        demand(claims["escape_curvature"] is None, "escape_curvature without a strict saddle")


def check_told(told):
    """Check the form of certificate.json."""
    check_keys("certificate.json", told, KEYS, ("features",))
    demand(told["format"] == 1 and type(told["format"]) is int, "format is not 1")
    demand(isinstance(told["lam_h_inferred"], bool), "lam_h_inferred is not true or false")
    if told["tol"] is not None:
        demand(number("tol", told["tol"], 0.0) < 1, "tol is not below 1")
    if told["rounding"] is not None:
        number("rounding", told["rounding"], 0.0)
    check_words(told)
    check_claims(told["claims"])
    if "outputs" in told["problem"]:
        none = all(told["claims"][name] is None for name in METRICS)
        demand(none, "the NC metrics compare classes, which soft labels are not")
    on_spheres = set()
    if "features" in told["problem"] or "classifier" in told["problem"]:
        demand("features" not in told, "features in other files are in no set")
        sets = (told["problem"].get(name) for name in ("features", "classifier"))
        on_spheres = {x for x in sets if x not in (None, "nonnegative")}
        alone = on_spheres or told["claims"]["minimum"] is None
        demand(alone, "non-negative features have no stored minimiser")
    known = on_spheres or told["claims"]["dual_norm"] is not None
    demand(known, "dual_norm is not a number")


def check_features(problem, told):
    """Check the form of the entry on features in other files; return the number of rows in each."""
    features = told["features"]
    check_keys("features", features, ("dtype", "layout", "shards"))
    demand(features["dtype"] in tuple(PRECISIONS), "dtype of features is unknown")
    demand(features["layout"] in ("rows", "columns"), "layout of features is unknown")
    shards, rows = features["shards"], []
    demand(isinstance(shards, list) and len(shards) > 0, "shards is not a list of files")
    for shard in shards:
        check_keys("a shard", shard, ("file", "shape", "sha256"))
        path, shape = shard["file"], shard["shape"]
        demand(path is None or isinstance(path, str), "file of a shard is not a text")
        demand(isinstance(shard["sha256"], str), "sha256 of a shard is not a text")
        pair = isinstance(shape, list) and len(shape) == 2
        demand(pair, "shape of a shard is not a pair of numbers")
        count, dim = map(functools.partial(whole, "shape of a shard"), in_rows(features, shape))
        demand(dim == problem.dim, "shape of a shard does not match dim")
        rows.append(count)
    sought = told["claims"]["verdict"] not in ("STRICT_SADDLE", "LOCAL_MINIMUM")
    demand(sought, "verdict is one that reading in blocks does not give")
    return rows


def in_rows(features, pair):
    """The shape or array of a shard with a row for each sample."""
    return pair if features["layout"] == "rows" else pair[::-1]


def precision_of(told):
    """The precision in which the writer computed products; 0 if it did not read in blocks."""
    return PRECISIONS[told["features"]["dtype"]] if "features" in told else 0.0


def shapes_of_arrays(problem, claims, stored):
    """The required arrays and their shapes. Other arrays are refused.

    `stored` is the number of labels if the features are in other files, None if they are here.
    """
    K, d, N, m = problem.classes, problem.dim, problem.samples, problem.groups
    if stored is None:
        shapes = {"labels": (N,), "order": (N,), "W": (K, d), "H": (d, N)}
    else:
        shapes = {"labels": (stored,), "W": (K, d), "dual": (K, m), "offset": (d,)}
    if problem.outputs is not None:
        shapes["targets"] = (m, K)
    if problem.weighted:
        shapes["sample_weights"] = shapes["labels"]
    if problem.has_bias:
        shapes["b"] = (K,)
    if claims["verdict"] == "STRICT_SADDLE":
        shapes["escape_W"], shapes["escape_H"] = (K, d), (d, N)
    if claims["minimum"] is not None:
        shapes["minimum_W"], shapes["minimum_H"] = (K, d), (d, m)
        if problem.has_bias:
            shapes["minimum_b"] = (K,)
    return shapes


def read_arrays(content, shapes):
    """Read the arrays: each once, no others, with finite float64 numbers."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        demand(len(names) == len(set(names)), "arrays.npz has an array twice")
        present = {name[:-4] for name in names if name.endswith(".npy")}
        missing, unknown = sorted(set(shapes) - present), sorted(present - set(shapes))
        demand(not missing, f"arrays.npz lacks {', '.join(missing)}")
        demand(not unknown, f"arrays.npz has superfluous arrays: {', '.join(unknown)}")
        demand(len(names) == len(shapes), "arrays.npz has a member that is not an array")
        for name, shape in shapes.items():
            stored = io.BytesIO(archive.read(name + ".npy"))
            array = np.lib.format.read_array(stored, allow_pickle=False)
            demand(array.shape == shape, f"{name} has shape {array.shape}, not {shape}")
            arrays[name] = (whole_numbers if name in ("labels", "order") else real)(name, array)
    return arrays


def real(name, array):
    """Check for float64 of either byte order."""
    double = array.dtype.kind == "f" and array.dtype.itemsize == 8
    demand(double, f"{name} has dtype {array.dtype}, not float64")
    demand(np.all(np.isfinite(array)), f"{name} has entries that are not finite")
    return np.array(array, dtype=np.float64, order="C")


def whole_numbers(name, array):
    demand(array.dtype.kind == "i", f"{name} has dtype {array.dtype}, not signed whole numbers")
    return np.array(array, dtype=np.int64)


def check_labels(problem, arrays):
    """Check labels and order.

    In memory, labels are ordered by class with the numbers of class_counts. Samples in other files
    have any order, and the label -1 if they do not count.
    """
    if "order" not in arrays:
        labels = arrays["labels"]
        inside = labels.min() >= -1 and labels.max() < problem.groups
        demand(inside, "labels are not classes, or -1")
        numbers = np.bincount(labels[labels >= 0], minlength=problem.groups)
        demand(tuple(numbers.tolist()) == problem.counts, "labels do not match class_counts")
        return
    ordered = np.array_equal(arrays["labels"], problem.labels)
    demand(ordered, "labels do not match class_counts, ordered by class")
    once = np.array_equal(np.sort(arrays["order"]), np.arange(problem.samples))
    demand(once, "order is not a permutation of the samples")


def with_arrays(problem, arrays):
    """The problem with its soft labels and the sums of its sample weights, which are checked."""
    inside = not problem.nonnegative or arrays["H"].min() >= 0
    demand(inside, "H has negative entries, against the problem")
    roots = np.sqrt(arrays["sample_weights"]) if problem.weighted and problem.radius_h else 1.0
    for name, size, share in (
        ("W", problem.radius_w, 1.0),
        ("minimum_W", problem.radius_w, 1.0),
        ("H", problem.radius_h, roots),
        ("minimum_H", problem.radius_h, 1.0),
    ):
        if size is not None and name in arrays:
            vectors = arrays[name].T if name.endswith("W") else arrays[name]
            off = np.abs(columns(vectors) / share - size).max()
            demand(off <= OFF_SPHERE * size, f"{name} has vectors that are not on the sphere")
    rows, weights = arrays.get("targets"), arrays.get("sample_weights")
    if rows is not None and problem.loss == "bce":
        demand(np.all((rows >= 0) & (rows <= 1)), "targets are not numbers from 0 to 1")
    elif rows is not None and problem.loss != "mse":
        soft = np.all(rows >= 0, axis=1) & (np.abs(rows.sum(axis=1) - 1.0) <= ROW_SUM)
        sets = np.all((rows == 0) | (rows == 1), axis=1) & np.any(rows == 1, axis=1)
        demand(np.all(soft | sets), "targets are neither distributions nor sets of labels")
    if weights is None:
        return replace(problem, table=rows)
    kept = arrays["labels"] >= 0
    weights, labels = weights[kept], arrays["labels"][kept]
    usual = weights.min() >= SMALLEST and weights.max() <= 1.0 / SMALLEST
    demand(usual, "sample_weights are not positive, or too large")
    sums = np.bincount(labels, weights, minlength=problem.groups)
    return replace(problem, table=rows, weight_sums=sums)


# Step 2: the model -------------------------------------------------------------------------------


def total(terms):
    """The sum of all entries, exact except for one rounding at the end."""
    try:
        return math.fsum(np.asarray(terms).ravel().tolist())
    except OverflowError:
        return math.inf


def length(x):
    """Root of the sum of squares, without overflow or underflow of squares."""
    x = np.asarray(x)
    largest = float(np.max(np.abs(x), initial=0.0))
    if largest == math.inf:
        return math.inf
    return largest * math.sqrt(total((x / largest) ** 2)) if largest > 0 else 0.0


def columns(x):
    """Root of the sum of squares of each column."""
    largest = np.max(np.abs(x), axis=0)
    scale = np.where(largest > 0, largest, 1.0)
    return largest * np.sqrt(np.sum((x / scale) ** 2, axis=0))


@dataclass(frozen=True)
class Losses:
    """a_i L(v_i, y_i) for all samples at once, its derivatives, and their rounding errors."""

    # (N,) and (K, N): a L and its gradient.
    value: np.ndarray
    gradient: np.ndarray
    # From directions q (K, N) of the logits to Hessian times q, sample by sample.
    hessian: Callable
    # (N,) in units of EPS: errors of L, to be multiplied by K + 16, and of |gradient|.
    value_error: np.ndarray
    gradient_error: np.ndarray
    # (N,) -log p_y of a softmax loss.
    surprise: Any = None


def squared_losses(problem, labels, V, sizes):
    """L = 1/2 [scale (z_y - target)^2 + sum of the other z_j^2], or 1/2 |z - y|^2."""
    pull = problem.target * problem.targets[:, labels]
    weight = output_weights(problem)[:, labels]
    residual = V - pull
    gradient = weight * residual
    value = 0.5 * np.sum(gradient * residual, axis=0)
    size = np.abs(V) + np.abs(pull)
    return Losses(
        value=value,
        gradient=gradient,
        hessian=lambda q: weight * q,
        value_error=value + np.sum(np.abs(gradient) * size, axis=0),
        gradient_error=max(problem.scale, 1.0) * (columns(sizes) + columns(pull)),
    )


def output_weights(problem):
    """The weights of the squared outputs, as columns for each group."""
    if problem.table is not None:
        return np.ones((problem.classes, problem.groups))
    return np.where(np.eye(problem.classes) > 0, problem.scale, 1.0)


def soft_losses(problem, labels, V, sizes):
    """L = -sum_j y_j log p_j for soft labels y, which sum to |y|."""
    y, mass = problem.targets[:, labels], problem.label_sums[labels]
    top = V.max(axis=0)
    # The largest is left out of the sum, so that no digits are lost if its probability is near 1.
    first = np.arange(len(V))[:, None] == V.argmax(axis=0)
    others = np.sum(np.where(first, 0.0, np.exp(V - top)), axis=0)
    value = np.sum(y * ((top - V) + np.log1p(others)), axis=0)
    p = np.exp(V - top) / (1.0 + others)

    def hessian(q):
        q = q - np.take_along_axis(q, p.argmax(axis=0)[None], axis=0)
        return mass * p * (q - np.sum(p * q, axis=0))

    return Losses(
        value=value,
        gradient=mass * p - y,
        hessian=hessian,
        value_error=2.0 * value + mass * (2.0 * np.max(np.abs(V), axis=0) + 1.0),
        gradient_error=mass * (2.0 + columns(sizes)) * columns(p) + 2.0 * columns(y),
    )


def softmax_losses(problem, labels, V, sizes):
    """L = (1 - p_y)^gamma (-log p_y), or cross-entropy against smoothed labels.

    Everything is written in t, the log-odds against the label: u = 1 - p_y = 1 / (1 + exp(-t)) and
    ell = -log p_y = log(1 + exp(t)). No digits are lost if p_y is close to 0 or 1.
    """
    K, on_label = problem.classes, np.eye(problem.classes)[:, labels]
    gamma, share = problem.gamma, problem.alpha / K
    margins = V - V[labels, np.arange(len(labels))]
    others = np.where(on_label > 0, -np.inf, margins)
    top = others.max(axis=0)
    unit = np.exp(others - top)
    t = top + np.log(unit.sum(axis=0))
    log_u = -np.logaddexp(0.0, -t)
    ell, u, p_y = np.logaddexp(0.0, t), np.exp(log_u), np.exp(-np.logaddexp(0.0, t))
    away = unit / unit.sum(axis=0) - on_label  # (p - e_y) / u
    p = np.where(on_label > 0, p_y, u * away)
    ratio = np.where(u < 1e-8, 1.0 + 0.5 * u, ell / np.maximum(u, 1e-8))
    # u^gamma ell as a function of ell: its derivative, and u^2 times its second derivative.
    power = np.exp(gamma * log_u)
    first = power * (1.0 + gamma * p_y * ratio)
    second = gamma * power * u * p_y * (2.0 - ell + (gamma - 1.0) * p_y * ratio)

    def hessian(q):
        # (diag p - p p') q, after a shift of q that avoids cancellation.
        q = q - np.take_along_axis(q, p.argmax(axis=0)[None], axis=0)
        softmax_part = first * p * (q - np.sum(p * q, axis=0))
        return softmax_part + second * away * np.sum(away * q, axis=0)

    gradient = first * u * away - share * (1.0 - K * on_label)
    size = 2.0 * np.max(np.abs(V), axis=0) + np.abs(t) + 1.0
    condition = 1.0 + gamma * np.abs(log_u)
    logit_length = 1.0 + columns(sizes)
    if problem.loss == "ls":
        gradient_error = 2.0 * logit_length * u + problem.alpha
    else:
        gradient_error = (1.0 + gamma) * logit_length * columns(gradient)
    return Losses(
        value=power * ell - share * margins.sum(axis=0),
        gradient=gradient,
        hessian=hessian,
        value_error=condition * (power * ell + (first * u + problem.alpha) * size),
        gradient_error=gradient_error,
        surprise=ell,
    )


def logistic_losses(problem, labels, V, sizes):
    """L = sum_j log(1 + exp(z_j)) - y_j z_j, with y_j in [0, 1].

    No digits are lost where y_j is 0 or 1 and the output is close to it.
    """
    y = problem.targets[:, labels]
    up, down = np.exp(-np.logaddexp(0.0, -V)), np.exp(-np.logaddexp(0.0, V))  # sigmoids of +-z
    value = np.sum((1.0 - y) * np.logaddexp(0.0, V) + y * np.logaddexp(0.0, -V), axis=0)
    steep = (1.0 - y) * up + y * down
    return Losses(
        value=value,
        gradient=(1.0 - y) * up - y * down,
        hessian=lambda q: up * down * q,
        value_error=2.0 * value + np.sum(steep * np.abs(V), axis=0),
        gradient_error=(2.0 + columns(sizes)) * columns(steep),
    )


def losses_at(problem, labels, V, sizes):
    """The losses of samples with these labels, times their weights."""
    of_labels = softmax_losses if problem.table is None else soft_losses
    of_labels = {"mse": squared_losses, "bce": logistic_losses}.get(problem.loss, of_labels)
    plain = of_labels(problem, labels, V, sizes)
    a = problem.factors[labels]
    return Losses(
        value=a * plain.value,
        gradient=a * plain.gradient,
        hessian=lambda q: a * plain.hessian(q),
        value_error=a * plain.value_error,
        gradient_error=a * plain.gradient_error,
        surprise=plain.surprise,
    )


def derivative_bounds(problem):
    """Bounds on the second and third derivative of a L along unit directions."""
    most = float(problem.factors.max())
    if problem.loss == "mse":
        return most * max(1.0, problem.scale), 0.0
    if problem.loss == "fl":
        steep = 1.0 + problem.gamma
        return most * 1.5 * steep, most * steep * steep
    if problem.loss == "bce":
        return most * 0.25, most * 0.1
    most = float((problem.factors * problem.label_sums).max())
    return most, most


@dataclass(frozen=True)
class Dual:
    """A matrix Gamma from which `lower_bound` makes dual points.

    Only its class averages are needed: they bound at least as well (Jensen), with K columns for N.
    """

    # N times the average of Gamma over each class, as columns.
    averages: np.ndarray
    # |Gamma|, |<Gamma, V>|, the sums of its rows, and bounds on the errors of those.
    size: float
    inner: float
    row_sums: np.ndarray
    row_errors: np.ndarray
    # The error of Gamma.
    noise: float
    # A value of f, not below the minimum, and its `rounding` and `long_rounding`.
    value: float
    rounding: float
    long_rounding: float


@dataclass(frozen=True)
class Point:
    """A point (W, H, b), f and its gradient there, and bounds on their rounding errors."""

    W: np.ndarray
    # Its features h_i as columns and the samples c_i that each stands for, or None if they are too
    # many to be kept.
    H: Any
    c: Any
    b: np.ndarray | None
    value: float
    grad_norm: float
    # |H| and |(W, H, b)|.
    feature_size: float
    size: float
    # Largest singular value of Gamma, or what takes its place, from below and above; and Gamma as
    # the source of bounds.
    dual_norm: tuple
    dual: Dual
    # Bounds on rounding errors: of f here, of f if sums are added up term by term, of Gamma, of
    # the gradient.
    rounding: float
    long_rounding: float
    gamma_noise: float
    grad_noise: float
    # The further error of f for a writer that read the features in blocks.
    narrow: float
    # The largest -log p_y of a softmax loss.
    surprise: float


def one_block(problem, H, weights=None):
    """The samples of a point in memory, sqrt(c_i) h_i, as the only block of `evaluate`."""
    c = np.ones(problem.samples) if weights is None else weights
    return [(H / np.sqrt(c), problem.labels, c)]


def by_class(x, labels, classes):
    """The sum of the columns of each class."""
    order = np.argsort(labels, kind="stable")
    present, first = np.unique(labels[order], return_index=True)
    sums = np.zeros((len(x), classes))
    sums[:, present] = np.add.reduceat(x[:, order], first, axis=1)
    return sums


def evaluate(problem, W, b, blocks, writer=None):
    """Compute the quantities of a point that the checks need.

    A block has columns H (d x m), their labels, and the numbers c of samples that they stand for.
    If the writer of the certificate read them in blocks, too, `writer` has the class means, the
    precision of its products W (h - class mean), and N |offset|^2.
    """
    K, d, N, m = problem.classes, problem.dim, problem.samples, problem.groups
    mass = problem.mass
    means, eps, moved = writer or (np.zeros((d, m)), 0.0, 0.0)
    A = W / problem.temperature
    # The error of a logit for the writer, over |h - class mean|.
    unit = (d + 8) * eps * float(columns(W.T).max())
    shift = np.zeros(K) if b is None else b
    lam_b, (second, _) = problem.lam_b or 0.0, derivative_bounds(problem)
    sums, products, gram, row_sizes = np.zeros((K, m)), np.zeros((K, d)), np.zeros((K, K)), 0.0
    scalars, surprise = [], 0.0
    for H, labels, c in blocks:
        roots = np.sqrt(c)
        V = A @ H + shift[:, None]
        sizes = np.abs(A) @ np.abs(H) + np.abs(shift)[:, None]
        spread = columns(H - means[:, labels]) if writer else np.zeros(len(c))
        # Rounding errors of a long sum behave as a random walk (Higham and Mary, 2019).
        losses = losses_at(problem, labels, V, sizes + unit * spread / (EPS * math.sqrt(d + 8)))
        gamma = losses.gradient * (c / mass)
        demand(np.all(np.isfinite(gamma)), "the gradient of the loss overflows at a point")
        G = gamma / roots
        surprise = surprise if losses.surprise is None else max(surprise, *losses.surprise)
        sums += by_class(gamma, labels, m)
        products += gamma @ H.T / problem.temperature
        gram += G @ G.T
        row_sizes = row_sizes + np.abs(gamma).sum(axis=1)
        own = by_logits(losses, second, (d + 8) * EPS * sizes)
        own += (K + 16) * EPS * losses.value_error
        features = roots * columns(H)
        scalars.append(
            (
                total(c * losses.value),
                total(c * np.abs(losses.value)),
                total(c * own),
                total(c * by_logits(losses, second, unit * spread)),
                total(np.sum(gamma * V, axis=0)),
                total(features**2),
                # Norms.
                length(features),
                length(roots * spread),
                length(columns(feasible(problem, H, A.T @ G + problem.lam_h * roots * H))),
                length(columns(G)),
                length(roots * losses.gradient_error),
            )
        )
    parts = list(zip(*scalars, strict=True))
    loss, loss_size, own, lost, inner, square = map(total, parts[:6])
    feature_size, spread, grad_h, size, error = map(length, parts[6:])
    penalty = problem.lam_w * total(W**2) + problem.lam_h * square + lam_b * total(shift**2)
    penalty *= 0.5
    grad_b = np.zeros(1) if b is None else sums.sum(axis=1) + lam_b * b
    value = loss / mass + penalty
    grad_w = products + problem.lam_w * W
    grad_w = grad_w if problem.radius_w is None else tangent(W.T, grad_w.T)
    grad_norm = length([length(grad_w), grad_h, length(grad_b)])
    finite = math.isfinite(value) and math.isfinite(grad_norm)
    demand(finite, "f or its gradient overflows at a point")
    # The error of a sum of m terms is at most m EPS times the sum of their absolute values.
    rounding = own / mass + EPS * (8 * loss_size / mass + (d + 8) * penalty)
    longer = EPS * ((N + 8) * loss_size / mass + (max(K, N) * d + 8) * penalty)
    gamma_noise = EPS * error / mass
    # Products overflow to infinity, and powers raise an error.
    of_means = length(sums / np.sqrt(problem.sizes))
    apart = math.sqrt(max(size * size - of_means * of_means, 0.0))
    grad_noise = gradient_rounding(problem, W, feature_size, b, size, gamma_noise)
    grad_noise += product_rounding(problem, length(W), apart, spread, grad_norm, eps)
    dual = Dual(
        averages=sums / problem.shares,
        size=size,
        inner=abs(inner),
        row_sums=np.abs([total(row) for row in sums]),
        row_errors=(N + K + 64) * EPS * row_sizes,
        noise=gamma_noise,
        value=value,
        rounding=rounding,
        long_rounding=own / mass + longer,
    )
    kept = isinstance(blocks, list)
    return Point(
        W=W,
        H=blocks[0][0] if kept else None,
        c=blocks[0][2] if kept else None,
        b=b,
        value=value,
        grad_norm=grad_norm,
        feature_size=feature_size,
        size=length([length(W), feature_size, length(shift)]),
        dual_norm=dual_norm(problem, gram, sums),
        dual=dual,
        rounding=rounding,
        long_rounding=own / mass + longer,
        gamma_noise=gamma_noise,
        grad_noise=grad_noise,
        narrow=lost / mass + (d + N) * EPS * problem.lam_h * moved,
        surprise=float(surprise),
    )


def feasible(problem, H, gradient):
    """The gradient without what would lead out of H >= 0, or off the sphere."""
    if problem.radius_h is not None:
        return tangent(H, gradient)
    return np.where((H > 0) | (gradient < 0), gradient, 0.0) if problem.nonnegative else gradient


def tangent(x, direction):
    """The part of each column that is orthogonal to that of x."""
    return direction - x * (np.sum(x * direction, axis=0) / np.sum(x * x, axis=0))


def dual_norm(problem, gram, sums):
    """That of Gamma, of which these are the Gram matrix and the sums over groups."""
    if problem.nonnegative:
        return polar(sums / np.sqrt(problem.sizes))
    size = math.sqrt(max(float(np.linalg.eigvalsh(gram)[-1]), 0.0))
    return size, size


def polar(G):
    """max {|G v| : v >= 0, |v| = 1} from below and, but for rounding, from above.

    With A = G' G, it is at most the largest eigenvalue of max(A, 0) (Perron and Frobenius). A
    maximiser whose support S is smallest is the only top eigenvector of A on S, and positive.
    """
    A = G.T @ G
    values, vectors = np.linalg.eigh(np.maximum(A, 0.0))
    square, perron = max(float(values[-1]), 0.0), np.abs(vectors[:, -1:])
    V = np.hstack([np.eye(len(A)), perron])
    for _ in range(100):  # along which |G v| does not fall
        image = np.maximum(A @ V, 0.0)
        sizes = np.linalg.norm(image, axis=0)
        V = np.where(sizes > 0, image / np.where(sizes > 0, sizes, 1.0), V)
    below = float(np.linalg.norm(G @ V, axis=0).max())
    if below**2 < square * (1.0 - 16 * EPS) and len(A) <= MOST_FACES:
        square = min(square, best_face(A))
    return below, max(math.sqrt(square), below)


def best_face(A):
    """The largest top eigenvalue of A on a set of classes whose eigenvector is not negative.

    Where rounding may hide the sign of the eigenvector, because the top is not simple, a smaller
    set has almost its value: `spread` is added for every class that is left out.
    """
    n, best = len(A), 0.0
    spread = n * n * EPS * NEARLY_SIMPLE
    sets = np.arange(1, 2**n)[:, None] >> np.arange(n) & 1
    for size in range(1, n + 1):
        members = np.nonzero(sets[sets.sum(axis=1) == size])[1].reshape(-1, size)
        values, vectors = np.linalg.eigh(A[members[:, :, None], members[:, None, :]])
        tops = vectors[:, :, -1]
        tops = tops * np.where(tops.sum(axis=1) < 0, -1.0, 1.0)[:, None]
        allowed = tops.min(axis=1) >= -HIDDEN_SIGN
        best = max(best, float(np.max(values[:, -1], where=allowed, initial=0.0)))
    return best * (1.0 + spread)


def by_logits(losses, second, error):
    """A bound on the change of each loss if its logits are off by `error`."""
    return np.sum(np.abs(losses.gradient) * error + second * error**2, axis=0)


def product_rounding(problem, size_w, size_gamma, size_delta, grad_norm, eps):
    """Estimated error of |grad f| from products of deviations from class means, in this precision.

    The sizes are |W|, and those of the deviations of Gamma and H.
    """
    eps = math.sqrt(max(problem.samples, problem.dim, problem.classes)) * eps
    terms = size_w * size_gamma + problem.lam_h * size_delta
    lost = eps * terms * terms
    return eps * size_gamma * size_delta + min(math.sqrt(lost), lost / max(grad_norm, 1e-300))


def gradient_rounding(problem, W, feature_size, b, gamma_size, gamma_noise):
    """Estimated error of |grad f|, below which the norm of a gradient is meaningless."""
    factors = length(W) + feature_size
    terms = gamma_size * factors + problem.lam_w * length(W) + problem.lam_h * feature_size
    reach = factors
    if b is not None:
        terms += gamma_size + problem.lam_b * length(b)
        reach += math.sqrt(problem.samples)
    longest = max(problem.samples, problem.dim, problem.classes)
    return math.sqrt(longest) * EPS * terms + gamma_noise * reach


def losses_of(problem, point):
    """The losses of all samples of a point in memory."""
    shift = np.zeros(problem.classes) if point.b is None else point.b
    A = point.W / problem.temperature
    sizes = np.abs(A) @ np.abs(point.H) + np.abs(shift)[:, None]
    return losses_at(problem, problem.labels, A @ point.H + shift[:, None], sizes)


def forces(problem, point):
    """The gradients of the loss term in W and in sqrt(c_i) h_i."""
    G = losses_of(problem, point).gradient * (np.sqrt(point.c) / problem.mass)
    G = G / problem.temperature
    return G @ (np.sqrt(point.c) * point.H).T, point.W.T @ G


def multipliers(problem, point):
    """Those of the norms of the rows of W and the columns of H; 0 for a factor that is free."""
    by_W, by_H = forces(problem, point)
    roots, a, beta = np.sqrt(point.c), np.zeros(problem.classes), np.zeros(problem.samples)
    if problem.radius_w is not None:
        a = -np.sum(point.W * by_W, axis=1) / problem.radius_w**2
    if problem.radius_h is not None:
        beta = -np.sum(roots * point.H * by_H, axis=0) / (roots * problem.radius_h) ** 2
    return a, beta


def curvature(problem, point, dW, dH):
    """The second derivative of f along (dW, dH, 0), by its formula, and its rounding error.

    H, and so dH, has the columns sqrt(c_i) h_i.
    """
    losses, share, moves = losses_of(problem, point), point.c / problem.mass, dH / np.sqrt(point.c)
    q = (dW @ point.H + point.W @ moves) / problem.temperature
    bent = share * q * losses.hessian(q)
    mixed = 2.0 * share * losses.gradient * (dW @ moves) / problem.temperature
    a, beta = multipliers(problem, point) if problem.confined else (np.zeros(1), np.zeros(1))
    of_norms = total(a * np.sum(dW**2, axis=1)) + total(beta * np.sum(dH**2, axis=0))
    decays = problem.lam_w * total(dW**2) + problem.lam_h * total(dH**2)
    size = total(np.abs(bent)) + total(np.abs(mixed)) + decays + abs(of_norms)
    noise = (problem.classes + problem.dim + 64) * EPS * size + point.gamma_noise
    return total(bent) + total(mixed) + decays + of_norms, noise


def theory_direction(problem, point):
    """The unit descent direction at a critical point with |Gamma|_2 > mu and rank W < d.

    It leaves the row space of W (Zhou et al., 2022).
    """
    outside = np.linalg.svd(point.W)[2][-1]
    balance = (problem.lam_h / problem.lam_w) ** 0.25
    size = math.hypot(balance, 1.0 / balance)
    gradient = np.sqrt(point.c) * losses_of(problem, point).gradient
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    dW = -balance / size * np.outer(left[:, 0], outside)
    return dW, np.outer(outside, right[0]) / (balance * size)


def slope(problem, point, dW, dH):
    """The derivative of f along (dW, dH, 0)."""
    roots = np.sqrt(point.c)
    G = losses_of(problem, point).gradient * roots / problem.mass
    H = roots * point.H
    by_W = G @ H.T + problem.lam_w * point.W
    return total(by_W * dW) + total((point.W.T @ G + problem.lam_h * H) * dH)


def third_derivative_bound(problem, point):
    """A bound on the third derivative of f along unit directions."""
    second, third = derivative_bounds(problem)
    c = point.c
    m = np.sqrt(columns(point.H) ** 2 + np.linalg.norm(point.W, 2) ** 2 / c + 1.0)
    bound = (third * total(c * m**3) + 6.0 * second * length(np.sqrt(c) * m)) / problem.mass
    return bound / min(problem.temperature, 1.0) ** 3


def is_descent(problem, point, bend, noise, uphill=0.0):
    """Whether this curvature is negative, also at the exact critical point nearby.

    This holds if it exceeds its rounding error, and is too large to result from the gradient, or
    from a slope `uphill`.
    """
    remaining = 16.0 * (point.grad_norm + uphill) * third_derivative_bound(problem, point)
    return bend < -noise and bend * bend > remaining


# Step 3: bounds ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """A lower bound on f.

    Rounding errors have been subtracted from `lower`; `rounding` is their size. `long_rounding` is
    their size for a program that sums term by term, as the writer of a certificate may.
    """

    lower: float
    rounding: float
    long_rounding: float


NO_BOUND = Bound(-math.inf, math.inf, math.inf)


def lower_bound(problem, dual):
    """The best known bound from multiples of Gamma."""
    if not problem.mu > 0:
        return NO_BOUND
    if problem.loss == "fl":
        plain = problem.class_weights is None and not problem.weighted
        balanced = len(set(problem.counts)) == 1 and plain
        return focal_bound(problem, dual) if balanced else NO_BOUND
    plain = dual_bound(problem, dual, dual.averages, centred=False)
    if not problem.has_bias:
        return plain
    # With row sums of 0 the bias term vanishes.
    centred = dual.averages - (dual.averages * problem.shares).sum(axis=1, keepdims=True)
    return max(plain, dual_bound(problem, dual, centred, centred=True), key=lambda b: b.lower)


def bound_at(problem, point, means):
    """The bound from a point, of which the class means are known."""
    if not problem.confined:
        return lower_bound(problem, point.dual)
    return sphere_bound(problem, point, means)


def sphere_bound(problem, point, means):
    """f >= g(V) - <Gamma, V> - S(G) - |Gamma 1|^2 / (2 lam_b), V the logits of the class means.

    By Jensen, class means bound f, and their norms are at most the radii. With D the radii, G the
    gradient in Z, and multipliers a, beta, S(G) = max -<G, W H> - decays is at most half of the
    trace of diag(a, beta) if [[diag a, D G D], [., diag beta]] is positive semidefinite. Those of
    the point are raised where it is not. For balanced classes a scalar bound may be better.
    """
    W, b, tau = point.W, point.b, problem.temperature
    shift = np.zeros((problem.classes, 1)) if b is None else b[:, None]
    V, roots = W @ means / tau + shift, np.sqrt(problem.sizes)
    sizes = np.abs(W) @ np.abs(means) / tau + np.abs(shift)
    losses = losses_at(problem, np.arange(problem.groups), V, sizes)
    gamma, H = losses.gradient * problem.shares, means * roots
    G = gamma / (tau * roots)
    cost, slack = support(problem, W, H, G)
    inner, bias = gamma * V, 0.0
    own = by_logits(losses, derivative_bounds(problem)[0], (problem.dim + 8) * EPS * sizes)
    own = problem.mean(own + (problem.classes + 16) * EPS * losses.value_error)
    # Gamma is off by this, which costs as much times the distance to Z of other points.
    off = EPS * (64 * length(G) + length(problem.shares * losses.gradient_error / roots) / tau)
    reach = largest_product(problem, point.value + point.rounding) + length(W @ H)
    slack += own + off * reach + (inner.size + 16) * EPS * total(np.abs(inner))
    if b is not None:
        sums, error = gamma.sum(axis=1), (gamma.size + 64) * EPS * length(gamma)
        size = length(sums) + error + 4 * off * problem.mass**0.5
        bias = size * size / (2.0 * problem.lam_b)
        slack += (size - length(sums)) * (size / problem.lam_b + length(b))
    lower = problem.mean(losses.value) - total(inner) - cost - bias - slack
    longer = 16 * slack + 16 * (problem.samples + 64) * EPS * (
        abs(point.value) + total(np.abs(inner))
    )
    found = Bound(lower, slack + point.rounding, longer + 2.0 * point.long_rounding)
    known = max(scalar_bound(problem), least_loss(problem))
    if found.lower >= known:
        return found
    return Bound(known, point.rounding, 1e-12 * abs(known) + longer + 2.0 * point.long_rounding)


def support(problem, W, H, G):
    """S(G) from above, and the part of it that is for rounding."""
    K, m = G.shape
    radii_h = None if problem.radius_h is None else problem.radius_h * np.sqrt(problem.sizes)
    if problem.radius_w is not None and radii_h is not None:
        inside = problem.radius_w * G * radii_h
        a, beta = -np.sum(W * (G @ H.T), axis=1), -np.sum(H * (W.T @ G), axis=0)
        M = np.block([[np.diag(a), inside], [inside.T, np.diag(beta)]])
        error = 16 * (K + m) * EPS * length(M)
        lift = max(error - float(np.linalg.eigvalsh(M)[0]), 0.0)
        sums = max(total(a + lift), 0.0), max(total(beta + lift), 0.0)
        top = float(np.linalg.svd(inside, compute_uv=False)[0])
        found = min(math.sqrt(sums[0] * sums[1]), math.sqrt(K * m) * top * (1.0 + (K + m) * EPS))
        return found, 0.5 * (K + m) * error + (K + m + 64) * EPS * found
    X, C, radii, lam = H, G, radii_h, problem.lam_w
    if radii is None:
        X, C, radii, lam = W.T, G.T, np.full(K, problem.radius_w), problem.lam_h
    gram, n = C.T @ C, len(radii)
    inside, beta = radii[:, None] * gram * radii, np.sum(X * (X @ gram), axis=0)
    error = EPS * (len(C) + 16 * n) * (float(np.trace(inside)) + length(beta))
    lift, most = (
        max(float(np.linalg.eigvalsh(x)[-1]) + error, 0.0) for x in (inside - np.diag(beta), inside)
    )
    image = min(total(beta) + n * lift, n * most)
    return 0.5 * image / lam, 0.5 * n * error / lam + (K + m + 64) * EPS * image / lam


def largest_product(problem, value):
    """A bound on |W| |H| at points that are not above this value."""

    def most(radius, count, lam):
        if radius is not None:
            return radius * math.sqrt(count)
        return math.sqrt(2.0 * value / lam) if lam > 0 else math.inf

    of_w = most(problem.radius_w, problem.classes, problem.lam_w)
    return of_w * most(problem.radius_h, problem.mass, problem.lam_h)


def scalar_bound(problem):
    """min phi(s) + rate s^2 / 2 for balanced classes, over s <= s_max if both are on spheres.

    phi is the loss at equal margins s, convex here: mean margins are at most s_max, or cost decay.
    """
    K, alpha, tau = problem.classes, problem.alpha, problem.temperature
    plain = problem.table is None and problem.class_weights is None and not problem.weighted
    if not plain or problem.loss not in ("ce", "ls") or len(set(problem.counts)) > 1:
        return -math.inf
    rate, most = 0.0, 1e4
    if problem.radius_w is not None and problem.radius_h is not None:
        most = K / (K - 1.0) * problem.radius_w * problem.radius_h / tau
    elif problem.radius_h is not None:
        rate = problem.lam_w * (tau * (K - 1.0) / problem.radius_h) ** 2 / K
    else:
        rate = problem.lam_h * problem.samples * (tau * (K - 1.0) / (K * problem.radius_w)) ** 2
    low, high = 0.0, min(most, 1e4)
    share = alpha * (K - 1.0) / K

    def slope(s):
        t = math.log(K - 1.0) - s
        return share - math.exp(-math.log1p(math.exp(-abs(t))) + min(t, 0.0)) + rate * s

    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if slope(middle) >= 0 else (middle, high)
    t = math.log(K - 1.0) - high
    value = max(t, 0.0) + math.log1p(math.exp(-abs(t))) + share * high + 0.5 * rate * high**2
    return value - 64 * EPS * (abs(value) + math.log(K))


def least_loss(problem):
    """inf g, or less: the entropy of the labels, or 0 for squared errors and single outputs."""
    if problem.loss in ("mse", "bce"):
        return 0.0
    y = problem.targets
    logs = np.log(np.where(y > 0, y, 1.0) / problem.label_sums)
    entropies = -problem.factors * np.sum(np.where(y > 0, y * logs, 0.0), axis=0)
    return (1.0 - 64 * problem.classes * EPS) * problem.mean(entropies)


def given_dual(problem, averages, value, rounding):
    """The dual of which a certificate has the class averages; `value` is one of f, or above it."""
    parts = averages * problem.shares
    return Dual(
        averages=averages,
        size=length(averages * np.sqrt(problem.sizes) / problem.mass),
        inner=value,
        row_sums=np.abs([total(row) for row in parts]),
        row_errors=(2 * problem.classes + 64) * EPS * np.abs(parts).sum(axis=1),
        noise=0.0,
        value=value,
        rounding=rounding,
        long_rounding=rounding,
    )


def dual_bound(problem, dual, direction, centred):
    """-g*(theta Gamma) - bias term - rounding, with the best theta up to mu / |Gamma|_2.

    `direction` has a column for each class: N Gamma at each of its samples.
    """
    K, N = problem.classes, problem.samples
    scales = np.sqrt(problem.sizes) / problem.mass
    norm = dual_norm_above(problem, direction * scales)
    # Errors of the decomposition, and of the differences in centring.
    spectral_error = (K + 64) * EPS * dual.size
    if problem.loss in ("ce", "ls"):
        spectral_error += length(distance_to_sums_of_zero(direction) * scales)
    if centred and problem.lam_b == 0:
        way = length(dual.row_errors) / math.sqrt(problem.mass)  # that in `bias_gain`
        spectral_error += way
    largest = max(norm + spectral_error, 1e-300)
    limit = min(problem.mu * (1.0 - 8 * EPS) / largest, LARGEST_MULTIPLE)
    # Another program may have to allow for a Gamma from the same point with another order of sums.
    share = min(1.0, (spectral_error + 8.0 * dual.noise) / largest)
    inner = dual.inner + dual.value

    def bound(theta):
        scaled = theta * direction
        found = CONJUGATES[problem.loss](problem, scaled)
        if found is None:
            return NO_BOUND
        value, errors, outside = found
        spill = problem.mean(outside) / theta  # by which clipping changes a sum of a row
        bias, bias_rounding, bias_long = bias_gain(problem, dual, theta, scaled, centred, spill)
        # A dual norm too large by e costs e |Z|_* at a minimiser Z, and |Z|_* <= f / mu.
        clipped = 0.0
        if np.any(outside):
            reach = (dual.value + dual.rounding) / problem.mu
            clipped = 2.0 * length(outside * scales) * reach
            clipped += problem.mean(outside) * (1.0 + math.log(K))
        rounding = dual.rounding + (K + 32) * EPS * errors + clipped
        longer = dual.long_rounding + (N + K + 32) * EPS * errors + clipped + share * inner
        lower = -value - bias - rounding
        if not lower > -math.inf:
            return NO_BOUND
        return Bound(lower, rounding + bias_rounding, longer + bias_long)

    return best_multiple(bound, limit)


def dual_norm_above(problem, G):
    """The dual norm of class averages; with rounding of the matrix products if H >= 0."""
    if not problem.nonnegative:
        return float(np.linalg.svd(G, compute_uv=False)[0])
    square = polar(G)[1] ** 2
    error = EPS * (len(G) * total(G**2) + 16 * G.shape[1] * square)
    return math.sqrt(square + error) * (1.0 + 8 * EPS)


def best_multiple(bound, limit):
    """The best of the bounds for theta in (0, limit], a concave function of theta but for rounding.

    Golden-section search for log theta. At a minimum of f, theta = min(1, limit) is the best.
    """
    high, ratio = math.log(limit), (math.sqrt(5.0) - 1.0) / 2.0
    low = max(high - 500.0, -700.0)  # below it theta would underflow
    while high - low > 1e-6:
        inner, outer = high - ratio * (high - low), low + ratio * (high - low)
        at_inner, at_outer = bound(math.exp(inner)).lower, bound(math.exp(outer)).lower
        # The bound hardly depends on small theta, and is -inf from some theta on.
        if at_inner > at_outer or at_outer == -math.inf:
            high = outer
        else:
            low = inner
    choices = (limit, min(1.0, limit), min(math.exp(low), limit))
    return max((bound(theta) for theta in choices), key=lambda found: found.lower)


def distance_to_sums_of_zero(direction):
    """The distance of each column from a column of sum 0, which a softmax conjugate needs."""
    size = np.abs(direction).sum(axis=0)
    return np.abs(direction.sum(axis=0)) + len(direction) * EPS * size


def squared_conjugate(problem, dual):
    """g*, the sizes of its terms for the rounding error, and the distance of dual from its domain.

    L*(g) = sum_j g_j^2 / (2 weight_j) + target g_y, finite everywhere; (a L)*(g) = a L*(g / a).
    """
    a, weight = problem.factors, output_weights(problem)
    dual, pull = dual / a, problem.target * problem.targets
    sizes = np.abs(dual) * (np.abs(dual) / weight + np.abs(pull))
    value = problem.mean(a * np.sum(dual * (0.5 * dual / weight + pull), axis=0))
    return value, problem.mean(a * np.sum(sizes, axis=0)), np.zeros(problem.groups)


def softmax_conjugate(problem, dual):
    """The same for cross-entropy with any targets y: L*(g) = sum_j p_j log(p_j / |y|), p = g + y.

    p must lie on the simplex of sum |y|, up to rounding errors below 0. None if it is farther
    outside.
    """
    a, targets = problem.factors, problem.targets
    dual = dual / a
    p = dual + targets
    if p.min() < -16 * EPS:
        return None
    log_p = np.log(np.maximum(p, 1e-300) / problem.label_sums)
    value = problem.mean(a * np.sum(np.maximum(p, 0.0) * log_p, axis=0))
    errors = problem.mean(a * np.sum((np.abs(dual) + targets) * (1.0 + np.abs(log_p)), axis=0))
    return value, errors, a * np.sum(np.maximum(-p, 0.0), axis=0)


def logistic_conjugate(problem, dual):
    """The same for single outputs: L*(g) = sum_j p_j log p_j + (1 - p_j) log(1 - p_j), p = g + y.

    p must lie in [0, 1], up to rounding errors.
    """
    a, y = problem.factors, problem.targets
    dual = dual / a
    both = np.stack([y + dual, (1.0 - y) - dual])
    if both.min() < -16 * EPS:
        return None
    logs = np.log(np.clip(both, 1e-300, 1.0))
    value = problem.mean(a * np.sum(np.clip(both, 0.0, 1.0) * logs, axis=(0, 1)))
    sizes = 1.0 + np.stack([y, 1.0 - y]) + np.abs(dual)
    errors = problem.mean(a * np.sum(sizes * (1.0 - logs), axis=(0, 1)))
    return value, errors, a * np.sum(np.maximum(-both, 0.0), axis=(0, 1))


CONJUGATES = {
    "ce": softmax_conjugate,
    "ls": softmax_conjugate,
    "mse": squared_conjugate,
    "bce": logistic_conjugate,
}


def bias_gain(problem, dual, theta, scaled, centred, spill):
    """Bound the bias term of the row sums of theta Gamma, and the rounding error in it.

    Centring makes the row sums 0 up to rounding, which is still charged: `scaled` is theta times
    the direction after it. The third number is the rounding error for a program that allows for
    another Gamma.
    """
    if not problem.has_bias:
        return 0.0, 0.0, 0.0
    errors = dual.row_errors + spill
    sums = np.zeros_like(errors) if centred else dual.row_sums
    others = 4.0 * dual.noise * math.sqrt(problem.samples / problem.classes)

    def gain(r):
        if problem.lam_b > 0:
            size = length(theta * r)
            return size * size / (2.0 * problem.lam_b)
        if not np.any(r):
            return 0.0
        # The term of a free bias is at most half of |r|_1 times the range of an optimal bias.
        by_range = 0.5 * theta * total(r) * bias_range(problem, dual)
        # If r is a rounding error, a dual point with row sums of exactly 0 is within distance r.
        # Moving there costs at most the slope of g*, and needs no bound on the bias.
        slope = conjugate_slope(problem, scaled, theta * r) if centred else math.inf
        by_slope = theta * total(r) * slope
        return min(by_range, by_slope)

    exact, most, longest = gain(sums), gain(sums + errors), gain(sums + errors + others)
    if most == math.inf:
        return math.inf, math.inf, math.inf
    return most, most - exact, longest - exact


def conjugate_slope(problem, dual, r):
    """Bound the entries of the gradient of (a L)* within r of dual; inf outside its domain."""
    dual, r = dual / problem.factors, r[:, None] / problem.factors
    if problem.loss == "mse":
        farthest = problem.target * float(np.abs(problem.targets).max())
        return float(np.max((np.abs(dual) + r) / output_weights(problem))) + farthest
    if problem.loss == "bce":
        p = dual + problem.targets
        least = float(np.min(np.minimum(p, 1.0 - p) - r))
        return -math.log(least) if least > 0 else math.inf
    least = float(np.min((dual + problem.targets - r) / problem.label_sums))
    return 1.0 - math.log(least) if least > 0 else math.inf


def bias_range(problem, dual):
    """Bound the range of an optimal bias without decay."""
    if problem.loss == "mse" or problem.table is not None:
        return math.inf
    if problem.loss == "bce":
        # Twice a bound on an entry: outputs of a class average at least -f N / n, as those of a log
        # are, and outputs of the others at most f N / (N - n); those of W H are bounded by decays.
        value, masses = dual.value + dual.rounding, problem.sizes * problem.factors
        lightest = float(min(masses.min(), (masses.sum() - masses).min()))
        by_loss = 2.0 * value * problem.mass / lightest
        return by_loss + 2.0 * value / problem.mu / math.sqrt(problem.sizes.min())
    value, lightest = dual.value + dual.rounding, float((problem.sizes * problem.factors).min())
    by_loss = value * problem.mass / (lightest * (1.0 - problem.alpha))
    return by_loss + value / problem.mu * math.sqrt(2.0 / problem.sizes.min())


def focal_bound(problem, dual):
    """The bound for the focal loss with balanced classes, the same from every dual."""
    lower, rounding = least_margin_value(problem)
    # The writer may charge rounding relative to 1, even if f is much smaller.
    longer = rounding + dual.long_rounding + 128 * EPS * (1.0 + abs(lower))
    rounding += dual.rounding
    return Bound(lower - rounding, rounding, longer)


@functools.lru_cache
def least_margin_value(problem):
    """f >= min_s phi(s) + m(s), with phi the loss at equal margins s; and its rounding error.

    Without a bias m(s) = c |s|, c = mu sqrt(n) (K - 1). With one, for every nu in [0, c],

        m(s) = min_delta  c |s - delta| + nu delta + a delta^2,     a = lam_b (K - 1)^2 / (2 K).

    The nu with the largest bound is searched for, and the bound is proven for that nu.
    """
    K = problem.classes
    c = problem.mu * math.sqrt(problem.counts[0]) * (K - 1)
    a = None if problem.lam_b is None else problem.lam_b * (K - 1) ** 2 / (2 * K)
    choices = [c]
    if a is not None:
        choices += [min(c, 1.0), min(c, float(margin_slope(problem, 0.0)))]
        choices += [c * i / 61 for i in range(1, 62)]
    starts = {nu: left_end(problem, c, a, nu) for nu in choices if nu > 0}
    candidates = [
        MarginProblem(problem, c, a, nu, start) for nu, start in starts.items() if start > -1e4
    ]
    highest = max(candidate.least_node for candidate in candidates)
    # Between nodes the sum may be lower than at the lowest node, by less than this.
    room = 0.02 * (1.0 + problem.gamma)
    finalists = [found for found in candidates if found.least_node >= highest - room]
    return max(finalists, key=lambda found: found.guess).proven_minimum()


def margin_loss(problem, s):
    """phi(s): the focal loss of logits s e_y."""
    t = math.log(problem.classes - 1.0) - s
    return np.exp(-problem.gamma * np.logaddexp(0.0, -t)) * np.logaddexp(0.0, t)


def margin_slope(problem, s):
    """-phi'(s)."""
    t = math.log(problem.classes - 1.0) - s
    u, ell = np.exp(-np.logaddexp(0.0, -t)), np.logaddexp(0.0, t)
    power = np.exp(-problem.gamma * np.logaddexp(0.0, -t))
    return power * (u + problem.gamma * np.exp(-ell) * ell)


def left_end(problem, c, a, nu):
    """A number below which phi + m decreases."""
    if a is None:
        return 0.0
    if nu <= 1.0:
        # For s <= 0 the slope of m is at most nu, and -phi' >= 1 up to one point.
        grid = np.linspace(-60.0, 60.0, 24001)
        steep = grid[margin_slope(problem, grid) >= 1.0]
        return min(0.0, float(steep.max(initial=-60.0)))
    # Below this number the slope of m is -c.
    return -(c + nu) / (2.0 * a) if a > 0 else -math.inf


class MarginProblem:
    """min_s phi(s) + m(s) for one nu, over an interval [start, end] that contains the minimiser."""

    def __init__(self, problem, c, a, nu, start):
        self.problem, self.c, self.a, self.nu, self.start = problem, c, a, nu, start
        # m(s) >= nu s for s >= 0: beyond this end it alone exceeds phi(0) + m(0).
        self.end = (float(margin_loss(problem, 0.0)) + 1.0) / nu
        self.nodes = self.first_nodes()
        values = self.value(self.nodes)
        self.least, self.least_node = int(np.argmin(values)), float(np.min(values))

    def first_nodes(self):
        parts = [np.linspace(self.start, 0.0, 2001), np.linspace(0.0, min(self.end, 800.0), 3201)]
        if self.end > 800.0:
            parts.append(np.geomspace(800.0, self.end, 201))
        return np.unique(np.concatenate(parts))

    def m(self, s):
        if self.a is None:
            return self.c * np.abs(s)
        delta = s
        if self.a > 0:
            delta = np.clip(s, *((side * self.c - self.nu) / (2.0 * self.a) for side in (-1, 1)))
        return self.c * np.abs(s - delta) + self.nu * delta + self.a * delta**2

    def least_m(self, low, high):
        """The minimum of the convex function m over [low, high]."""
        if self.a is None:
            return self.m(np.clip(0.0, low, high))
        vertex = -self.nu / (2.0 * self.a) if self.a > 0 else -math.inf
        return self.m(np.clip(vertex, low, high))

    def value(self, s):
        return margin_loss(self.problem, s) + self.m(s)

    @functools.cached_property
    def argmin(self):
        """Locate the minimum between the nodes around the lowest node, by ternary search."""
        i = self.least
        low, high = self.nodes[max(i - 1, 0)], self.nodes[min(i + 1, len(self.nodes) - 1)]
        for _ in range(90):
            left, right = low + (high - low) / 3.0, high - (high - low) / 3.0
            low, high = (low, right) if self.value(left) < self.value(right) else (left, high)
        return 0.5 * (low + high)

    @functools.cached_property
    def guess(self):
        """The lowest value found."""
        return min(float(self.value(self.argmin)), self.least_node)

    def proven_minimum(self):
        """A lower bound on the minimum, and its rounding error.

        phi decreases, so that on [s, t] the sum is at least phi(t) + min m. Intervals on which this
        exceeds a value found cannot contain the minimum, and are dropped; the others are halved.
        """
        low, high = self.nodes[:-1], self.nodes[1:]
        upper, lower = self.guess, -math.inf
        while True:
            bound = margin_loss(self.problem, high) + self.least_m(low, high)
            lower = max(lower, min(float(bound.min()), upper))
            kept = bound < upper
            low, high = low[kept], high[kept]
            if upper - lower <= 1e-11 * upper or not 0 < len(low) <= 1_000_000:
                break
            middle = 0.5 * (low + high)
            low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        s = self.argmin
        size = float(margin_loss(self.problem, s) + abs(self.m(s)))
        return lower, 64 * EPS * (1.0 + self.problem.gamma) * (1.0 + abs(s)) * size


def loss_at_origin(problem):
    """g at W = H = 0, b = 0."""
    logits = np.zeros((problem.classes, problem.groups))
    return problem.mean(losses_at(problem, np.arange(problem.groups), logits, logits).value)


def tolerance(problem, relative, value):
    """The largest closed gap: `relative` times the depth, or the default rule if it is None."""
    origin = loss_at_origin(problem)
    depth = max(origin - value, LEAST_DEPTH * origin)
    if relative is not None:
        return relative * depth
    return min(RELATIVE * depth, max(OF_VALUE * value, LEAST * origin))


# Step 4: checks ----------------------------------------------------------------------------------


Line = namedtuple("Line", "outcome name text")


def judge(holds, name, text):
    return Line("ok" if holds else "FAILED", name, text)


def compare(name, own, claimed, absolute, relative=0.0):
    """Compare a claimed number with the one computed here; None claims that there is none."""
    text = f"claimed {claimed}, recomputed {own:.12g}"
    if not math.isfinite(own):
        return judge(claimed is None, name, text)
    allowed = absolute + relative * abs(own) + SMALLEST
    agrees = claimed is not None and abs(own - claimed) <= allowed < math.inf
    return judge(agrees, name, text)


@dataclass(frozen=True)
class Case:
    """The input of the checks: the claims, and the quantities computed from the arrays."""

    told: dict
    claims: dict
    problem: Problem
    arrays: dict
    # A Point, and a Collapse below; None if the features are in other files that were not found.
    point: Any
    bound: Bound
    # The stored minimiser as a Point, and the bound from there; None if there is none.
    minimiser: Any
    minimiser_bound: Bound
    collapse: Any = None
    # The class means of the features.
    means: Any = None

    @property
    def value(self):
        """f at the point, as computed here or else as claimed."""
        return self.claims["value"] if self.point is None else self.point.value

    @property
    def value_noise(self):
        """The error of f, 0 for a claim that is taken as it is."""
        return 0.0 if self.point is None else self.point.rounding

    @property
    def writers_noise(self):
        """The largest error of f for the writer of the certificate."""
        if self.point is None:
            return 0.0
        return self.point.long_rounding + min(self.point.narrow, self.told["rounding"] or math.inf)

    @property
    def blur(self):
        """The relative error of the writer's sums in the precision of the features."""
        return precision_of(self.told) * (self.problem.dim + 16)

    @property
    def gap(self):
        """The proven upper bound on f at the point minus its minimum."""
        return self.value - self.bound.lower

    @property
    def settled(self):
        """Whether the writer, who must allow for more rounding, would have closed the gap too."""
        long_rounding = self.bound.long_rounding + self.point.narrow
        return self.gap + 4.0 * long_rounding <= 0.999 * self.claims["tol"]


def of_point(name):
    """Mark a check of a claim that needs the point, with the name of the claim."""

    def mark(one):
        @functools.wraps(one)
        def checked(case, *rest):
            if case.point is None:
                return Line("not checkable", name, UNREAD)
            return one(case, *rest)

        return checked

    return mark


def check_lam_h(case):
    """Check that an inferred decay of the features is lam_w |W|^2 / |H|^2."""
    return check_inferred(case) if case.told["lam_h_inferred"] else None


@of_point("lam_h inferred")
def check_inferred(case):
    sizes = length(case.point.W), case.point.feature_size
    ratio = sizes[0] / sizes[1] if sizes[1] > 0 else math.nan
    inferred, N = case.problem.lam_w * ratio * ratio, case.problem.samples
    # The writer may take |H|^2 as a difference, of features before and after an offset.
    moved = N * total(case.arrays.get("offset", np.zeros(1)) ** 2) / max(sizes[1], SMALLEST) ** 2
    blur = 1e-9 + (N + case.problem.dim) * EPS * moved
    return compare("lam_h inferred", inferred, case.problem.lam_h, 0.0, blur)


def of_classes(check):
    """Mark a check of a metric that compares classes, and is not claimed of soft labels."""

    @functools.wraps(check)
    def checked(case):
        return None if case.problem.outputs is not None else check(case)

    return checked


def check_mu(case):
    if case.problem.confined:
        return compare("threshold", 1.0, case.claims["threshold"], 0.0)
    return compare("mu", case.problem.mu, case.claims["threshold"], 0.0, 1e-12)


@of_point("f")
def check_value(case):
    allowed = case.value_noise + case.writers_noise
    return compare("f", case.point.value, case.claims["value"], allowed)


@of_point("|grad f|")
def check_gradient(case):
    point = case.point
    return compare("|grad f|", point.grad_norm, case.claims["grad_norm"], point.grad_noise, 1e-6)


@of_point("|Gamma|_2")
def check_dual_norm(case):
    if case.problem.confined:
        return check_multipliers(case)
    point, claimed = case.point, case.claims["dual_norm"]
    below, above = point.dual_norm
    name = "polar of Gamma" if case.problem.nonnegative else "|Gamma|_2"
    own = min(max(claimed, below), above)
    return compare(name, own, claimed, 8.0 * point.gamma_noise, 1e-9)


def check_multipliers(case):
    """The largest singular value of diag(a)^-1/2 G diag(beta)^-1/2, of the class means."""
    problem, W, b = case.problem, case.point.W, case.point.b
    roots, means = np.sqrt(problem.sizes), case.means
    shift = np.zeros((problem.classes, 1)) if b is None else b[:, None]
    sizes = np.abs(W) @ np.abs(means) / problem.temperature + np.abs(shift)
    V = W @ means / problem.temperature + shift
    losses = losses_at(problem, np.arange(problem.groups), V, sizes)
    G = losses.gradient * problem.shares / (problem.temperature * roots)
    H = means * roots
    a, beta = np.full(problem.classes, problem.lam_w), np.full(problem.groups, problem.lam_h)
    if problem.radius_w is not None:
        a = -np.sum(W * (G @ H.T), axis=1) / np.sum(W * W, axis=1)
    if problem.radius_h is not None:
        beta = -np.sum(H * (W.T @ G), axis=0) / np.sum(H * H, axis=0)
    off = length(problem.shares * losses.gradient_error / roots) / problem.temperature
    off += (problem.dim + problem.groups) * length(G)
    noise = EPS * off * (length(W) + length(H))
    least = min(float(a.min()) / max(length(a), SMALLEST), float(beta.min()) / length(beta))
    if abs(least) < 1e-6 or noise > 1e-6 * min(length(a), length(beta)):
        return Line("not checkable", "dual norm", "multipliers are 0 up to rounding")
    own = math.inf
    if least > 0:
        inside = G / np.sqrt(a[:, None] * beta)
        own = float(np.linalg.svd(inside, compute_uv=False)[0])
    return compare("dual norm", own, case.claims["dual_norm"], 0.0, 1e-6)


def check_dual(case):
    """Check that the dual in arrays.npz is that of the point, which no bound needs."""
    return same_dual(case) if "dual" in case.arrays else None


@of_point("dual")
def same_dual(case):
    point, scales = case.point, np.sqrt(case.problem.sizes) / case.problem.mass
    apart = length((case.arrays["dual"] - point.dual.averages) * scales)
    allowed = 8.0 * point.gamma_noise + 1e-9 * point.dual.size
    return judge(apart <= allowed, "dual", f"off by {apart:.3g}; {allowed:.3g} is allowed")


def check_lower_bound(case):
    """Check that the claimed bound is not above the one proven here."""
    claimed, own = case.claims["lower_bound"], case.bound
    text = f"claimed {claimed}, proven here {own.lower:.12g}"
    if claimed is None:
        return judge(True, "lower bound", text)
    # For the focal loss both programs search for a minimum, this one in at most a million
    # intervals.
    accuracy = 1e-9 if case.problem.loss == "fl" else 1e-12
    slack = own.rounding + own.long_rounding + accuracy * abs(own.lower)
    return judge(claimed <= own.lower + slack, "lower bound", text)


def check_contradiction(case):
    """Check that the bound is not above f, which would refute the mathematics or this script."""
    lower = max(case.bound.lower, case.minimiser_bound.lower)
    holds = lower <= case.value + case.value_noise
    return judge(holds, "bounds below f", f"f exceeds the best by {case.value - lower:.3g}")


def check_gap(case):
    """Check that the claimed gap is the claimed f minus the claimed bound."""
    value, lower, gap = (case.claims[name] for name in ("value", "lower_bound", "gap"))
    if lower is None:
        return judge(gap is None, "gap", "none claimed")
    allowed = case.value_noise + 4 * EPS * (abs(value) + abs(lower))
    # On spheres the writer adds the error of f, whose vectors it normalises once more.
    allowed += 4 * case.writers_noise if case.problem.confined else 0.0
    return compare("gap", value - lower, gap, allowed)


@of_point("rounding")
def check_rounding(case):
    """Check that the claimed rounding error is not more than a program can need."""
    claimed, needed = case.told["rounding"], case.bound.long_rounding + case.point.narrow
    needed += 16 * EPS * loss_at_origin(case.problem)  # the writer may charge terms of this size
    text = f"claimed {claimed}, up to {needed:.3g} expected"
    if claimed is None:
        return judge(case.claims["verdict"] != "GLOBAL_MINIMUM", "rounding", text)
    return judge(claimed <= 10.0 * needed, "rounding", text)


def check_tolerance(case):
    """Check that the tolerance of the gap follows from the rule, neither laxer nor stricter."""
    relative = case.told["tol"]
    rule = tolerance(case.problem, relative, case.value)
    allowed = case.value_noise + case.writers_noise
    allowed *= RELATIVE if relative is None else relative
    return compare("tol", rule, case.claims["tol"], min(allowed, rule), 1e-9)


@of_point("critical_tol")
def check_critical_tolerance(case):
    """Check the tolerance of the gradient, which may be raised to its rounding error."""
    claimed, point = case.claims["critical_tol"], case.point
    rule = CRITICAL * case.problem.mu * max(point.size, 1.0)
    if case.problem.confined:
        rule = CRITICAL * sum(map(length, forces(case.problem, point)))
    most = max(rule, 8.0 * point.grad_noise)
    holds = 0.999 * rule <= claimed <= 1.001 * most + SMALLEST
    return judge(holds, "critical_tol", f"claimed {claimed:.3g}; up to {most:.3g} is allowed")


def check_escape_length(case):
    if case.claims["verdict"] != "STRICT_SADDLE":
        return None
    parts = length(case.arrays["escape_W"]), length(case.arrays["escape_H"])
    return compare("escape length", length(parts), 1.0, 1e-9)


def escape(case):
    """The stored direction of descent, no longer than squares can be of."""
    step = case.arrays["escape_W"], case.arrays["escape_H"]
    demand(length([length(part) for part in step]) < 2.0, "the direction is not of length 1")
    return step


def check_escape_curvature(case):
    if case.claims["verdict"] != "STRICT_SADDLE":
        return None
    bend, noise = curvature(case.problem, case.point, *escape(case))
    claimed = case.claims["escape_curvature"]
    return compare("escape curvature", bend, claimed, 2.0 * noise, 1e-6)


def check_verdict(case):
    """Check the verdict against the numbers computed here."""
    verdict = case.claims["verdict"]
    if case.point is None:
        return conditional_verdict(case, verdict)
    allowed, finding = VERDICT_CHECKS[verdict](case)
    text = f"{verdict}: {finding}"
    if allowed and verdict in ("LOCAL_MINIMUM", "MINIMUM_ON_CONVEX_REGION"):
        # These need all curvatures, or a bound over a part of the space.
        return Line("not checkable", "verdict", text)
    return judge(allowed, "verdict", text)


def conditional_verdict(case, verdict):
    """Without the features: refute what is false for the claimed f, and confirm nothing."""
    if verdict == "GLOBAL_MINIMUM":
        allowed, finding = global_minimum(case)
        finding = f"with the claimed f, {finding}"
        if not allowed:
            return judge(False, "verdict", f"{verdict}: {finding}")
    else:
        finding = f"claimed |grad f| {case.claims['grad_norm']:.3g}, gap {case.gap:.3g}"
    return Line("not checkable", "verdict", f"{verdict}: {finding}; {UNREAD}")


def global_minimum(case):
    """Check that the gap is closed, up to rounding of at most the tolerance itself."""
    tol = case.claims["tol"]
    slack = min(case.bound.rounding, tol)
    closed = case.claims["gap"] is not None and case.claims["gap"] <= tol
    text = f"f exceeds its minimum by at most {case.gap:.3g}, tol {tol:.3g}"
    return closed and case.gap <= tol + slack, text


def strict_saddle(case):
    """Check that the gradient is within its tolerance, and f falls along the stored direction."""
    step, uphill = escape(case), 0.0
    bend, noise = curvature(case.problem, case.point, *step)
    if case.problem.nonnegative:
        uphill = max(slope(case.problem, case.point, *step), 0.0)
    falls = is_descent(case.problem, case.point, 1.001 * bend, noise, uphill)
    inside = not case.problem.nonnegative or np.all(step[1][case.point.H == 0] >= 0)
    if case.problem.confined:
        inside = is_tangent(case, *step)
    text = f"curvature {bend:.3g}, {criticality(case)}{'' if inside else '; leaves the sets'}"
    return is_critical(case) and falls and bool(inside), text


def is_tangent(case, dW, dH):
    """Whether a direction is orthogonal to the vectors that are on spheres."""
    W, H = case.point.W, case.point.H
    off_w = np.abs(np.sum(W * dW, axis=1)).max() if case.problem.radius_w else 0.0
    off_h = np.abs(np.sum(H * dH, axis=0)).max() if case.problem.radius_h else 0.0
    return off_w <= 1e-9 * length(W) and off_h <= 1e-9 * length(H)


def not_critical(case):
    """Check that the gradient is above its tolerance, and the gap is open."""
    steep = case.point.grad_norm > 0.999 * case.claims["critical_tol"] - case.point.grad_noise
    return steep and not case.settled, f"{criticality(case)}; gap up to {case.gap:.3g}"


def open_question(case):
    """Check that the gradient vanishes, the gap is open, and f does not fall as theory predicts."""
    text = f"{criticality(case)}; gap up to {case.gap:.3g}"
    if not is_critical(case) or case.settled:
        return False, text
    if not case.problem.mu > 0 or case.point.H is None or case.problem.nonnegative:
        return True, text  # no direction was sought in blocks, nor is one known in sets
    bend, noise = curvature(case.problem, case.point, *theory_direction(case.problem, case.point))
    falls = is_descent(case.problem, case.point, 0.5 * bend, 1e3 * noise)
    return not falls, f"{text}; curvature {bend:.3g} along the direction of theory"


def local_minimum(case):
    """Check what can be checked of an undecided point: the gap is open."""
    allowed, text = open_question(case)
    return allowed and (case.problem.mu > 0 or case.problem.confined), text


def minimum_on_convex_region(case):
    """Check what can be checked: all samples lie where the focal loss is convex."""
    allowed, text = open_question(case)
    inside = case.problem.mu > 0 and case.problem.loss == "fl" and in_convex_region(case)
    return allowed and inside, f"{text}; {'' if inside else 'not '}all samples where L is convex"


VERDICT_CHECKS = {
    "GLOBAL_MINIMUM": global_minimum,
    "STRICT_SADDLE": strict_saddle,
    "NOT_CRITICAL": not_critical,
    "UNDECIDED": open_question,
    "LOCAL_MINIMUM": local_minimum,
    "MINIMUM_ON_CONVEX_REGION": minimum_on_convex_region,
}


def is_critical(case):
    limit = 1.001 * case.claims["critical_tol"]
    return case.point.grad_norm <= limit + case.point.grad_noise


def criticality(case):
    return f"|grad f| {case.point.grad_norm:.3g} against {case.claims['critical_tol']:.3g}"


def in_convex_region(case):
    """The focal loss is convex where 1 + 2 gamma - gamma l + gamma^2 l p / (1 - p) >= 0.

    This decreases with l, so that the largest one decides.
    """
    gamma, ell = case.problem.gamma, max(case.point.surprise, 1e-12)
    odds = 1.0 / math.expm1(min(ell, 700.0))
    return 1.0 + 2.0 * gamma - gamma * ell + gamma * gamma * odds * ell >= 0.0


@dataclass(frozen=True)
class Collapse:
    """What the NC metrics need of features that were divided by their largest entry.

    Their class means, those minus the mean of all, the squares of deviations from class means, in
    all and along the directions of the centred means, and the relative rounding error of
    differences of class means.
    """

    largest: float
    means: np.ndarray
    centred: np.ndarray
    spreads: np.ndarray
    within: float
    along: np.ndarray
    noise: float
    # The shares of samples whose largest logit is not that of the nearest class mean; of those for
    # which rounding may decide that; and whether no sample has a largest logit.
    differ: float
    close: float
    tied: bool


def class_means(problem, blocks):
    """The largest entry and norm of H, and the class means, from blocks as for `evaluate`."""
    largest, longest, sums = 0.0, 0.0, np.zeros((problem.dim, problem.groups))
    for H, labels, c in blocks:
        largest = max(largest, float(np.abs(H).max(initial=0.0)))
        longest = max(longest, float(columns(H).max(initial=0.0)))
        sums += by_class(c * H, labels, problem.groups)
    return largest, longest, sums / problem.sizes


def collapse_of(problem, W, b, blocks, found):
    """Measure the collapse in another pass; `found` is from `class_means`.

    NC metrics do not depend on the scale of H, whose squares may overflow.
    """
    largest, longest, means = found
    scale = largest if largest > 0 else 1.0
    means, overall = means / scale, (means / scale) @ problem.shares[:, None]
    centred = means - overall
    directions, spreads = np.linalg.svd(centred, full_matrices=False)[:2]
    noise = 16 * EPS * math.sqrt(problem.classes) * longest / scale
    within, along, differ, close, tied = [], np.zeros(len(spreads)), 0, 0, 0
    shift = np.zeros((problem.classes, 1)) if b is None else b[:, None]
    for H, labels, c in blocks:
        h, V = H / scale, W @ H + shift
        deviations = h - means[:, labels]
        within.append(total(np.sum(c * deviations**2, axis=0)))
        along += np.sum(c * (directions.T @ deviations) ** 2, axis=1)
        if problem.table is not None:
            continue
        h = h - overall
        squares = np.sum(centred**2, axis=0)[:, None] - 2.0 * centred.T @ h
        reach = columns(centred).max() * (columns(centred).max() + columns(h))
        near = np.diff(np.sort(squares, axis=0)[:2], axis=0)[0] <= 1e-9 * reach + noise
        sizes = np.max(np.abs(W) @ np.abs(H) + np.abs(shift), axis=0)
        equal = np.diff(np.sort(V, axis=0)[-2:], axis=0)[0] <= 1e-9 * sizes + SMALLEST
        differ += float(c @ (V.argmax(axis=0) != squares.argmin(axis=0)))
        close, tied = close + float(c @ (near | equal)), tied + int(np.sum(equal))
    return Collapse(
        largest=scale,
        means=means,
        centred=centred,
        spreads=spreads,
        within=total(within),
        along=along,
        noise=noise,
        differ=differ / problem.mass,
        close=close / problem.mass,
        tied=tied == problem.samples,
    )


def metric(case, name, own, blur):
    """Compare a metric, unless rounding of relative size `blur` dominates it."""
    claimed = case.claims[name]
    if blur > 0.1 and math.isfinite(own):
        return Line("not checkable", name, f"claimed {claimed}, lost in rounding")
    blur += case.blur
    return compare(name, own, claimed, 1e-9 + blur, 1e-6 + blur)


def distinctness(found):
    """The relative rounding error of differences of class means; 0 if class means do not differ."""
    spread = length(found.centred)
    return spread > found.noise, found.noise / max(spread, SMALLEST)


@of_classes
@of_point("nc1")
def check_nc1(case):
    """trace of (variance within classes) times pinv(variance between classes), over K."""
    found = case.collapse
    distinct, blur = distinctness(found)
    rank = min(case.problem.dim, case.problem.classes - 1)
    spreads, along = found.spreads[:rank], found.along[:rank]
    cut = EPS * max(case.problem.dim, case.problem.classes) * found.spreads[0]
    used = spreads > cut
    if distinct and np.any((spreads > 0.01 * cut) & (spreads < 100.0 * cut)):
        return Line("not checkable", "nc1", "rounding leaves the rank of the class means open")
    if not distinct or not used.any():
        return metric(case, "nc1", math.nan, blur)
    nc1 = total(along[used] / case.problem.mass / spreads[used] ** 2)
    return metric(case, "nc1", nc1, found.noise / float(spreads[used].min()))


def angle(problem, gram):
    """The distance of a Gram matrix from that of a simplex frame, both of norm 1."""
    size, K = length(gram), problem.classes
    target = (np.eye(K) - 1.0 / K) / math.sqrt(K - 1.0)
    return length(gram / size - target) if size > 0 else math.nan


def scaled(W):
    """Divide W by its largest entry, so that products of entries neither overflow nor underflow."""
    largest = float(np.abs(W).max())
    return W / largest if largest > 0 else W


@of_classes
def check_nc2(case):
    """Compare the classifier with a simplex frame."""
    W = scaled(case.arrays["W"])
    return metric(case, "nc2", angle(case.problem, W @ W.T), 0.0)


@of_classes
@of_point("nc3")
def check_nc3(case):
    """Compare classifier times class means with a simplex frame."""
    found, W = case.collapse, scaled(case.point.W)
    distinct, blur = distinctness(found)
    product = W @ found.centred
    if not distinct:
        return metric(case, "nc3", math.nan, blur)
    noise = (found.noise + case.problem.dim * EPS * length(found.centred)) * length(W)
    size = length(product)
    return metric(case, "nc3", angle(case.problem, product), noise / size if size > 0 else 0.0)


@of_classes
@of_point("nc4")
def check_nc4(case):
    """The fraction of samples whose largest logit is not that of the nearest class mean."""
    found, claimed = case.collapse, case.claims["nc4"]
    distinct, blur = distinctness(found)
    if not distinct:
        return metric(case, "nc4", math.nan, blur)
    if found.tied and claimed is None:
        return judge(True, "nc4", "none claimed; no sample has a largest logit")
    return compare("nc4", found.differ, claimed, 1e-9 + found.close)


@of_classes
@of_point("within_between_ratio")
def check_ratio(case):
    """Check the variance within classes over the variance between them."""
    found = case.collapse
    distinct, blur = distinctness(found)
    if not distinct:
        return metric(case, "within_between_ratio", math.nan, blur)
    within = found.within / case.problem.mass
    between = total(found.centred**2) / case.problem.classes
    return metric(case, "within_between_ratio", within / between, blur)


def check_minimum_value(case):
    star, claimed = case.minimiser, case.claims["minimum"]
    if star is None:
        return judge(claimed is None, "minimum f*", "none claimed")
    allowed = 4.0 * star.rounding + LEAST * loss_at_origin(case.problem)
    return compare("minimum f*", star.value, claimed, allowed, OF_MINIMUM)


def check_minimum_is_global(case):
    """Check that the gap of the stored minimiser is closed too."""
    star, bound = case.minimiser, case.minimiser_bound
    if star is None:
        return None
    gap = star.value - bound.lower
    limit = max(tolerance(case.problem, None, star.value), OF_MINIMUM * star.value)
    text = f"no point is lower by more than {gap:.3g}; {limit:.3g} is allowed"
    lost_in_rounding = bound.rounding > limit and gap <= limit + bound.rounding
    if lost_in_rounding:
        return Line("not checkable", "minimum is global", f"{text}; rounding leaves it open")
    return judge(gap <= limit + min(bound.rounding, limit), "minimum is global", text)


def check_distance(case):
    """Check the distance of the point from the nearest rotation of the minimiser."""
    if case.minimiser is None:
        return None
    return compare_distance(case)


@of_point("distance")
def compare_distance(case):
    distance = distance_to_rotations(case)
    allowed = (1e-9 + case.blur) * (case.point.size + case.minimiser.size)
    return compare("distance", distance, case.claims["distance"], allowed)


def check_relative_distance(case):
    """Check the distance over |(W*, H*)|, undefined if the minimiser is the origin."""
    star, claimed = case.minimiser, case.claims["relative_distance"]
    if star is None:
        return None
    size = length([length(star.W), star.feature_size])
    if not size > 0:
        return judge(claimed is None, "relative distance", "undefined at the origin")
    return compare_relative_distance(case, size)


@of_point("relative_distance")
def compare_relative_distance(case, size):
    claimed = case.claims["relative_distance"]
    allowed = (1e-9 + case.blur) * (case.point.size / size + 1.0)
    return compare("relative distance", distance_to_rotations(case) / size, claimed, allowed)


def distance_to_rotations(case):
    """min over rotations and reflections Q of |(W - W* Q, H - Q' H*, b - b*)| (Schoenemann, 1966).

    The features of the minimiser are equal within classes, so that the distance of H is that of the
    class means, and the deviations from those. If f is invariant under a common shift of the bias,
    the shift is optimised too.
    """
    x, star, found = case.point, case.minimiser, case.collapse
    roots = np.sqrt(case.problem.sizes)
    means, targets = roots * found.largest * found.means, roots * star.H
    left, _, right = np.linalg.svd(x.W.T @ star.W + means @ targets.T)
    Q = right.T @ left.T
    apart = [length(x.W - star.W @ Q), length(means - Q.T @ targets)]
    apart.append(found.largest * math.sqrt(found.within))
    if x.b is not None:
        difference = x.b - star.b
        if case.problem.lam_b == 0 and case.problem.loss not in ("mse", "bce"):
            difference = difference - difference.mean()
        apart.append(length(difference))
    return length(apart)


CHECKS = (
    check_lam_h,
    check_mu,
    check_value,
    check_gradient,
    check_dual_norm,
    check_dual,
    check_lower_bound,
    check_contradiction,
    check_gap,
    check_rounding,
    check_tolerance,
    check_critical_tolerance,
    check_escape_length,
    check_escape_curvature,
    check_verdict,
    check_nc1,
    check_nc2,
    check_nc3,
    check_nc4,
    check_ratio,
    check_minimum_value,
    check_minimum_is_global,
    check_distance,
    check_relative_distance,
)


class Features:
    """Features in .npy files: blocks of columns as for `evaluate`, never more in memory.

    Files are opened again for every block, so that no more of them is mapped either.
    """

    def __init__(self, told, problem, arrays, paths):
        self.entry, self.problem, self.paths = told["features"], problem, paths
        self.labels, self.offset = arrays["labels"], arrays["offset"]
        self.weights = arrays.get("sample_weights", np.ones(len(self.labels)))

    def rows(self, path, shape):
        """Blocks of a shard as rows, in the type that certificate.json names."""
        name, dtype = Path(path).name, np.dtype(self.entry["dtype"]).newbyteorder("<")
        count, dim = in_rows(self.entry, shape)
        size = max(BLOCK // max(dim, self.problem.classes), 1)
        for start in range(0, count, size):
            try:
                stored = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError):
                raise Refused(f"{name} is not an .npy file of numbers, or truncated") from None
            demand(isinstance(stored, np.ndarray), f"{name} is not an .npy file")
            demand(stored.shape == tuple(shape), f"{name} has shape {stored.shape}, not {shape}")
            demand(np.can_cast(stored.dtype, dtype), f"{name} has dtype {stored.dtype}")
            rows = stored if self.entry["layout"] == "rows" else stored.T
            yield np.array(rows[start : start + size], dtype=dtype, order="C")

    def check_digests(self):
        """Demand that the numbers are those of the certificate: dtype, C order, a row a sample."""
        for path, shard in zip(self.paths, self.entry["shards"], strict=True):
            digest = hashlib.sha256()
            for rows in self.rows(path, shard["shape"]):
                digest.update(rows.data)
            same = digest.hexdigest() == shard["sha256"]
            name = Path(path).name
            demand(same, f"{name} does not have the SHA-256 that certificate.json names")

    def __iter__(self):
        start = 0
        for path, shard in zip(self.paths, self.entry["shards"], strict=True):
            for rows in self.rows(path, shard["shape"]):
                block = slice(start, start + len(rows))
                labels, c = self.labels[block], self.weights[block]
                start, kept = start + len(rows), labels >= 0
                if np.any(kept):
                    H = rows[kept].T.astype(np.float64) - self.offset[:, None]
                    yield H, labels[kept], c[kept]


def feature_files(folder, told, given):
    """The given files, or else those at the recorded places; None if one of these is missing."""
    shards = told["features"]["shards"]
    if given:
        fits = len(given) == len(shards)
        demand(fits, f"{len(given)} files are given, and the certificate has {len(shards)} shards")
        for path in given:
            demand(Path(path).is_file(), f"{path} does not exist")
        return given
    paths = [None if shard["file"] is None else folder / shard["file"] for shard in shards]
    return paths if all(path is not None and path.is_file() for path in paths) else None


def read(folder, given=()):
    """Check the form of the folder and make the input of the checks. Raises Refused."""
    told = read_json(folder / "certificate.json")
    check_told(told)
    claims, problem = told["claims"], read_problem(told["problem"])
    stored = sum(check_features(problem, told)) if "features" in told else None
    content = (folder / "arrays.npz").read_bytes()
    signed = hashlib.sha256(content).hexdigest() == told["arrays_sha256"]
    demand(signed, "arrays.npz does not have the SHA-256 that certificate.json names")
    arrays = read_arrays(content, shapes_of_arrays(problem, claims, stored))
    check_labels(problem, arrays)
    problem = with_arrays(problem, arrays)
    minimiser, minimiser_bound = None, NO_BOUND
    if claims["minimum"] is not None:
        # The minimiser's features are equal within classes: a column stands for all of a class.
        columns = arrays["minimum_H"], np.arange(problem.groups), problem.sizes
        minimiser = evaluate(problem, arrays["minimum_W"], arrays.get("minimum_b"), [columns])
        minimiser_bound = bound_at(problem, minimiser, arrays["minimum_H"])
    W, b, blocks, writer = arrays["W"], arrays.get("b"), None, None
    if stored is None:
        demand(not given, "the features are in arrays.npz: give no files")
        blocks = one_block(problem, arrays["H"], arrays.get("sample_weights"))
    else:
        paths = feature_files(folder, told, given)
        if paths is not None:
            blocks = Features(told, problem, arrays, paths)
            blocks.check_digests()
    point: Any = None
    collapse: Any = None
    means = None
    if blocks is not None:
        found = class_means(problem, blocks)
        if stored is not None:
            moved = problem.mass * total(arrays["offset"] ** 2)
            writer = found[2], precision_of(told), moved
        point = evaluate(problem, W, b, blocks, writer)
        collapse = collapse_of(problem, W / problem.temperature, b, blocks, found)
        means = found[2]
    if stored is None:
        bound = bound_at(problem, point, means)
    else:
        bound = stored_bound(problem, arrays["dual"], point, minimiser)
    return Case(
        told=told,
        claims=claims,
        problem=problem,
        arrays=arrays,
        point=point,
        bound=bound,
        minimiser=minimiser,
        minimiser_bound=minimiser_bound,
        collapse=collapse,
        means=means,
    )


def stored_bound(problem, averages, *points):
    """The bound from the dual in arrays.npz, and from values of f that were computed here."""
    known = [point for point in points if point is not None]
    values = [loss_at_origin(problem), *(point.value + point.rounding for point in known)]
    rounding = 0.0 if points[0] is None else points[0].rounding
    return lower_bound(problem, given_dual(problem, averages, min(values), rounding))


def attempt(name, step, *arguments):
    """Return the result of a step, or a line that says why it failed.

    Any exception that a certificate causes is a failure. A step cannot return NaN, and an overflow
    becomes infinity, which no check accepts as a number.
    """
    try:
        with np.errstate(invalid="raise", divide="raise", over="ignore", under="ignore"):
            return step(*arguments)
    except Refused as error:
        return Line("FAILED", name, str(error))
    except Exception as error:
        return Line("FAILED", name, f"{type(error).__name__}: {error}")


def check(folder, given=()):
    """Make all lines for a folder, with the files of its features if they are elsewhere."""
    case = attempt("form", read, folder, given)
    if isinstance(case, Line):
        return [case]
    p = case.problem
    text = f"{case.told['problem']['loss']}, K={p.classes}, d={p.dim}, N={p.samples}"
    text += "" if p.outputs is None else f", {p.groups} soft labels"
    text += "" if p.class_weights is None else ", class weights"
    text += ", sample weights" if p.weighted else ""
    text += ", H >= 0" if p.nonnegative else ""
    text += ", spheres" if p.confined else ""
    lines = [Line("ok", "form", text)]
    if case.point is None:
        files = "python verify.py FOLDER --features " + " ".join(
            "FILE" if shard["file"] is None else Path(shard["file"]).name
            for shard in case.told["features"]["shards"][:3]
        )
        text = f"bound proven; value not recomputed: give the feature files by {files}"
        lines.append(Line("not checkable", "features", text))
    elif case.point.H is None:
        text = "read in blocks, with the recorded SHA-256; value recomputed"
        lines.append(Line("ok", "features", text))
    lines += [attempt(one.__name__, one, case) for one in CHECKS]
    return [line for line in lines if line is not None]


def main(arguments):
    cut = arguments.index("--features") if "--features" in arguments else len(arguments)
    folders, given = arguments[:cut], arguments[cut + 1 :]
    folder = Path(folders[0]) if folders else Path(__file__).resolve().parent
    lines = check(folder, given)
    for outcome, name, text in lines:
        # ASCII and truncated, so that a forged text can neither imitate a line nor change the
        # screen.
        print(f"{outcome:14} {name:18} {ascii(text)[1:-1][:200]}")
    outcomes = [line.outcome for line in lines]
    failed, unknown = outcomes.count("FAILED"), outcomes.count("not checkable")
    print(f"{len(lines)} checks: {failed} failed, {unknown} not checkable.")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
