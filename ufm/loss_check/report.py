r"""Check whether a loss belongs to the family of the paper, and what follows if not.

>>> report = check_loss("mae", num_classes=10, num_starts=0)
>>> report.contrastive.word, report.minimisation.word, round(report.threshold, 4), report.jumps
('yes', 'no', 0.2193, True)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ufm._support.shown import Shown
from ufm.loss_check.answers import Answer, no, undecided, yes
from ufm.loss_check.conclusion import conclusion
from ufm.loss_check.contrastive import contrastive
from ufm.loss_check.convexity import convex
from ufm.loss_check.experiment import REACHED, Outcome, Prediction, predict, run
from ufm.loss_check.function import as_loss
from ufm.loss_check.levels import Levels
from ufm.loss_check.profile import Profile
from ufm.loss_check.symmetry import (
    bounded_below,
    equivariant,
    finite,
    of_label_probability,
    shift_invariant,
)
from ufm.losses import CustomLoss, LabelSmoothing, Loss
from ufm.model.checks import check_size

#: Fractions of the collapse threshold at which the model is solved; decays without a threshold.
_SHARES, _DECAYS = (0.5, 0.9), (0.1, 0.3)


@dataclasses.dataclass(frozen=True, repr=False)
class LossReport(Shown):
    """The properties of a loss at K classes, their evidence, and the results of runs.

    `threshold` is the decay K√nμ at which collapse ends, inf if every decay allows collapse;
    `local_threshold` is that of the origin's stability. From `origin_threshold` on the origin is
    the minimum. It is larger than `threshold` only for some losses that are not shift-invariant,
    for which all features are equal in between; `levels` is their problem of three scalars. `jumps`
    says that two minimisers tie at the threshold; `jump_probability` is the label's probability at
    the one beyond the origin.
    `predictions` and `outcomes` correspond; without runs there are no outcomes.
    """

    loss: Loss
    num_classes: int
    lam_b: float | None
    equivariant: Answer
    shift_invariant: Answer
    of_label_probability: Answer
    finite: Answer
    bounded_below: Answer
    contrastive: Answer
    minimisation: Answer
    convex: Answer
    threshold: float
    local_threshold: float
    origin_threshold: float
    jumps: bool
    jump_probability: float
    theorem: str
    predictions: tuple[Prediction, ...]
    outcomes: tuple[Outcome, ...]
    profile: Profile
    levels: Levels | None

    _printed = ("name", "family", "convexity", "collapse", "theorem", "runs")

    @property
    def answers(self) -> dict[str, Answer]:
        """All answers by name."""
        return {name: answer for name, answer in vars(self).items() if isinstance(answer, Answer)}

    @property
    def name(self) -> str:
        return f"{self.loss.label()}, K = {self.num_classes}, {_bias(self.lam_b)}"

    @property
    def family(self) -> str:
        names = ("equivariant", "shift_invariant", "contrastive", "minimisation")
        return ", ".join(f"{n.replace('_', ' ')} {getattr(self, n).word}" for n in names)

    @property
    def convexity(self) -> str:
        return str(self.convex)

    @property
    def collapse(self) -> str:
        """Describe the threshold and the jump."""
        if np.isnan(self.threshold):
            return "threshold not found"
        if not np.isfinite(self.threshold):
            return "no threshold: the loss falls at once from equal logits"
        text = f"until K√nμ = {self.threshold:.4f}"
        if self.origin_threshold > self.threshold:
            return f"{text}, and all features are equal from there to {self.origin_threshold:.4f}"
        if self.jumps:
            return f"{text}, where the minimiser jumps to p = {self.jump_probability:.3f}"
        return f"{text}, which the minimiser approaches continuously"

    @property
    def runs(self) -> str:
        """Describe prediction and outcome at each decay."""
        return "; ".join(self._lines()) or "nothing was solved"

    def _lines(self) -> list[str]:
        if not self.predictions:
            return [
                f"at K√nμ = {o.decay:.4g} found {o.kind} {o.best:.8g}{o.unfinished}"
                for o in self.outcomes
            ]
        pairs = zip(self.predictions, self.outcomes, strict=False)
        return [
            f"at K√nμ = {p.decay:.4g} predicted {p.kind} {p.value:.8g}, found {o.kind} "
            f"{o.best:.8g} ({o.reached(p.value)} of {len(o.values)} there{_below(p, o)})"
            f"{o.unfinished}"
            for p, o in pairs
        ]

    def explain(self) -> str:
        """Describe every answer with its evidence, then the conclusion."""
        lines = [self.name, ""]
        lines += [f"{name.replace('_', ' ')}: {answer}" for name, answer in self.answers.items()]
        lines += [f"collapse: {self.collapse}", "", self.theorem]
        for p in self.predictions:
            name = "NC value" if self.levels is None else "symmetric value"
            text = f"K√nμ = {p.decay:.4g}: {name} {p.nc_value:.8g} at margin {p.margin:.5g}"
            if self.levels is not None:
                text += f", τ = {p.level:.5g}"
            if np.isfinite(p.nc_lower_bound):
                text += f" (branch and bound: at least {p.nc_lower_bound:.8g})"
            if np.isfinite(p.live_value):
                text += f"; {p.num_live} live classes {p.live_value:.8g}"
            lines.append(f"{text}; origin {p.origin_value:.8g}")
        return "\n".join(lines + self._lines())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        predictions = [
            dataclasses.asdict(p) | {"value": p.value, "kind": p.kind} for p in self.predictions
        ]
        outcomes = [dataclasses.asdict(o) | {"best": o.best} for o in self.outcomes]
        numbers = (
            "threshold", "local_threshold", "origin_threshold", "jumps", "jump_probability",
            "theorem",
        )  # fmt: skip
        return {
            "loss": self.loss.label(),
            "num_classes": self.num_classes,
            "lam_b": self.lam_b,
            "answers": {name: answer.as_dict() for name, answer in self.answers.items()},
            **{name: getattr(self, name) for name in numbers},
            "predictions": predictions,
            "outcomes": outcomes,
        }


def check_loss(
    loss: Loss | Callable[..., Any] | str,
    num_classes: int = 10,
    *,
    lam_b: float | None = None,
    decays: tuple[float, ...] | None = None,
    num_starts: int = 20,
    seed: int = 0,
) -> LossReport:
    """Find the theorem that applies to a loss, its minimisers, and the decay that ends collapse.

    Properties of the losses of the library follow from their formulas. For a function, samples can
    refute a property with a witness but not prove it, so other properties are undecided.

    Args:
        loss: A loss, its text ("gce:0.7"), or a JAX function of (logits (K,), label).
        num_classes: K, at least 2; 10 by default.
        lam_b: Weight decay of the bias in the runs, 0 for a free bias, None for no bias.
        decays: K√nμ of the runs; None is half and nine tenths of the threshold, and one between it
            and `origin_threshold` if that is larger.
        num_starts: Number of runs at each decay, 0 for none; 20 by default.
        seed: Seed of all samples and starts.

    Returns:
        The answers, the threshold and its jump, the conclusion, predictions and outcomes.

    Raises:
        ValueError: A number is out of range, or the loss is not finite at equal logits.
        TypeError: JAX cannot trace the function, or it does not return one number for one sample.

    Source: Zhou et al., Are All Losses Created Equal (NeurIPS 2022), for the two properties.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    check_size(num_classes, num_classes, num_classes)
    if lam_b is not None and not 0 <= lam_b < np.inf:
        raise ValueError(f"lam_b must be non-negative and finite, or None, got {lam_b}")
    if num_starts < 0:
        raise ValueError(f"num_starts must be at least 0, got {num_starts}")
    if decays is not None and not all(0 < x < np.inf for x in decays):
        raise ValueError(f"decays must be positive and finite, got {decays}")
    checked = as_loss(loss, num_classes)
    same = equivariant(checked, num_classes, seed)
    shift = shift_invariant(checked, num_classes, seed)
    profile = Profile.of(checked, num_classes)
    bent = convex(checked, num_classes, seed)
    # Equal margins are the symmetric points only for equivariant, shift-invariant losses.
    applies = same.holds is not False and shift.holds is not False
    levels = None
    if same.holds is not False and shift.holds is False and checked.is_convex():
        levels = Levels(checked, num_classes, lam_b)
    property_one = contrastive(checked, num_classes, seed, equivariant=same, shift_invariant=shift)
    threshold, after = profile.threshold if applies or profile.discontinuous else (np.nan, 0.0)
    threshold *= profile.unit
    origin_threshold = threshold
    if levels is not None:
        threshold, origin_threshold = levels.thresholds
    attained = not profile.discontinuous and profile.far_fall < 1e-6
    places = _places(decays, threshold, origin_threshold)
    falls = property_one.holds is True and not isinstance(checked, LabelSmoothing)
    predictions = tuple(
        predict(checked, profile, decay, share, lam_b, falls=falls, levels=levels)
        for decay, share in places
        if (applies or levels is not None) and attained
    )
    outcomes = tuple(
        run(checked, num_classes, decay, lam_b, num_starts=num_starts, seed=seed)
        for decay, _ in places
        if num_starts and profile.far_fall < 1e-6
    )
    minimisation = _minimisation(checked, profile, applies)
    jumps = applies and profile.jumps
    return LossReport(
        loss=checked,
        num_classes=num_classes,
        lam_b=lam_b,
        equivariant=same,
        shift_invariant=shift,
        of_label_probability=of_label_probability(checked, num_classes, seed),
        finite=finite(checked, num_classes, seed),
        bounded_below=bounded_below(checked, num_classes, seed),
        contrastive=property_one,
        minimisation=minimisation,
        convex=bent,
        threshold=float(threshold),
        local_threshold=float(-profile.slope[0] * profile.unit),
        origin_threshold=float(origin_threshold),
        jumps=jumps,
        jump_probability=float(profile.probability(max(after, profile.landing)))
        if jumps
        else np.nan,
        theorem=conclusion(
            checked, profile, lam_b, (same, shift, property_one, minimisation, bent)
        ),
        predictions=predictions,
        outcomes=outcomes,
        profile=profile,
        levels=levels,
    )


