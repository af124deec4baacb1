"""Real networks: do their last layers collapse as the model predicts, whatever the loss?

    >>> data = load_data("digits")
    >>> config = TrainConfig(loss="ls:0.05", width=256)
    >>> config = with_rate(config, choose_learning_rate(config, data))
    >>> result = train(config, data)
    >>> result.history["nc1"], result.layer.classifier().problem

Of the rest of the library nothing but the command uses it.
"""

from ufm.networks.config import TrainConfig as TrainConfig
from ufm.networks.curvature import NetworkCurvature as NetworkCurvature
from ufm.networks.curvature import TrainingObjective as TrainingObjective
from ufm.networks.curvature import network_curvature as network_curvature
from ufm.networks.data import ImageData as ImageData
from ufm.networks.data import load_data as load_data
from ufm.networks.data import validation_split as validation_split
from ufm.networks.equivalence import Agreement as Agreement
from ufm.networks.equivalence import Equivalence as Equivalence
from ufm.networks.equivalence import Outcome as Outcome
from ufm.networks.equivalence import agreement as agreement
from ufm.networks.equivalence import paired_equivalence as paired_equivalence
from ufm.networks.evaluation import LastLayer as LastLayer
from ufm.networks.hessian import trained_curvature as trained_curvature
from ufm.networks.last_layer import LastLayerMeasures as LastLayerMeasures
from ufm.networks.last_layer import ModelView as ModelView
from ufm.networks.last_layer import beside_model as beside_model
from ufm.networks.last_layer import measure_last_layer as measure_last_layer
from ufm.networks.learning_rate import CANDIDATES as CANDIDATES
from ufm.networks.learning_rate import Choice as Choice
from ufm.networks.learning_rate import Trial as Trial
from ufm.networks.learning_rate import choose_learning_rate as choose_learning_rate
from ufm.networks.learning_rate import trial_epochs as trial_epochs
from ufm.networks.objective import PAPER_LOSSES as PAPER_LOSSES
from ufm.networks.objective import Objective as Objective
from ufm.networks.objective import objective_specs as objective_specs
from ufm.networks.objective import parse_objective as parse_objective
from ufm.networks.page_contents import page_data as page_data
from ufm.networks.summary import Group as Group
from ufm.networks.summary import summarise as summarise
from ufm.networks.sweep import NetworkSweep as NetworkSweep
from ufm.networks.sweep import load_network_sweep as load_network_sweep
from ufm.networks.training import EpochReport as EpochReport
from ufm.networks.training import TrainResult as TrainResult
from ufm.networks.training import TrainStatus as TrainStatus
from ufm.networks.training import train as train
