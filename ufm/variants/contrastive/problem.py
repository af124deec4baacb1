r"""Supervised contrastive learning with free features: a problem without a classifier.

    f(H) = (1/|A|) Σ_{i∈A} [ log Σ_{a≠i} e^{⟨h_i,h_a⟩/τ} − (1/|P(i)|) Σ_{p∈P(i)} ⟨h_i,h_p⟩/τ ],
    ‖h_i‖ = 1,   P(i) = {p ≠ i : y_p = y_i},   A = {i : P(i) not empty}

(Khosla et al., 2020, the loss "out"; their code multiplies it by τ over a base temperature.) A
sample without positives is no anchor, but a negative of all others. With fixed `batches` f is the
mean of the losses of the batches, where sums run over the batch.

f depends on the Gram matrix X = HᵀH alone and is convex in it, so that many questions have proven
answers, in any dimension d. A point is `Params` whose W has no rows.

    >>> contrastive = ContrastiveProblem(class_counts=(5, 5, 5, 5), dim=3)
    >>> contrastive
    ContrastiveProblem
      class_counts  (5, 5, 5, 5)
      dim           3
      temperature   0.5
    >>> start = init_params(contrastive, jax.random.key(0))
    >>> end = solve(contrastive, start)
    >>> round(float(end.value), 12), certify(contrastive, end.params).verdict.name
    (1.61785276174, 'GLOBAL_MINIMUM')
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ufm._support.pytree import hyperparameter, pytree, require, static, whole_number
from ufm.losses import CrossEntropy, Hyper
from ufm.losses._base import show
from ufm.model.checks import Counts, Whole, checked_counts
from ufm.model.constraints import Constraint, NonNegative
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.variant import Variant

if TYPE_CHECKING:
    Batches = tuple[tuple[int, ...], ...]
else:
    Batches = Any


@pytree(eq=True)
class SupervisedContrastive(CrossEntropy):
    """Cross-entropy of an anchor's cosines/τ with the other samples, against its positives."""

    name: ClassVar[str] = "SupCon"
    #: The property of [Z22] is one of logits of classes.
    contrastive: ClassVar[bool] = False

    temperature: Hyper = 0.5

    def label(self) -> str:
        return f"{self.name}(τ={show(self.temperature)})"


@pytree()
class ContrastiveProblem(Problem):
    """Supervised contrastive loss of free features on the unit sphere.

    `class_counts` (n_1, …, n_K) and `dim` (d ≥ 2) are static, `temperature` τ is traced. `batches`
    lists the samples of each mini-batch by index, samples ordered by class; None is the full batch.
    For random batches of size B give `np.random.default_rng(0).permutation(N).reshape(-1, B)`.
    `features=NonNegative()` confines features to the part H ≥ 0 of the sphere (a ReLU).

    The public verbs `objective`, `init_params`, `solve`, `solve_many`, `certify`, `global_minimum`,
    `nc_metrics`, `compare_geometry`, `hvp` and `verify` take it in place of a `Problem`.

    Raises `ValueError` or `TypeError`, naming the field, if an argument is invalid, or if no sample
    has a positive.
    """

    temperature: Hyper = 0.5
    batches: Batches | None = static(default=None)

    _printed = ("class_counts", "dim", "temperature", "batches", "features")
    _optional = ("batches", "features")

    def __init__(
        self,
        class_counts: Counts,
        dim: Whole,
        temperature: Hyper = 0.5,
        batches: Batches | None = None,
        features: Constraint | None = None,
    ) -> None:
        counts = checked_counts(class_counts)
        if len(counts) < 2:
            raise ValueError(f"class_counts needs at least 2 classes, got {len(counts)}")
        if max(counts) < 2:
            raise ValueError(
                "class_counts needs a class of 2 samples or more: a sample without another one of "
                "its class has no contrastive loss"
            )
        dim = whole_number("dim", dim)
        if dim < 2:
            raise ValueError(
                f"dim must be at least 2, got {dim}: in one dimension the sphere is two points"
            )
        if features is not None and not isinstance(features, NonNegative):
            raise TypeError(
                f"features must be None (the unit sphere) or ufm.NonNegative(), got {features!r}"
            )
        temperature = hyperparameter("temperature", temperature)
        require("temperature", temperature, lambda x: x > 0, "positive and finite")
        fields = {
            "loss": SupervisedContrastive(temperature),
            "class_counts": counts,
            "dim": dim,
            **dict.fromkeys(("lam_w", "lam_h", "lam_b", "column_weights", "classifier")),
            "features": features,
            "temperature": temperature,
            "lam_hidden": (),
            "hidden_dims": (),
            "batches": None if batches is None else _checked_batches(batches, counts),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def variant(self) -> Variant:
        """Who answers for this problem."""
        # Not at the top: the answers are about this class.
        from ufm.variants.contrastive.variant import NON_NEGATIVE, SPHERE

        return SPHERE if self.features is None else NON_NEGATIVE

    @property
    def num_outputs(self) -> int:
        """0, the rows of W: there is no classifier."""
        return 0

    def point(self, features: Float[Array, "d N"] | Shaped[np.ndarray, "d N"]) -> Params:
        """The point with these features (d, N), samples ordered by class, each over its norm.

        Raises `ValueError` for another shape, for a feature that is zero or not finite, and for
        negative entries where H ≥ 0.
        """
        H = np.asarray(features, jnp.result_type(float))
        if H.shape != self.shapes["H"]:
            raise ValueError(f"features must have shape {self.shapes['H']}, got {H.shape}")
        sizes = np.linalg.norm(H, axis=0)
        if not np.all(np.isfinite(sizes) & (sizes > 0)):
            raise ValueError("features must be finite, and none of them zero: it has no direction")
        if self.features is not None and np.any(H < 0):
            raise ValueError("features must have no negative entries in a problem with H ≥ 0")
        return Params(jnp.zeros((0, self.dim), H.dtype), jax.device_put(H / sizes), None)


def _checked_batches(given: Any, counts: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The batches as tuples. Raises `TypeError` or `ValueError`, naming `batches`."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"batches must list the samples of each mini-batch, got {given!r}")
    labels = np.repeat(np.arange(len(counts)), counts)
    found = []
    for number, batch in enumerate(given):
        name = f"batches[{number}]"
        if isinstance(batch, str) or not isinstance(batch, Iterable):
            raise TypeError(f"{name} must list the indices of samples, got {batch!r}")
        samples = tuple(whole_number(name, sample, least=0) for sample in batch)
        if samples and max(samples) >= len(labels):
            raise ValueError(f"{name} has the index {max(samples)}, but N={len(labels)}")
        if len(set(samples)) != len(samples):
            raise ValueError(f"{name} has a sample twice")
        if len(set(labels[list(samples)].tolist())) == len(samples):
            raise ValueError(f"{name} has no two samples of a class, so that it has no loss")
        found.append(samples)
    left = sorted(set(range(len(labels))) - {sample for batch in found for sample in batch})
    if left:
        raise ValueError(f"batches must contain every sample: {left[0]} is in none")
    return tuple(found)
