r"""Factors of confined norm: spheres, balls and budgets, with one factor decayed or none.

>>> on_spheres = Problem(loss=CrossEntropy(), class_counts=(4, 2, 1), dim=4, lam_w=None,
...                      lam_h=None, lam_b=None, classifier=Sphere(), features=Sphere(),
...                      temperature=0.5)
>>> run = solve(on_spheres, init_params(on_spheres, key))
>>> certify(on_spheres, run.params).verdict
<Verdict.GLOBAL_MINIMUM: 0>
>>> global_minimum(on_spheres).kind
'imbalanced'
"""

from ufm.model.variant import register
from ufm.variants.norms.variant import Norms

register(Norms())
