"""State in words what the answers imply about the minimisers under a loss."""

from ufm.loss_check.answers import Answer
from ufm.loss_check.profile import Profile
from ufm.losses import LogitNorm, Loss

_BOUND = "f ≥ min_s φ(s) + c|s| from the nuclear norm and the contrastive property"


def conclusion(
    loss: Loss, profile: Profile, lam_b: float | None, answers: tuple[Answer, ...]
) -> str:
    """The strongest statement that the answers prove, for balanced classes and d ≥ K − 1."""
    same, shift, contrastive, minimisation, convex = answers
    if isinstance(loss, LogitNorm):
        return (
            "No minimiser: the loss does not see the scale of the logits, so that weight decay "
            "takes it to 0; at equal margins f comes as near as one likes to "
            f"{float(profile.value[1]):.8g}"
        )
    if profile.discontinuous:
        return (
            "Undecided: the loss jumps at equal logits, and f comes as near as one likes to "
            f"{float(profile.value[1]):.8g} at small scales; unless it is lower elsewhere, there "
            "is no minimiser"
        )
    if profile.far_fall > 1e-6:
        return (
            f"Undecided: the loss still falls at the margin {profile.s[-1]:g}; if it falls so "
            "without end, f has no minimiser while K√nμ < "
            f"{profile.far_fall * profile.unit:.6g}"
        )
    if same.holds is False:
        return "No statement: the classes are not alike, so that collapse need not be symmetric"
    if shift.holds is False:
        if convex.holds is True:
            return (
                "Convex but not shift-invariant: for d ≥ K a global minimum is symmetric at every "
                "decay, Z = (ρP + (τ/K)11ᵀ)⊗1ᵀ and b = b₀1, and certificates come from duality; "
                "the contrastive argument does not apply"
            )
        if loss.is_convex():
            return (
                "Undecided: not shift-invariant, but declared convex; if it is, and the classes "
                "are alike, for d ≥ K a global minimum is symmetric at every decay"
            )
        return "No statement: not shift-invariant, and not known to be convex"
    if contrastive.holds is False:
        return (
            "No statement: not contrastive, so that minima need not be simplex ETFs; compare the "
            "runs with the NC value, which is an upper bound on f*"
        )
    if contrastive.holds is None:
        return (
            "Undecided: if the loss is what samples show of it, the NC value is the minimum "
            f"without bias ({_BOUND}); prove symmetry and the contrastive property from its formula"
        )
    if convex.holds is True:
        unique = (
            "unique" if minimisation.holds is True else "not unique where the profile is straight"
        )
        return (
            "Neural collapse is the global minimum at every decay, with or without bias, by convex "
            f"duality; the minimiser is {unique} up to rotation"
        )
    if minimisation.holds is True:
        reach = f"where (K−1)√nμ ≤ {float(loss.far_slope()):g}, and elsewhere by certificates"
        if float(loss.profile_convex_above(profile.num_classes)) == 0.0:
            reach = "too, for the profile is convex"
        return (
            "The loss belongs to the family of Zhou et al. (2022). Without bias neural collapse is "
            f"the only global minimum at every decay: {_BOUND}. With a bias this is proven {reach}"
        )
    unique = "not unique at one decay" if minimisation.holds is False else "not known to be unique"
    text = (
        f"Without bias neural collapse has the least value at every decay: {_BOUND}. The minimiser "
        f"is {unique}, so that the loss is not known to be in the family of Zhou et al. (2022)"
    )
    if profile.concave_at is None:
        return text
    held = "" if lam_b is None else "; values with m live classes are compared below"
    return (
        f"{text}. Nothing is proven with a trained bias, where the profile is concave at s = "
        f"{profile.concave_at[0]:.3g}: classes may die near the threshold{held}"
    )
