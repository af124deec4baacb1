r"""The complete spectrum at a neural-collapse solution, for any K, d and n, in milliseconds.

The point is W = CM, H̄ = MᵀD/√n with the scalars ρ, τ, b₀ of `ufm.collapse.symmetric_solution`.
No array with N, d or K rows is built. With r the rank of the point and
σ(G) = (|g|, …, |g|, |g₁|), the parts are

| eigenvalues | multiplicity |
|---|---|
| outside the row space: the pair of |g|, 0 and λ_W+λ_H where ρ > 0 | (K−1)(d−r) each |
| the pair of |g₁|: λ_W and λ_H for shift-invariant losses | d−r each |
| λ_H | (N−K)(d−r) |
| deviations from class means: λ_H + s²χ₁, λ_H + s²χ₂ | K(n−1), K(n−1)(K−2) |
| class means: the blocks of `ufm.hessian.structured.representations` | the dimensions there |

χ₁, χ₂ are the eigenvalues of S_k on e_k − 1/K and on the rest of 1^⊥. At its minimum cross-entropy
has (K−1)(d−K+1) + (K−1)(K−2)/2 zeros, all from rotations, and no negative eigenvalue.

    >>> int(closed_form_spectrum(problem).multiplicities.sum()) == problem.num_parameters
    True
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.collapse.squared_error import SquaredError
from ufm.collapse.symmetric_solution import supported, symmetric_frame, symmetric_minimum
from ufm.hessian.spectrum_result import Part, Spectrum, assemble
from ufm.hessian.structured.complement import complement_parts
from ufm.hessian.structured.representations import (
    LossHessian,
    SymmetricPoint,
    class_mean_blocks,
    deviation_blocks,
)
from ufm.hessian.symmetry_zeros import gauge_of
from ufm.losses import MSE, Loss
from ufm.model.problem import Problem

Scalar = Float[Array, ""]
#: The possible points: the global minimum; W = H = 0 with its optimal bias; the symmetric critical
#: point with ρ > 0, which for the focal loss exists even where it is not the global minimum.
PLACES = ("minimum", "origin", "frame")


#: Message if there is no point "frame".
NO_FRAME = (
    "there is no symmetric critical point but the origin at this decay: lower lam_w or lam_h "
    "(collapse_threshold says how far)"
)


def closed_form_spectrum(
    problem: Problem, at: str = "minimum", cluster_tol: float | None = None
) -> Spectrum:
    """All eigenvalues at one of the points `PLACES` of a balanced problem.

    Raises `ValueError` for imbalanced or weighted classes, for custom losses, without decays, if
    there is no frame, and if the dimension is too small for the point.
    """
    point = _symmetric_point(problem, at)
    if problem.dim < point.rank:
        raise ValueError(
            f"the {at} has rank {point.rank}, more than dim={problem.dim}: "
            f"set dim to {point.rank} or more"
        )
    classes = problem.num_classes
    sizes = np.abs(np.array([point.g] * (classes - 1) + [point.g1]))
    blocks = class_mean_blocks(point) + deviation_blocks(point)
    values = [np.linalg.eigvalsh(block.form) for block in blocks]
    largest = max([float(np.max(np.abs(x))) for x in values], default=0.0)
    noise = 32 * float(np.finfo(float).eps) * max(largest, float(problem.lam_w), point.lam_h)
    parts = complement_parts(problem, sizes, point.rank, noise)
    parts += [
        Part(block.label, x, block.multiplicity, noise)
        for block, x in zip(blocks, values, strict=True)
    ]
    return assemble(
        parts,
        problem=problem,
        gauge=gauge_of(problem, point.rank, _gauge_residual(point)),
        method="closed_form",
        cluster_tol=cluster_tol,
        note=f"at the {at}",
    )


def _symmetric_point(problem: Problem, at: str) -> SymmetricPoint:
    """Check the arguments. Raises `ValueError` as `closed_form_spectrum` does."""
    if at not in PLACES:
        raise ValueError(f"at must be one of {', '.join(PLACES)}, got {at!r}")
    if not supported(problem):
        raise ValueError(
            "the closed form is known for balanced, unweighted classes and the losses CE, LS, FL "
            f"and MSE; got {problem.loss.label()} with {problem.num_classes} classes of "
            f"{min(problem.class_counts)} to {max(problem.class_counts)} samples. Give the point: "
            "at collapsed points, as global_minimum(problem).params(key), the spectrum is exact too"
        )
    if not float(problem.mu()) > 0:
        raise ValueError("with lam_w or lam_h = 0 there may be no minimum to take the Hessian at")
    n, classes = problem.num_columns // problem.num_classes, problem.num_classes
    lam_w, lam_h = float(problem.lam_w), float(problem.lam_h)
    rho, tau, level = _scalars(problem, at)
    # Singular values of Z are ρ√n and τ√n; factors are balanced: λ_W s² = λ_H t².
    balance = (lam_h / lam_w) ** 0.25
    root, root1 = (rho * n**0.5) ** 0.5, (tau * n**0.5) ** 0.5
    scalars = (jnp.asarray(x, jnp.result_type(float)) for x in (rho, tau, level))
    derivatives = _derivatives(problem.loss, *scalars, classes=classes)
    gradient, first, other = (np.asarray(x, float) for x in derivatives)
    # ∇L = ζ e_k + ξ 1; the mean over samples, in the scaling of the class means.
    xi, zeta = float(gradient[1]), float(gradient[0] - gradient[1])
    g = zeta / (classes * n**0.5)
    # Rows sum to 0 exactly, which differences of rounded numbers would not.
    g1 = 0.0 if problem.loss.shift_invariant else g + xi / n**0.5
    return SymmetricPoint(
        num_classes=classes,
        per_class=n,
        s=balance * root,
        t=root / balance,
        s1=balance * root1,
        t1=root1 / balance,
        g=g,
        g1=g1,
        loss=_coefficients(classes, first, other),
        lam_w=lam_w,
        lam_h=lam_h,
        lam_b=None if problem.lam_b is None else float(problem.lam_b),
    )


def has_frame(problem: Problem) -> bool:
    """Whether the point "frame" exists at this decay."""
    return not np.isnan(float(symmetric_frame(problem).rho))


def _scalars(problem: Problem, at: str) -> tuple[float, float, float]:
    """ρ, τ, b₀."""
    if at == "origin":
        return 0.0, 0.0, _bias_at_origin(problem)
    found = symmetric_minimum(problem) if at == "minimum" else symmetric_frame(problem)
    if np.isnan(float(found.rho)):
        raise ValueError(NO_FRAME)
    return float(found.rho), float(found.tau), float(found.bias_level)


@functools.partial(quick_jit, static_argnames=("classes",))
def _derivatives(
    loss: Loss, rho: Scalar, tau: Scalar, level: Scalar, *, classes: int
) -> tuple[Float[Array, " K"], Float[Array, " K"], Float[Array, " K"]]:
    """∇L at the logits of class 0, and the columns of ∇²L of the label and of another class."""
    v = jnp.full(classes, (tau - rho) / classes + level).at[0].add(rho)
    units = jnp.eye(2, classes, dtype=v.dtype)
    first, other = (loss.hessian_product(v, 0, unit) for unit in units)
    return loss.gradient(v, 0), first, other


def _coefficients(classes: int, first: np.ndarray, other: np.ndarray) -> LossHessian:
    """α, β, γ, δ from the columns of the label and of another class."""
    delta = float(other[2]) if classes > 2 else 0.0  # for two classes one of them is free
    alpha, gamma = float(other[1]) - delta, float(first[1]) - delta
    return LossHessian(alpha, float(first[0]) - alpha - 2 * gamma - delta, gamma, delta)


def _bias_at_origin(problem: Problem) -> float:
    """b₀ with G1 + λ_b b₀ 1 = 0 at W = H = 0: 0 for shift-invariant losses."""
    if not isinstance(problem.loss, MSE):
        return 0.0
    scalars = SquaredError(problem.loss, problem.num_classes, problem.mu(), problem.lam_b)
    return float(scalars.origin_level())


def _gauge_residual(at: SymmetricPoint) -> float:
    """√2 ‖∇f‖₂/σ_r, with the gradient that rounding of ρ leaves.

    See `ufm.hessian.symmetry_zeros`.
    """
    residuals, sizes = [0.0], []
    for s, t, g in ((at.s, at.t, at.g), (at.s1, at.t1, at.g1)):
        if s > 0:
            residuals.append(np.hypot(g * t + at.lam_w * s, g * s + at.lam_h * t))
            sizes.append(np.hypot(s, t))
    return 2**0.5 * float(max(residuals)) / float(min(sizes, default=1.0))


def gram_matrices(problem: Problem, at: str) -> tuple[Float[np.ndarray, "rows rows"], float]:
    """XXᵀ, X = [W; √n H̄ᵀ], and the bias: they determine the point up to a rotation."""
    point = _symmetric_point(problem, at)
    K = problem.num_classes
    level = np.full((K, K), 1.0 / K)
    frame = np.eye(K) - level
    C, D = point.s * frame + point.s1 * level, point.t * frame + point.t1 * level
    return np.block([[C @ C.T, C @ D], [D.T @ C.T, D.T @ D]]), _scalars(problem, at)[2]
