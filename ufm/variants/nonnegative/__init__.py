r"""Non-negative features, as after a ReLU: H ≥ 0 entry by entry, both factors under weight decay.

The penalty on Z = WH that the decays amount to is γ(Z) = inf Σ_r ‖w_r‖ ‖h_r‖ over Z = Σ_r w_r h_rᵀ
with h_r ≥ 0, and its polar γ°(G) = max {‖Gv‖ : v ≥ 0, ‖v‖ = 1} takes the place of ‖G‖₂. Minima are
orthogonal frames of class means instead of simplex ETFs (whose NC1–NC3 they share, since those
compare centred means: see `ufm.frame_metrics`), and classes decouple without a bias. The landscape
is not benign: see `ufm.variants.nonnegative.certificate` and `merged_solve`.
"""

from ufm.variants.nonnegative.merging import merged_solve as merged_solve
from ufm.variants.nonnegative.variant import NonNegativeFeatures as NonNegativeFeatures
