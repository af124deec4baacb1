"""The Hessian as a matrix, up to 10,000 dimensions, and its eigenvalues.

>>> dense_hessian(problem, params).shape
(148, 148)
"""

import numpy as np
from jaxtyping import Float

from ufm._support.threads import one_blas_thread
from ufm.hessian.products.columns import HostPoint, host_point
from ufm.hessian.products.split import check_part
from ufm.hessian.spectrum_result import Part, Spectrum, assemble
from ufm.hessian.symmetry_zeros import gauge
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.variant import by_variant

#: Largest dimension of a dense Hessian, which takes 800 MB and minutes of LAPACK.
LARGEST = 10_000


def check_entries(matrix: np.ndarray) -> None:
    """Raise `LinAlgError`, a `ValueError`, if LAPACK cannot find the matrix's eigenvalues."""
    if not np.all(np.isfinite(matrix)):
        raise np.linalg.LinAlgError(
            "the Hessian's entries overflow at this point: scale W and H down (their products and "
            "the loss's derivatives must stay below 1e308, or 3e38 in float32)"
        )


@by_variant
def dense_hessian(problem: Problem, params: Params, part: str = "all") -> Float[np.ndarray, "P P"]:
    """Compute ∇²f, or one part of it, as a matrix.

    Args:
        problem: The problem; P = Kd + dN, plus K with a bias.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        part: "all", or "gauss_newton", "residual" or "decay", which add up to it.

    Returns:
        The (P, P) matrix, in the order W row by row, H row by row, b.

    Raises:
        ValueError: P exceeds 10,000 (the message says how much memory the matrix needs), the part
            has another name, or the shapes do not fit.
    """
    check_part(part)
    size = problem.num_parameters
    if size > LARGEST:
        gigabytes = size**2 * params.W.dtype.itemsize / 1e9
        raise ValueError(
            f"the Hessian has {size:,} dimensions: as a matrix it would need {gigabytes:,.1f} GB, "
            f"and dense stops at {LARGEST:,}. Use method='collapsed' or 'closed_form' at collapsed "
            "points, inertia for counts, method='lanczos' for the extremes"
        )
    return hessian_at(host_point(problem, params), part)


@one_blas_thread()
@np.errstate(over="ignore", invalid="ignore")
def hessian_at(point: HostPoint, part: str = "all") -> Float[np.ndarray, "P P"]:
    """Do the same at a point on the host.

    With S_i, g_i of `ufm.hessian.products.columns` and h_i = ĥ_i/√c_i, the second derivatives are

        W_ka, W_lb:   Σ_i S_i,kl h_ia h_ib
        W_ka, Ĥ_bi:   (S_iW)_kb h_ia/√c_i + δ_ab g_ik
        Ĥ_ai, Ĥ_bi:   (WᵀS_iW)_ab/c_i

    and those by b are those by W for a feature of 1.
    """
    (K, d), N = point.W.shape, point.H.shape[1]
    size = point.problem.num_parameters
    of_w, of_h, of_b = (slice(*x) for x in ((0, K * d), (K * d, d * (K + N)), (d * (K + N), size)))
    H = np.zeros((size, size), point.W.dtype)
    # Views of the entries (W_ka, W_lb), (W_ka, Ĥ_bi), and for every i (Ĥ_ai, Ĥ_bi).
    ww, wh = H[of_w, of_w].reshape(K, d, K, d), H[of_w, of_h].reshape(K, d, d, N)
    hh = np.einsum("aibi->iab", H[of_h, of_h].reshape(d, N, d, N))
    start = 0
    for S, g, h, roots in point.columns():
        these = slice(start, start := start + len(g))
        if part in ("all", "residual"):
            np.einsum("kaai->ika", wh)[these] += g[:, :, None]
        if part not in ("all", "gauss_newton"):
            continue
        flat, SW = S.reshape(len(g), -1).T, S @ point.W * roots[:, None, None]
        outer = (h[:, :, None] * h[:, None, :]).reshape(len(g), -1)
        ww += (flat @ outer).reshape(K, K, d, d).transpose(0, 2, 1, 3)
        wh[..., these] += np.einsum("ikb,ia->kabi", SW, h)
        hh[these] += point.W.T @ SW * roots[:, None, None]
        if point.b is not None:
            H[of_w, of_b].reshape(K, d, K)[:] += (flat @ h).reshape(K, K, d).transpose(0, 2, 1)
            H[of_h, of_b].reshape(d, N, K)[:, these] += SW.transpose(2, 0, 1)
            H[of_b, of_b] += np.sum(S, axis=0)
    if part in ("all", "decay"):
        for decay, of in zip(point.decays, (of_w, of_h, of_b), strict=True):
            H[of, of] += decay * np.eye(of.stop - of.start, dtype=H.dtype)
    check_entries(H)
    return np.triu(H) + np.triu(H, 1).T


def dense_spectrum(problem: Problem, params: Params, cluster_tol: float | None = None) -> Spectrum:
    """All eigenvalues by LAPACK."""
    eigenvalues = np.linalg.eigvalsh(dense_hessian(problem, params))
    return assemble(
        [Part("", eigenvalues, 1, rounding(eigenvalues))],
        problem=problem,
        gauge=gauge(problem, params, host_point(problem, params).gradient()),
        method="dense",
        cluster_tol=cluster_tol,
    )


def rounding(eigenvalues: Float[np.ndarray, " m"]) -> float:
    """The error of a backward stable eigenvalue solver: m · eps · max |λ|."""
    if not eigenvalues.size:
        return 0.0
    eps = float(np.finfo(eigenvalues.dtype).eps)
    return eigenvalues.size * eps * float(np.max(np.abs(eigenvalues)))
