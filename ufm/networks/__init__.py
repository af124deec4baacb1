"""Real networks: do their last layers collapse as the model predicts, whatever the loss?

    >>> data = load_data("digits")
    >>> config = TrainConfig(loss="ls:0.05", width=256)
    >>> config = with_rate(config, choose_learning_rate(config, data))
    >>> result = train(config, data)
    >>> result.history["nc1"], result.layer.classifier().problem

Of the rest of the library nothing but the command uses it.
"""

from ufm.networks.config import TrainConfig as TrainConfig
from ufm.networks.data import ImageData as ImageData
from ufm.networks.data import load_data as load_data
from ufm.networks.data import validation_split as validation_split
from ufm.networks.evaluation import LastLayer as LastLayer
from ufm.networks.learning_rate import CANDIDATES as CANDIDATES
from ufm.networks.learning_rate import Choice as Choice
from ufm.networks.learning_rate import Trial as Trial
from ufm.networks.learning_rate import choose_learning_rate as choose_learning_rate
from ufm.networks.learning_rate import trial_epochs as trial_epochs
from ufm.networks.objective import PAPER_LOSSES as PAPER_LOSSES
from ufm.networks.objective import Objective as Objective
from ufm.networks.objective import objective_specs as objective_specs
from ufm.networks.objective import parse_objective as parse_objective
from ufm.networks.training import EpochReport as EpochReport
from ufm.networks.training import TrainResult as TrainResult
from ufm.networks.training import TrainStatus as TrainStatus
from ufm.networks.training import train as train
