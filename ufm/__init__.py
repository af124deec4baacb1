"""The unconstrained feature model: solve it, and prove where each run ended.

import jax, ufm
jax.config.update("jax_enable_x64", True)     # certificates need double precision

problem = ufm.Problem.balanced(
    loss=ufm.LabelSmoothing(0.1), num_classes=10, per_class=100, dim=16,
    lam_w=5e-4, lam_h=5e-4, lam_b=1e-2,
)
solution = ufm.solve(problem, ufm.init_params(problem, jax.random.key(0)))
certificate = ufm.certify(problem, solution.params)   # verdict, gap, escape direction
minimum = ufm.global_minimum(problem)                 # closed form where there is one
metrics = ufm.nc_metrics(problem, solution.params)    # NC1–NC4
"""

from ufm._support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
