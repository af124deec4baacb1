"""The Hessian: products, exact counts and spectra, extremal eigenpairs, spectral density."""

from ufm.hessian.closed_form import NO_FRAME as NO_FRAME
from ufm.hessian.closed_form import PLACES as PLACES
from ufm.hessian.closed_form import closed_form_spectrum as closed_form_spectrum
from ufm.hessian.collapsed import spectrum_of_means as spectrum_of_means
from ufm.hessian.dense import dense_hessian as dense_hessian
from ufm.hessian.density import spectral_density as spectral_density
from ufm.hessian.density import spectral_density_of as spectral_density_of
from ufm.hessian.extremal import Eigenpairs as Eigenpairs
from ufm.hessian.extremal import extremal_eigenpairs as extremal_eigenpairs
from ufm.hessian.extremal import extremal_eigenpairs_of as extremal_eigenpairs_of
from ufm.hessian.gauge import rank_of as rank_of
from ufm.hessian.gauge import rotation_dimension as rotation_dimension
from ufm.hessian.hvp import HessianOperator as HessianOperator
from ufm.hessian.hvp import hessian_operator as hessian_operator
from ufm.hessian.hvp import hvp as hvp
from ufm.hessian.inertia import Histogram as Histogram
from ufm.hessian.inertia import Inertia as Inertia
from ufm.hessian.inertia import eigenvalue_bracket as eigenvalue_bracket
from ufm.hessian.inertia import eigenvalue_histogram as eigenvalue_histogram
from ufm.hessian.inertia import inertia as inertia
from ufm.hessian.lipschitz import hessian_lipschitz as hessian_lipschitz
from ufm.hessian.measure import Estimate as Estimate
from ufm.hessian.measure import SpectralDensity as SpectralDensity
from ufm.hessian.spectrum import METHODS as METHODS
from ufm.hessian.spectrum import spectrum_of as spectrum_of
from ufm.hessian.spectrum_result import Spectrum as Spectrum
