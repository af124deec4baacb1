"""The Hessian of the model: products with it, and exact eigenvalue counts."""

from ufm.hessian.hvp import hvp as hvp
from ufm.hessian.inertia import Inertia as Inertia
from ufm.hessian.inertia import inertia as inertia
from ufm.hessian.inertia import rotation_dimension as rotation_dimension
from ufm.hessian.lipschitz import hessian_lipschitz as hessian_lipschitz
