from ufm.hessian.counts.inertia import Histogram as Histogram
from ufm.hessian.counts.inertia import Inertia as Inertia
from ufm.hessian.counts.inertia import eigenvalue_bracket as eigenvalue_bracket
from ufm.hessian.counts.inertia import eigenvalue_histogram as eigenvalue_histogram
from ufm.hessian.counts.inertia import inertia as inertia
from ufm.hessian.krylov.density import spectral_density as spectral_density
from ufm.hessian.krylov.density import spectral_density_of as spectral_density_of
from ufm.hessian.krylov.extremal import Eigenpairs as Eigenpairs
from ufm.hessian.krylov.extremal import extremal_eigenpairs as extremal_eigenpairs
from ufm.hessian.krylov.extremal import extremal_eigenpairs_of as extremal_eigenpairs_of
from ufm.hessian.krylov.measure import Estimate as Estimate
from ufm.hessian.krylov.measure import SpectralDensity as SpectralDensity
from ufm.hessian.products.dense import dense_hessian as dense_hessian
from ufm.hessian.products.hvp import HessianOperator as HessianOperator
from ufm.hessian.products.hvp import hessian_operator as hessian_operator
from ufm.hessian.products.hvp import hvp as hvp
from ufm.hessian.products.lipschitz import hessian_lipschitz as hessian_lipschitz
from ufm.hessian.spectrum import METHODS as METHODS
from ufm.hessian.spectrum import spectrum_of as spectrum_of
from ufm.hessian.spectrum_result import Spectrum as Spectrum
from ufm.hessian.structured.class_symmetry import (
    class_symmetric_spectrum as class_symmetric_spectrum,
)
from ufm.hessian.structured.closed_form import NO_FRAME as NO_FRAME
from ufm.hessian.structured.closed_form import PLACES as PLACES
from ufm.hessian.structured.closed_form import closed_form_spectrum as closed_form_spectrum
from ufm.hessian.structured.closed_form import has_frame as has_frame
from ufm.hessian.structured.collapsed import COLLAPSED as COLLAPSED
from ufm.hessian.structured.collapsed import collapse_deviation as collapse_deviation
from ufm.hessian.structured.collapsed import nearest_means as nearest_means
from ufm.hessian.structured.collapsed import spectrum_of_means as spectrum_of_means
from ufm.hessian.structured.padded import padded_spectrum as padded_spectrum
from ufm.hessian.symmetry_zeros import rank_of as rank_of
from ufm.hessian.symmetry_zeros import rotation_dimension as rotation_dimension
