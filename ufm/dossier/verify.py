r"""Check the certificate in this folder again, with NumPy alone:  python verify.py

certificate.json claims what a point (W, H, b) of the unconstrained feature model is, arrays.npz
holds the point. Everything claimed is recomputed from those arrays and the problem's few numbers:

    f = g(V) + lam_w/2 |W|^2 + lam_h/2 |H|^2 + lam_b/2 |b|^2,   V = W H + b 1',
    g(V) = (1/N) sum_i L(v_i, y_i),   Gamma = grad g(V),   mu = sqrt(lam_w lam_h).

Every Gamma with |Gamma|_2 <= mu bounds f from below, f >= -g*(Gamma) - |Gamma 1|^2 / (2 lam_b), by
convex duality; for the focal loss f >= min_s phi(s) + c s does. What f exceeds the bound by is the
gap: a proof, whoever computed the point and by whatever means.

One line per check: "ok", "FAILED", or "not checkable" for what cannot be recomputed here. Exit code
1 if anything failed, else 0. Notes, reason and source are words, and are not checked.
"""

import hashlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

EPS, OUTCOMES = float(np.finfo(float).eps), []


def loss_terms(problem, V, labels):
    """L, grad L, and multiplication by the Hessian of L, for all columns at once."""
    (K, N), Y, gamma = V.shape, np.eye(len(V))[:, labels], problem.gamma
    if problem.loss == "mse":
        weight, residual = 1.0 + (problem.scale - 1.0) * Y, V - problem.target * Y
        return 0.5 * np.sum(weight * residual**2, axis=0), weight * residual, lambda q: weight * q
    # l = -log p_y and u = 1 - p_y from the log-odds t: accurate with p_y near 0 and 1.
    margins = V - V[labels, np.arange(N)]
    others = np.where(Y > 0, -np.inf, margins)
    top = others.max(axis=0)
    t = top + np.log(np.sum(np.exp(others - top), axis=0))
    ell, u = np.logaddexp(0.0, t), np.exp(-np.logaddexp(0.0, -t))
    p, p_y, unit = np.exp(margins - ell), np.exp(-ell), np.exp(others - top)
    unit = unit / unit.sum(axis=0) - Y  # (p - e_y) / u
    ratio = np.where(u > 1e-13, ell / np.maximum(u, 1e-13), 1.0)
    # u^gamma l as a function of l: its derivative, and u^2 times its second derivative.
    first = u**gamma * (1.0 + gamma * p_y * ratio)
    second = gamma * u ** (gamma + 1.0) * p_y * (2.0 - ell + (gamma - 1.0) * p_y * ratio)
    share = problem.alpha / K

    def hessian(q):  # (diag p - p p') q after a shift that avoids cancellation
        q = q - np.take_along_axis(q, p.argmax(axis=0)[None], axis=0)
        return first * p * (q - np.sum(p * q, axis=0)) + second * unit * np.sum(unit * q, axis=0)

    gradient = first * u * unit - share * (1.0 - K * Y)
    return u**gamma * ell - share * margins.sum(axis=0), gradient, hessian


def evaluate(problem, W, H, b, labels):
    """What the checks need of a point, with allowances for rounding (generous on purpose)."""
    (K, d), N, lam_b = W.shape, H.shape[1], problem.lam_b or 0.0
    shift = 0.0 * W[:, 0] if b is None else b
    V = W @ H + shift[:, None]
    loss, gradient, hessian = loss_terms(problem, V, labels)
    gamma = gradient / N
    left, sizes, right = np.linalg.svd(gamma, full_matrices=False)
    squares = [np.sum(W**2), np.sum(H**2), np.sum(shift**2)]
    penalty = 0.5 * np.dot([problem.lam_w, problem.lam_h, lam_b], squares)
    grads = [gamma @ H.T + problem.lam_w * W, W.T @ gamma + problem.lam_h * H]
    grads += [] if b is None else [gamma.sum(axis=1) + lam_b * b]
    # Columns of Gamma are differences of numbers of size `floor`, at logits with their own errors.
    steep = max(1.0 + problem.gamma, problem.scale)
    floor = max(steep, problem.target) if problem.loss == "mse" else problem.alpha
    logits = 1.0 + np.linalg.norm(np.abs(W) @ np.abs(H) + np.abs(shift)[:, None], axis=0)
    errors = 2.0 * steep**2 * logits * (np.linalg.norm(gradient, axis=0) + floor)
    noise_gamma, size = float(EPS * np.linalg.norm(errors) / N), float(np.sqrt(sum(squares)))
    noise = noise_gamma * (2 * size + N**0.5) + EPS * 2 * size * (problem.lam_w + problem.lam_h)
    return SimpleNamespace(
        W=W, H=H, b=b, labels=labels, V=V, gamma=gamma, hessian=hessian, left=left[:, 0],
        value=float(loss.mean() + penalty), dual_norm=float(sizes[0]), right=right[0],
        grad_norm=float(np.sqrt(sum(np.sum(x**2) for x in grads))), size=size,
        allowance=float(EPS * (K + d + N + 32) * (1.0 + np.mean(np.abs(loss) + errors) + penalty)),
        noise_gamma=noise_gamma, noise=float(noise * (N + d + K) ** 0.5),
    )  # fmt: skip


