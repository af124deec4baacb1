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

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ufm.certificates.certificate import Certificate as Certificate
    from ufm.certificates.certificate import Reason as Reason
    from ufm.certificates.certificate import Verdict as Verdict
    from ufm.certificates.certificate import certify as certify
    from ufm.certificates.escape import Saddle as Saddle
    from ufm.certificates.escape import saddle as saddle
    from ufm.collapse.metrics import NCMetrics as NCMetrics
    from ufm.collapse.metrics import nc_metrics as nc_metrics
    from ufm.collapse.metrics import simplex_etf as simplex_etf
    from ufm.collapse.origin import origin as origin
    from ufm.collapse.symmetric_solution import collapse_threshold as collapse_threshold
    from ufm.collapse.symmetric_solution import symmetric_minimum as symmetric_minimum
    from ufm.collapse.target_metrics import TargetMetrics as TargetMetrics
    from ufm.collapse.target_metrics import target_metrics as target_metrics
    from ufm.collapse.tracker import CollapseTracker as CollapseTracker
    from ufm.collapse.uncentred import FrameMetrics as FrameMetrics
    from ufm.collapse.uncentred import frame_metrics as frame_metrics
    from ufm.counterexamples.found import Hunt as Hunt
    from ufm.counterexamples.found import SpuriousMinimum as SpuriousMinimum
    from ufm.counterexamples.hunt import hunt as hunt
    from ufm.counterexamples.interval import spurious_interval as spurious_interval
    from ufm.counterexamples.phases import FocalPhases as FocalPhases
    from ufm.counterexamples.phases import focal_phases as focal_phases
    from ufm.counterexamples.search_space import SearchSpace as SearchSpace
    from ufm.hessian import Eigenpairs as Eigenpairs
    from ufm.hessian import HessianOperator as HessianOperator
    from ufm.hessian import Histogram as Histogram
    from ufm.hessian import Inertia as Inertia
    from ufm.hessian import SpectralDensity as SpectralDensity
    from ufm.hessian import Spectrum as Spectrum
    from ufm.hessian import dense_hessian as dense_hessian
    from ufm.hessian import eigenvalue_bracket as eigenvalue_bracket
    from ufm.hessian import eigenvalue_histogram as eigenvalue_histogram
    from ufm.hessian import extremal_eigenpairs as extremal_eigenpairs
    from ufm.hessian import extremal_eigenpairs_of as extremal_eigenpairs_of
    from ufm.hessian import hessian_operator as hessian_operator
    from ufm.hessian import hvp as hvp
    from ufm.hessian import inertia as inertia
    from ufm.hessian import spectral_density as spectral_density
    from ufm.hessian import spectral_density_of as spectral_density_of
    from ufm.landscape import Census as Census
    from ufm.landscape import CriticalPoint as CriticalPoint
    from ufm.landscape import explore as explore
    from ufm.landscape import find_roots as find_roots
    from ufm.landscape import gradient_flow as gradient_flow
    from ufm.last_layer.dossier import write_dossier as write_dossier
    from ufm.last_layer.examine import Examination as Examination
    from ufm.last_layer.examine import examine as examine
    from ufm.last_layer.read import Classifier as Classifier
    from ufm.last_layer.read import as_classifier as as_classifier
    from ufm.last_layer.read import load_classifier as load_classifier
    from ufm.loss_check.report import LossReport as LossReport
    from ufm.loss_check.report import check_loss as check_loss
    from ufm.losses import MAE as MAE
    from ufm.losses import MSE as MSE
    from ufm.losses import BinaryCrossEntropy as BinaryCrossEntropy
    from ufm.losses import BiTempered as BiTempered
    from ufm.losses import Brier as Brier
    from ufm.losses import ClassWeighted as ClassWeighted
    from ufm.losses import ComplementCE as ComplementCE
    from ufm.losses import ComplementObjective as ComplementObjective
    from ufm.losses import CrammerSinger as CrammerSinger
    from ufm.losses import CrossEntropy as CrossEntropy
    from ufm.losses import CustomLoss as CustomLoss
    from ufm.losses import Focal as Focal
    from ufm.losses import GeneralizedCE as GeneralizedCE
    from ufm.losses import LabelSmoothing as LabelSmoothing
    from ufm.losses import LogitNorm as LogitNorm
    from ufm.losses import Loss as Loss
    from ufm.losses import NegativeLearning as NegativeLearning
    from ufm.losses import Poly1 as Poly1
    from ufm.losses import SymmetricCE as SymmetricCE
    from ufm.losses import TaylorCE as TaylorCE
    from ufm.losses import TemperatureCE as TemperatureCE
    from ufm.losses import VectorScaling as VectorScaling
    from ufm.losses import WestonWatkins as WestonWatkins
    from ufm.losses import parse_loss as parse_loss
    from ufm.minimum.decay_path import DecayPath as DecayPath
    from ufm.minimum.decay_path import decay_path as decay_path
    from ufm.minimum.geometry_match import GeometryMatch as GeometryMatch
    from ufm.minimum.geometry_match import compare_geometry as compare_geometry
    from ufm.minimum.global_minimum import GlobalMinimum as GlobalMinimum
    from ufm.minimum.global_minimum import global_minimum as global_minimum
    from ufm.minimum.minority_thresholds import MinorityThreshold as MinorityThreshold
    from ufm.minimum.minority_thresholds import MinorityThresholds as MinorityThresholds
    from ufm.minimum.minority_thresholds import minority_thresholds as minority_thresholds
    from ufm.minimum.narrow_bound import NarrowBound as NarrowBound
    from ufm.minimum.narrow_bound import narrow_bound as narrow_bound
    from ufm.minimum.nearest_minimiser import NearestMinimiser as NearestMinimiser
    from ufm.minimum.nearest_minimiser import nearest_minimiser as nearest_minimiser
    from ufm.minimum.softmax_codes import SoftmaxCode as SoftmaxCode
    from ufm.minimum.softmax_codes import softmax_code as softmax_code
    from ufm.minimum.zero_decay_limit import ZeroDecayLimit as ZeroDecayLimit
    from ufm.minimum.zero_decay_limit import zero_decay_limit as zero_decay_limit
    from ufm.model.constraints import Ball as Ball
    from ufm.model.constraints import Budget as Budget
    from ufm.model.constraints import Fixed as Fixed
    from ufm.model.constraints import NonNegative as NonNegative
    from ufm.model.constraints import Sphere as Sphere
    from ufm.model.objective import objective as objective
    from ufm.model.problem import Params as Params
    from ufm.model.problem import Problem as Problem
    from ufm.model.sharding import init_sharded as init_sharded
    from ufm.model.sharding import sample_mesh as sample_mesh
    from ufm.model.sharding import shard_samples as shard_samples
    from ufm.model.start import init_params as init_params
    from ufm.runs.compilation_cache import enable_compilation_cache as enable_compilation_cache
    from ufm.runs.many_starts import Verification as Verification
    from ufm.runs.many_starts import verify as verify
    from ufm.runs.trajectory import Trajectory as Trajectory
    from ufm.runs.trajectory import trajectory as trajectory
    from ufm.solvers import History as History
    from ufm.solvers import Solution as Solution
    from ufm.solvers import Status as Status
    from ufm.solvers import polish as polish
    from ufm.solvers import solve as solve
    from ufm.solvers import solve_many as solve_many
    from ufm.spectra.along_run import SpectrumPath as SpectrumPath
    from ufm.spectra.along_run import spectrum_along as spectrum_along
    from ufm.spectra.at_points import SpectrumRecord as SpectrumRecord
    from ufm.spectra.at_points import spectrum as spectrum
    from ufm.sweep import load_sweep as load_sweep
    from ufm.sweep import open_store as open_store
    from ufm.sweep import run_sweep as run_sweep
    from ufm.variants.contrastive.problem import ContrastiveProblem as ContrastiveProblem
    from ufm.variants.deep.critical_list import ListedPoint as ListedPoint
    from ufm.variants.deep.critical_list import critical_points as critical_points
    from ufm.variants.deep.layers import LayerSpectra as LayerSpectra
    from ufm.variants.deep.layers import layer_spectra as layer_spectra
    from ufm.variants.deep.phases import DeepPhases as DeepPhases
    from ufm.variants.deep.phases import deep_phases as deep_phases

