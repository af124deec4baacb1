"""Real networks beside the unconstrained feature model: measures, statistics, curvature."""

from ufm.networks.curvature import NetworkCurvature as NetworkCurvature
from ufm.networks.curvature import TrainingObjective as TrainingObjective
from ufm.networks.curvature import network_curvature as network_curvature
from ufm.networks.equivalence import Agreement as Agreement
from ufm.networks.equivalence import Equivalence as Equivalence
from ufm.networks.equivalence import Outcome as Outcome
from ufm.networks.equivalence import agreement as agreement
from ufm.networks.equivalence import paired_equivalence as paired_equivalence
from ufm.networks.last_layer import LastLayerMeasures as LastLayerMeasures
from ufm.networks.last_layer import ModelView as ModelView
from ufm.networks.last_layer import measure_last_layer as measure_last_layer