def curvature(problem, x, dW, dH):
    """Second derivative of f along (dW, dH, 0): exact, not by differences."""
    q = dW @ x.H + x.W @ dH
    bend = np.sum(q * x.hessian(q)) / x.H.shape[1] + 2.0 * np.sum(x.gamma * (dW @ dH))
    return float(bend + problem.lam_w * np.sum(dW**2) + problem.lam_h * np.sum(dH**2))


def theory_direction(problem, x):
    """Where a critical point with |Gamma|_2 > mu falls: out of the row space of W."""
    a, balance = np.linalg.svd(x.W)[2][-1], (problem.lam_h / problem.lam_w) ** 0.25
    size = np.hypot(balance, 1.0 / balance)
    return -balance * np.outer(x.left, a) / size, np.outer(a, x.right) / (balance * size)


def descends(problem, x, bend):
    """Negative, and too large for the exact critical point nearby not to have it as well."""
    g, scale = 1.0 + problem.gamma, max(1.0, problem.scale)  # bounds on derivatives of L follow
    second, third = {"mse": (scale, 0.0), "fl": (1.5 * g, g**2)}.get(problem.loss, (1.0, 1.0))
    m = np.sqrt(np.sum(x.H**2, axis=0) + np.linalg.norm(x.W, 2) ** 2 + 1.0)
    lipschitz = third * np.mean(m**3) + 6.0 * second * np.linalg.norm(m) / len(m)
    return bend < -1e3 * x.noise_gamma and bend**2 > 16.0 * x.grad_norm * lipschitz


def lower_bound(problem, x):
    """A number that f never falls below, rounding taken off; -inf where none is known."""
    if not problem.mu > 0:
        return -np.inf
    if problem.loss == "fl":
        return margin_bound(problem) - x.allowance if len(set(problem.counts)) == 1 else -np.inf
    plain = dual_bound(problem, x, x.gamma, np.abs(x.gamma.sum(axis=1)))
    centred = x.gamma - x.gamma.mean(axis=1, keepdims=True)  # its row sums are 0: no bias term
    return plain if x.b is None else max(plain, dual_bound(problem, x, centred, 0.0 * x.b))


def dual_bound(problem, x, gamma, row_sums):
    """-g*(theta Gamma) - (what the bias can gain) - rounding, theta = min(1, mu/|Gamma|_2)."""
    (K, N), mse = gamma.shape, problem.loss == "mse"
    sigma = np.linalg.norm(gamma, 2) + (K + 64) * EPS * np.linalg.norm(x.gamma)
    theta = min(1.0, problem.mu * (1.0 - 8 * EPS) / max(sigma, 1e-300))
    dual, Y = theta * N * gamma, np.eye(K)[:, x.labels]
    if mse:
        terms = dual * (0.5 * dual / (1.0 + (problem.scale - 1.0) * Y) + problem.target * Y)
        errors = np.abs(dual) * (np.abs(dual) / min(1.0, problem.scale) + problem.target * Y)
    else:  # p = dual + targets has to lie on the simplex
        p = dual + (1.0 - problem.alpha) * Y + problem.alpha / K
        if p.min() < -16 * EPS:
            return -np.inf
        log_p = np.log(np.maximum(p, 1e-300))
        terms, errors = np.maximum(p, 0.0) * log_p, (np.abs(dual) + np.abs(p)) * (1.0 - log_p)
    conjugate = np.sum(terms) / N
    rounding = x.allowance + EPS * (N + K + 32) * np.sum(errors) / N
    if x.b is None:
        return -conjugate - rounding
    r = theta * (row_sums + (N + K + 64) * EPS * np.abs(x.gamma).sum(axis=1))
    if problem.lam_b > 0:
        return -conjugate - np.sum(r**2) / (2.0 * problem.lam_b) - rounding
    # A free bias gains at most half of |r|_1 times the range that an optimal one can have.
    smallest, reach = min(problem.counts), 4.0 * (np.abs(x.V).max() + problem.target)
    if mse and np.any(row_sums):
        return -np.inf
    if not mse:
        reach = x.value * N / (smallest * (1.0 - problem.alpha))
        reach += x.value / problem.mu * (2.0 / smallest) ** 0.5
    return -conjugate - 0.5 * np.sum(r) * reach - rounding


