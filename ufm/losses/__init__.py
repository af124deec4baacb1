r"""Classification losses seen from the logits of one sample.

A loss is a function $L(z, k)$ of the logits $z \in \mathbb{R}^K$ and the label $k$. The rest of
the library uses its value, gradient and Hessian product, its convex conjugate if one is known, and
the few properties that the theory needs, such as convexity and shift invariance.

With $p = \mathrm{softmax}(z)$ and $\ell = -\log p_k$:

    CrossEntropy()          ℓ
    LabelSmoothing(alpha)   −Σ_j ŷ_j log p_j,  ŷ = (1 − α) e_k + (α/K) 1
    Focal(gamma)            (1 − p_k)^γ ℓ
    MSE(scale, target)      ½ [κ (z_k − M)² + Σ_{j≠k} z_j²]
    Poly1, GeneralizedCE, SymmetricCE, TaylorCE, MAE    of p_k alone (`_probability`)
    Brier, NegativeLearning, ComplementCE, ComplementObjective    of all p (`_simplex`)
    BiTempered(t1, t2)      of heavy-tailed p (`_tempered`)
    CrammerSinger, WestonWatkins, BinaryCrossEntropy    of margins (`_margins`)
    TemperatureCE, LogitNorm                            of rescaled logits (`_scaled`)
    CustomLoss(fn)          any differentiable function
    ClassWeighted(loss, weights)                        one of these, times a number for each class
    VectorScaling(scale, shift, margin)                 CE of Δz + ι − m_k e_k (`_vector_scaling`)
    SoftmaxTargets, LogisticTargets, SquaredTargets     against vectors (`_targets`)

    >>> loss = LabelSmoothing(0.1)
    >>> round(float(loss.value(jnp.array([2.0, 0.0, 0.0]), 0)), 6)
    0.372878
    >>> parse_loss("ls:0.1")
    LabelSmoothing(alpha=0.1)
"""

from ufm.losses._against import against as against
from ufm.losses._base import AutodiffLoss as AutodiffLoss
from ufm.losses._base import Hyper as Hyper
from ufm.losses._base import Loss as Loss
from ufm.losses._base import Refutation as Refutation
from ufm.losses._class_weighted import ClassWeighted as ClassWeighted
from ufm.losses._custom import CustomLoss as CustomLoss
from ufm.losses._margins import BinaryCrossEntropy as BinaryCrossEntropy
from ufm.losses._margins import CrammerSinger as CrammerSinger
from ufm.losses._margins import WestonWatkins as WestonWatkins
from ufm.losses._parse import FAMILIES as FAMILIES
from ufm.losses._parse import HYPERPARAMETERS as HYPERPARAMETERS
from ufm.losses._parse import distinct_losses as distinct_losses
from ufm.losses._parse import loss_family as loss_family
from ufm.losses._parse import loss_spec as loss_spec
from ufm.losses._parse import make_loss as make_loss
from ufm.losses._parse import parse_loss as parse_loss
from ufm.losses._parse import split_losses as split_losses
from ufm.losses._probability import MAE as MAE
from ufm.losses._probability import GeneralizedCE as GeneralizedCE
from ufm.losses._probability import Poly1 as Poly1
from ufm.losses._probability import SymmetricCE as SymmetricCE
from ufm.losses._probability import TaylorCE as TaylorCE
from ufm.losses._scaled import LogitNorm as LogitNorm
from ufm.losses._scaled import TemperatureCE as TemperatureCE
from ufm.losses._simplex import Brier as Brier
from ufm.losses._simplex import ComplementCE as ComplementCE
from ufm.losses._simplex import ComplementObjective as ComplementObjective
from ufm.losses._simplex import NegativeLearning as NegativeLearning
from ufm.losses._softmax import CrossEntropy as CrossEntropy
from ufm.losses._softmax import Focal as Focal
from ufm.losses._softmax import LabelSmoothing as LabelSmoothing
from ufm.losses._softmax import SoftmaxLoss as SoftmaxLoss
from ufm.losses._squared import MSE as MSE
from ufm.losses._targets import GroupedLoss as GroupedLoss
from ufm.losses._targets import LogisticTargets as LogisticTargets
from ufm.losses._targets import SoftmaxTargets as SoftmaxTargets
from ufm.losses._targets import SquaredTargets as SquaredTargets
from ufm.losses._targets import TargetLoss as TargetLoss
from ufm.losses._tempered import BiTempered as BiTempered
from ufm.losses._vector_scaling import VectorScaling as VectorScaling