def _places(
    decays: tuple[float, ...] | None, threshold: float, origin: float
) -> list[tuple[float, float]]:
    """Decays K√nμ and their ratios to the threshold."""
    there = np.isfinite(threshold) and threshold > 0
    if decays is None:
        decays = tuple(x * threshold for x in _SHARES) if there else _DECAYS
        if there and origin > threshold:  # and where all features are equal
            decays += ((threshold * origin) ** 0.5,)
    return [(float(x), float(x / threshold) if there else np.nan) for x in decays]


def _minimisation(loss: Loss, profile: Profile, applies: bool) -> Answer:
    """Decide whether the minimiser of φ(s) + c|s| is unique and ≥ 0 for every c > 0."""
    if not applies:
        return undecided("asked of equivariant, shift-invariant losses only")
    if profile.discontinuous:
        return no("the profile jumps at s = 0", before=float(profile.value[0]))
    if profile.rises_before_zero:
        return undecided("the profile rises with the margin at some s ≤ 0")
    if profile.faces:
        face = profile.faces[0]
        return no(
            "one decay has two minimisers, where the profile is not strictly convex",
            decay=face.slope * profile.unit,
            margins=[face.low, face.high],
        )
    known = not isinstance(loss, CustomLoss)
    if known and loss.is_convex():
        return yes("proof: the profile is strictly convex where it falls")
    if known and loss.contrastive:
        edge = float(loss.profile_convex_above(profile.num_classes))
        if edge <= 1.0 / profile.num_classes:
            return yes(f"proof: the profile is convex for p ≥ {edge:.4g}, and 1/K is no less")
    return undecided(
        f"no concave place of the profile at {len(profile.s)} margins, which is no proof"
    )


def _below(prediction: Prediction, outcome: Outcome) -> str:
    gap = prediction.value - outcome.best
    return ", BELOW the prediction" if gap > REACHED * (1.0 + abs(prediction.value)) else ""


def _bias(lam_b: float | None) -> str:
    if lam_b is None:
        return "no bias"
    return "a free bias" if lam_b == 0 else f"a bias decayed by {lam_b:g}"