def margin_bound(problem):
    """The focal loss, balanced: min of phi(s) + nu s, phi(s) = L(s e_y, y), c = mu sqrt(n) (K-1).

    Without a bias nu = c, s >= 0. With one any nu <= min(c, 1) will do, and the sum decreases while
    -phi' >= 1, which is so up to one point. On [s, t] the sum is at least phi(t) + nu s: intervals
    that cannot hold the minimum are dropped, the others halved.
    """
    K, gamma = len(problem.counts), problem.gamma
    c = problem.mu * problem.counts[0] ** 0.5 * (K - 1)

    def phi(s, slope=False):
        t = np.log(K - 1.0) - s
        u, ell = np.exp(-np.logaddexp(0.0, -t)), np.logaddexp(0.0, t)
        return u**gamma * (u + gamma * np.exp(-ell) * ell) if slope else u**gamma * ell

    start, slopes, best = 0.0, (c,), -np.inf
    if problem.lam_b is not None:
        grid = np.linspace(-60.0, 60.0, 24001)
        start = min(0.0, grid[phi(grid, slope=True) >= 1.0].max(initial=-60.0))
        slopes = (min(c, 1.0), min(c, 1.0, phi(0.0, slope=True)))
    for nu in slopes:
        end = (phi(0.0) + 1.0) / nu  # beyond it nu s alone exceeds phi(0)
        s = np.linspace(start, end, 1001)
        low, high = s[:-1], s[1:]
        upper, lower = np.min(phi(low) + nu * low), -np.inf
        while upper - lower > 1e-11 * upper and len(low) < 2_000_000:
            middle = 0.5 * (low + high)
            upper = min(upper, np.min(phi(middle) + nu * middle))
            low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
            bound = phi(high) + nu * low
            lower = min(bound.min(), nu * end)
            low, high = low[bound < upper], high[bound < upper]
        best = max(best, float(lower))
    return best - 64 * EPS * (1.0 + abs(best))


def collapse_metrics(x):
    """NC1-NC4, tr(within)/tr(between), NaN if class means do not differ; share of ties in NC4."""
    (K, d), N, Y = x.W.shape, len(x.labels), np.eye(len(x.W))[x.labels]
    means = x.H @ Y / Y.sum(axis=0)
    overall, deviations = x.H.mean(axis=1, keepdims=True), x.H - means @ Y.T
    centred = means - overall
    directions, sizes = np.linalg.svd(centred, full_matrices=False)[:2]
    used = (sizes > sizes[0] * EPS * max(d, K)) & (np.arange(len(sizes)) < K - 1)
    along = np.sum((directions[:, used].T @ deviations) ** 2, axis=1) / N
    target = (np.eye(K) - 1.0 / K) / np.sqrt(K - 1.0)

    def angle(gram):
        size = np.linalg.norm(gram)
        return np.linalg.norm(gram / size - target) if size > 0 else np.nan

    distances = np.sum(centred**2, axis=0)[:, None] - 2.0 * centred.T @ (x.H - overall)
    nearest, likeliest = np.sort(distances, axis=0)[:2], -np.sort(-x.V, axis=0)[:2]
    tied = [np.ptp(two, axis=0) <= 1e-9 * np.abs(two).max() for two in (nearest, likeliest)]
    found = {
        "nc1": np.sum(along / sizes[used] ** 2),
        "nc3": angle(x.W @ centred),
        "nc4": np.mean(x.V.argmax(axis=0) != distances.argmin(axis=0)),
        "within_between_ratio": np.sum(deviations**2) / N * K / max(np.sum(centred**2), 1e-300),
    }
    if np.linalg.norm(centred) <= 16 * EPS * np.linalg.norm(x.H, axis=0).max() * K**0.5:
        found = dict.fromkeys(found, np.nan)
    return found | {"nc2": angle(x.W @ x.W.T)}, np.mean(tied[0] | tied[1])


