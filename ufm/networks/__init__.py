"""Train real networks, and compare the collapse of their last layers with the model.

    data = load_data("digits")
    config = TrainConfig(loss="ls:0.05", width=256)
    config = with_rate(config, choose_learning_rate(config, data))
    result = train(config, data)
    result.history["nc1"], result.layer.classifier().problem

Only the command uses this package.
"""

from ufm.networks.data.images import ImageData as ImageData
from ufm.networks.data.images import load_data as load_data
from ufm.networks.data.images import validation_split as validation_split
from ufm.networks.measures.curvature import NetworkCurvature as NetworkCurvature
from ufm.networks.measures.curvature import TrainingObjective as TrainingObjective
from ufm.networks.measures.curvature import network_curvature as network_curvature
from ufm.networks.measures.evaluation import LastLayer as LastLayer
from ufm.networks.measures.hessian import trained_curvature as trained_curvature
from ufm.networks.measures.last_layer import LastLayerMeasures as LastLayerMeasures
from ufm.networks.measures.last_layer import ModelView as ModelView
from ufm.networks.measures.last_layer import beside_model as beside_model
from ufm.networks.measures.last_layer import measure_last_layer as measure_last_layer
from ufm.networks.sweeps.equivalence import Agreement as Agreement
from ufm.networks.sweeps.equivalence import Equivalence as Equivalence
from ufm.networks.sweeps.equivalence import Outcome as Outcome
from ufm.networks.sweeps.equivalence import agreement as agreement
from ufm.networks.sweeps.equivalence import paired_equivalence as paired_equivalence
from ufm.networks.sweeps.page_contents import page_data as page_data
from ufm.networks.sweeps.summary import Group as Group
from ufm.networks.sweeps.summary import summarise as summarise
from ufm.networks.sweeps.sweep import NetworkSweep as NetworkSweep
from ufm.networks.sweeps.sweep import load_network_sweep as load_network_sweep
from ufm.networks.training.config import TrainConfig as TrainConfig
from ufm.networks.training.learning_rate import CANDIDATES as CANDIDATES
from ufm.networks.training.learning_rate import Choice as Choice
from ufm.networks.training.learning_rate import Trial as Trial
from ufm.networks.training.learning_rate import choose_learning_rate as choose_learning_rate
from ufm.networks.training.learning_rate import trial_epochs as trial_epochs
from ufm.networks.training.objective import PAPER_LOSSES as PAPER_LOSSES
from ufm.networks.training.objective import Objective as Objective
from ufm.networks.training.objective import objective_specs as objective_specs
from ufm.networks.training.objective import parse_objective as parse_objective
from ufm.networks.training.training import EpochReport as EpochReport
from ufm.networks.training.training import TrainResult as TrainResult
from ufm.networks.training.training import TrainStatus as TrainStatus
from ufm.networks.training.training import train as train