# Loaded on first use, so that `ufm --help` does not wait for JAX.
_NAMES = {
    "ufm.certificates.certificate": ("Certificate", "Reason", "Verdict", "certify"),
    "ufm.certificates.escape": ("Saddle", "saddle"),
    "ufm.collapse.metrics": ("NCMetrics", "nc_metrics", "simplex_etf"),
    "ufm.collapse.origin": ("origin",),
    "ufm.collapse.symmetric_solution": ("collapse_threshold", "symmetric_minimum"),
    "ufm.collapse.target_metrics": ("TargetMetrics", "target_metrics"),
    "ufm.collapse.tracker": ("CollapseTracker",),
    "ufm.collapse.uncentred": ("FrameMetrics", "frame_metrics"),
    "ufm.counterexamples.found": ("Hunt", "SpuriousMinimum"),
    "ufm.counterexamples.hunt": ("hunt",),
    "ufm.counterexamples.interval": ("spurious_interval",),
    "ufm.counterexamples.phases": ("FocalPhases", "focal_phases"),
    "ufm.counterexamples.search_space": ("SearchSpace",),
    "ufm.hessian": (
        "Eigenpairs",
        "HessianOperator",
        "Histogram",
        "Inertia",
        "SpectralDensity",
        "Spectrum",
        "dense_hessian",
        "eigenvalue_bracket",
        "eigenvalue_histogram",
        "extremal_eigenpairs",
        "extremal_eigenpairs_of",
        "hessian_operator",
        "hvp",
        "inertia",
        "spectral_density",
        "spectral_density_of",
    ),
    "ufm.landscape": ("Census", "CriticalPoint", "explore", "find_roots", "gradient_flow"),
    "ufm.last_layer.dossier": ("write_dossier",),
    "ufm.last_layer.examine": ("Examination", "examine"),
    "ufm.last_layer.read": ("Classifier", "as_classifier", "load_classifier"),
    "ufm.loss_check.report": ("LossReport", "check_loss"),
    "ufm.losses": (
        "BiTempered",
        "BinaryCrossEntropy",
        "Brier",
        "ClassWeighted",
        "ComplementCE",
        "ComplementObjective",
        "CrammerSinger",
        "CrossEntropy",
        "CustomLoss",
        "Focal",
        "GeneralizedCE",
        "LabelSmoothing",
        "LogitNorm",
        "Loss",
        "MAE",
        "MSE",
        "NegativeLearning",
        "Poly1",
        "SymmetricCE",
        "TaylorCE",
        "TemperatureCE",
        "VectorScaling",
        "WestonWatkins",
        "parse_loss",
    ),
    "ufm.minimum.decay_path": ("DecayPath", "decay_path"),
    "ufm.minimum.geometry_match": ("GeometryMatch", "compare_geometry"),
    "ufm.minimum.global_minimum": ("GlobalMinimum", "global_minimum"),
    "ufm.minimum.minority_thresholds": (
        "MinorityThreshold",
        "MinorityThresholds",
        "minority_thresholds",
    ),
    "ufm.minimum.narrow_bound": ("NarrowBound", "narrow_bound"),
    "ufm.minimum.nearest_minimiser": ("NearestMinimiser", "nearest_minimiser"),
    "ufm.minimum.softmax_codes": ("SoftmaxCode", "softmax_code"),
    "ufm.minimum.zero_decay_limit": ("ZeroDecayLimit", "zero_decay_limit"),
    "ufm.model.constraints": ("Ball", "Budget", "Fixed", "NonNegative", "Sphere"),
    "ufm.model.objective": ("objective",),
    "ufm.model.problem": ("Params", "Problem"),
    "ufm.model.sharding": ("init_sharded", "sample_mesh", "shard_samples"),
    "ufm.model.start": ("init_params",),
    "ufm.runs.compilation_cache": ("enable_compilation_cache",),
    "ufm.runs.many_starts": ("Verification", "verify"),
    "ufm.runs.trajectory": ("Trajectory", "trajectory"),
    "ufm.solvers": ("History", "Solution", "Status", "polish", "solve", "solve_many"),
    "ufm.spectra.along_run": ("SpectrumPath", "spectrum_along"),
    "ufm.spectra.at_points": ("SpectrumRecord", "spectrum"),
    "ufm.sweep": ("load_sweep", "open_store", "run_sweep"),
    "ufm.variants.deep.critical_list": ("ListedPoint", "critical_points"),
    "ufm.variants.deep.layers": ("LayerSpectra", "layer_spectra"),
    "ufm.variants.deep.phases": ("DeepPhases", "deep_phases"),
    "ufm.variants.contrastive.problem": ("ContrastiveProblem",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]  # computed


def __getattr__(name: str) -> Any:
    if name == "__version__":
        import importlib.metadata

        return importlib.metadata.version("ufm")
    if name not in _HOME:
        raise AttributeError(f"module 'ufm' has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