def say(outcome, name, text):
    """One line for one check."""
    outcome = outcome if isinstance(outcome, str) else ("ok" if outcome else "FAILED")
    OUTCOMES.append(outcome)
    print(f"{outcome:14} {name:18} {text}")


def number(name, own, claimed, absolute, relative=1e-6):
    """Is the claimed number the recomputed one? None claims that there is none."""
    near = claimed is not None and abs(own - claimed) <= absolute + relative * abs(own)
    agrees = near if np.isfinite(own) else claimed is None
    say(agrees, name, f"claimed {claimed}, recomputed {own:.12g}")


def read(folder):
    """The claims, the problem, the arrays."""
    told = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    content = (folder / "arrays.npz").read_bytes()
    same = hashlib.sha256(content).hexdigest() == told["arrays_sha256"]
    say(same, "arrays.npz", "has the SHA-256 that certificate.json names")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    given, labels = told["problem"], arrays["labels"]
    name, _, numbers = given["loss"].partition(":")
    fields = {"ce": (), "ls": ("alpha",), "fl": ("gamma",), "mse": ("scale", "target")}[name]
    values = {"alpha": 0.0, "gamma": 0.0, "scale": 1.0, "target": 1.0}
    values |= zip(fields, (float(x) for x in numbers.split(",") if x), strict=True)
    decays = {name: given[name] for name in ("lam_w", "lam_h", "lam_b")}
    counts = np.bincount(labels, minlength=len(arrays["W"])).tolist()
    (K, d), bias = arrays["W"].shape, arrays.get("b")
    fits = given["class_counts"] == counts and given["dim"] == d and min(counts) > 0
    fits &= arrays["H"].shape == (d, len(labels)) and (bias is None) == (decays["lam_b"] is None)
    fits &= all(decay is None or 0 <= decay < np.inf for decay in decays.values())
    say(fits, "problem", f"{given['loss']}, K={K}, d={d}, N={len(labels)}")
    mu = decays["lam_w"] ** 0.5 * decays["lam_h"] ** 0.5
    problem = SimpleNamespace(loss=name, counts=counts, mu=mu, **decays, **values)
    return told, problem, arrays


def possible_verdicts(problem, x, gap, slack, claims, bend):
    """What these numbers allow to say; two answers where one is too close to a limit to tell."""
    for room, margin in ((0.999, 0.0), (1.001, slack)):
        critical = x.grad_norm <= claims["critical_tol"] * room
        if critical and descends(problem, x, bend * room):
            yield "STRICT_SADDLE"
        elif gap <= claims["tol"] * room + margin:
            yield "GLOBAL_MINIMUM"
        elif not critical:
            yield "NOT_CRITICAL"
        else:
            yield from ("UNDECIDED", "LOCAL_MINIMUM", "MINIMUM_ON_CONVEX_REGION")


def check_verdict(problem, x, lower, slack, told, arrays):
    """Tolerances no laxer than their rules, then the verdict from the numbers recomputed here."""
    claims, relative = told["claims"], told["tol"]
    at_zero = loss_terms(problem, np.zeros_like(x.V), x.labels)[0].mean()
    depth = max(at_zero - (lower if np.isfinite(lower) else 0.0), 0.0)
    rule = max(min(1e-6 * depth, 1e-3 * abs(x.value)), 8 * x.allowance)  # the default
    rule = rule if relative is None else relative * depth
    critical = max(1e-6 * problem.mu * max(x.size, 1.0), 8 * x.noise)
    for name, limit in (("tol", rule), ("critical_tol", critical)):
        text = f"claimed {claims[name]:.3g}; the rule allows {limit:.3g}"
        say(0 <= claims[name] <= 1.001 * limit, name, text)
    bend, verdict = 0.0, claims["verdict"]
    if verdict == "STRICT_SADDLE":
        step = arrays["escape_W"], arrays["escape_H"]
        number("escape length", np.sqrt(sum(np.sum(part**2) for part in step)), 1.0, 1e-9, 0.0)
        bend = curvature(problem, x, *step)
        number("escape curvature", bend, claims["escape_curvature"], 0.0)
    elif problem.mu > 0:
        bend = curvature(problem, x, *theory_direction(problem, x))
    possible = {*possible_verdicts(problem, x, x.value - lower, slack, claims, bend)}
    # These two need all curvatures, and the bound over the convex region.
    beyond = verdict in ("LOCAL_MINIMUM", "MINIMUM_ON_CONVEX_REGION") and verdict in possible
    text = (
        f"{verdict} claimed, {' or '.join(sorted(possible))} found; gap up to {claims['tol']:.2g}"
    )
    say("not checkable" if beyond else verdict in possible, "verdict", text)


