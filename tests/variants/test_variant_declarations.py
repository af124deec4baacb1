"""A loss that is not convex where it says so refutes its certificate, whatever the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ufm
from ufm.model.objective import logits
from ufm.variants.deep.factors import end_to_end

DECAYS = {"lam_w": 1e-2, "lam_h": 1e-2}
SPHERES = {"classifier": ufm.Sphere(), "features": ufm.Sphere(), "temperature": 0.1}
MODELS = {
    "plain": DECAYS,
    "spheres": {"lam_w": None, "lam_h": None, **SPHERES},
    "budget": {**DECAYS, "lam_w": None, "classifier": ufm.Budget(2.0)},
    "given": {**DECAYS, "lam_w": None, "classifier": ufm.Fixed(np.eye(3, 4))},
    "nonnegative": {**DECAYS, "features": ufm.NonNegative()},
    "hidden": {**DECAYS, "lam_hidden": (1e-2,)},
}


@pytest.mark.parametrize("name", MODELS)
def test_a_bump_at_a_sample_is_found(name):
    sizes = {"class_counts": (3, 3, 3), "dim": 4, "lam_b": None}
    plain = ufm.Problem(loss=ufm.CrossEntropy(), **sizes, **MODELS[name])
    point = ufm.init_params(plain, jax.random.key(0), 3.0)
    seen = end_to_end(point) if point.hidden else point
    center = tuple(np.asarray(logits(plain, seen))[:, 4].tolist())

    def bumpy(z, label):
        return (
            jax.nn.logsumexp(z) - z[label] + jnp.exp(-2e3 * jnp.sum((z - jnp.array(center)) ** 2))
        )

    loss = ufm.CustomLoss(bumpy, convex=True, lower_bound=0.0)
    found = ufm.certify(ufm.Problem(loss=loss, **sizes, **MODELS[name]), point)
    assert (found.verdict, found.reason) == (
        ufm.Verdict.UNDECIDED,
        ufm.certificates.certificate.Reason.DECLARATION_REFUTED,
    )
    assert "At column 4 of H the loss" in found.explain()
