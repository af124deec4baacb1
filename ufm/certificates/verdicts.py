"""Verdicts on a point and their reasons: codes and sentences."""

import enum


class Verdict(enum.IntEnum):
    """The classification of a point."""

    GLOBAL_MINIMUM = 0
    MINIMUM_ON_CONVEX_REGION = 1
    STRICT_SADDLE = 2
    LOCAL_MINIMUM = 3
    NOT_CRITICAL = 4
    UNDECIDED = 5


class Reason(enum.IntEnum):
    """The reason for a verdict; `REASONS` has the sentences."""

    GAP_CLOSED = 0
    REGION_GAP_CLOSED = 1
    NEGATIVE_CURVATURE = 2
    GRADIENT_TOO_LARGE = 3
    GAP_OPEN = 4
    CONVEXITY_UNKNOWN = 5
    NO_DECAY = 6
    TOLERANCE_BELOW_ROUNDING = 7
    NON_FINITE = 8
    BIAS_UNBOUNDED = 9
    ALL_CURVATURES_POSITIVE = 10
    LOCAL_AGAINST_THEORY = 11
    DECLARATION_REFUTED = 12
    DESCENT_NOT_SOUGHT = 13


REASONS = {
    Reason.GAP_CLOSED: "f exceeds a proven lower bound by no more than the tolerance",
    Reason.REGION_GAP_CLOSED: (
        "every sample has p_y > p*, where the loss is convex, and the gap over that region is "
        "within the tolerance; a lower value elsewhere is not excluded"
    ),
    Reason.NEGATIVE_CURVATURE: (
        "critical, and a Hessian product along the escape direction is negative (numerical)"
    ),
    Reason.GRADIENT_TOO_LARGE: (
        "the gradient is too large for a critical point: run a solver from here"
    ),
    Reason.GAP_OPEN: (
        "critical, but the lower bound does not reach f and no direction of descent was found"
    ),
    Reason.CONVEXITY_UNKNOWN: (
        "no lower bound is known for this loss and these class counts (a custom loss needs "
        "convex=True and a lower_bound; losses that are not convex need balanced classes)"
    ),
    Reason.NO_DECAY: "with lam_w or lam_h = 0 a minimum may not exist and nothing bounds f",
    Reason.TOLERANCE_BELOW_ROUNDING: (
        "the tolerance is below the rounding error of the gap: use float64 or a larger tol"
    ),
    Reason.NON_FINITE: "the point or the loss there is not finite",
    Reason.BIAS_UNBOUNDED: (
        "no lower bound is known for a custom loss with a free bias: use lam_b > 0"
    ),
    Reason.ALL_CURVATURES_POSITIVE: (
        "critical, and exact counts find all Hessian eigenvalues positive except the zeros that "
        "rotations force (numerical); a lower value elsewhere is not excluded"
    ),
    Reason.LOCAL_AGAINST_THEORY: (
        "critical with all curvatures positive except those of rotations, yet the gap is open. For "
        "this loss and dimension every local minimum is global: either tol is below the accuracy "
        "of the point, or this is a COUNTEREXAMPLE worth a second look"
    ),
    Reason.DECLARATION_REFUTED: (
        "the loss contradicts its declarations, on which every bound rests, or f is below its bound"
    ),
    Reason.DESCENT_NOT_SOUGHT: (
        "critical, but the lower bound does not reach f; in a layer of this size no direction of "
        "descent is sought"
    ),
}
