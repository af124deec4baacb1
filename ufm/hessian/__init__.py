"""The Hessian: products with it, exact eigenvalue counts, and the density of its eigenvalues."""

from ufm.hessian.density import spectral_density as spectral_density
from ufm.hessian.density import spectral_density_of as spectral_density_of
from ufm.hessian.hvp import hvp as hvp
from ufm.hessian.inertia import Inertia as Inertia
from ufm.hessian.inertia import inertia as inertia
from ufm.hessian.inertia import rotation_dimension as rotation_dimension
from ufm.hessian.lipschitz import hessian_lipschitz as hessian_lipschitz
from ufm.hessian.measure import Estimate as Estimate
from ufm.hessian.measure import SpectralDensity as SpectralDensity