def check_nearest(problem, x, claims, arrays):
    """Is the minimiser stored a minimiser, and how far is the point from its rotations?"""
    if "minimum_W" not in arrays:
        return say(claims["minimum"] is claims["distance"] is None, "minimum", "none claimed")
    W, H, b = arrays["minimum_W"], arrays["minimum_H"][:, x.labels], arrays.get("minimum_b")
    star = evaluate(problem, W, H, b, x.labels)
    number("minimum f*", star.value, claims["minimum"], 4 * star.allowance, 1e-9)
    gap, limit = star.value - lower_bound(problem, star), 1e-6 * star.value + 8 * star.allowance
    say(gap <= limit, "minimum is global", f"no point is lower by more than {gap:.2e}")
    U, _, Vt = np.linalg.svd(x.W.T @ W + x.H @ H.T)
    Q = Vt.T @ U.T
    apart = [x.W - W @ Q, x.H - Q.T @ H]
    if b is not None:
        free = problem.lam_b == 0 and problem.loss != "mse"
        apart.append(x.b - b - (np.mean(x.b - b) if free else 0.0))
    distance = np.sqrt(sum(np.sum(part**2) for part in apart))
    number("distance", distance, claims["distance"], 1e-9 * x.size)
    size = np.hypot(np.linalg.norm(W), np.linalg.norm(H)) or np.nan
    return number("relative distance", distance / size, claims["relative_distance"], 1e-9)


def check(folder):
    told, problem, arrays = read(folder)
    claims = told["claims"]
    x = evaluate(problem, arrays["W"], arrays["H"], arrays.get("b"), arrays["labels"])
    if told["lam_h_inferred"]:
        inferred = problem.lam_w * np.sum(x.W**2) / np.sum(x.H**2)
        number("lam_h inferred", inferred, problem.lam_h, 0.0, 1e-9)
    number("mu", problem.mu, claims["threshold"], 0.0, 1e-12)
    number("f", x.value, claims["value"], 2 * x.allowance, 0.0)
    number("|grad f|", x.grad_norm, claims["grad_norm"], x.noise)
    number("|Gamma|_2", x.dual_norm, claims["dual_norm"], 4 * x.noise_gamma, 1e-9)
    lower, claimed = lower_bound(problem, x), claims["lower_bound"]
    slack = 4 * x.allowance + (1e-10 * abs(x.value) if problem.loss == "fl" else 0.0)
    text = f"claimed {claimed}, proven here {lower:.12g}"
    say(claimed is None or claimed <= lower + slack, "lower bound", text)
    gap = np.inf if claimed is None else claims["value"] - claimed
    number("gap", gap, claims["gap"], 1e-12 * abs(x.value), 0.0)
    check_verdict(problem, x, lower, slack, told, arrays)
    metrics, ties = collapse_metrics(x)
    for name, own in metrics.items():
        number(name, own, claims[name], 1e-9 + (ties if name == "nc4" else 0.0))
    check_nearest(problem, x, claims, arrays)


if __name__ == "__main__":
    try:
        check(Path(__file__).resolve().parent)
    except Exception as error:  # whatever a tampered file makes of it is a failure
        say("FAILED", "reading", f"{type(error).__name__}: {error}")
    failed, unknown = OUTCOMES.count("FAILED"), OUTCOMES.count("not checkable")
    print(f"{len(OUTCOMES)} checks: {failed} failed, {unknown} not checkable.")
    raise SystemExit(1 if failed else 0)
