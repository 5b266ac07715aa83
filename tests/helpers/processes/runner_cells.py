"""Six cells for the runner, and what it takes to run them in another interpreter."""

from pathlib import Path as Path

import numpy as np

from helpers.processes.cell_work import square as square
from synaptic_pruning.study.engine.local import Processes as Processes
from synaptic_pruning.study.engine.runner import run as run
from synaptic_pruning.study.forecasting.plan import Plan, expand
from synaptic_pruning.tasks.forecasting.data.series import Series

TIDES = Series("tides", "y", ("y",), np.arange(40), np.sin(np.arange(40.0))[:, None], season=12)
DATA = {"tides": TIDES}
PLAN = Plan(models=("rnn",), arms=("none",), lengths=(3,), horizon=1, seeds=tuple(range(6)), epochs=1)
CELLS = expand(PLAN, [TIDES])
