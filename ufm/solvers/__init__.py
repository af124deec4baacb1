"""Solvers: one algorithm per file, one `Solution`, one stopping rule.

>>> solution = solve(problem, init_params(problem, key))
>>> solution.status, round(float(solution.value), 6)
(<Status.CONVERGED: 0>, 0.183692)
>>> solve_many(problem, key, num_starts=3).value.shape
(3,)
>>> polish(problem, solution).value.dtype
dtype('float64')
"""

from ufm.solvers._solution import History as History
from ufm.solvers._solution import Solution as Solution
from ufm.solvers._solution import Status as Status
from ufm.solvers._solve import DEFAULT_METHOD as DEFAULT_METHOD
from ufm.solvers._solve import METHODS as METHODS
from ufm.solvers._solve import check_method as check_method
from ufm.solvers._solve import check_options as check_options
from ufm.solvers._solve import default_tol as default_tol
from ufm.solvers._solve import noise_floor as noise_floor
from ufm.solvers._solve import polish as polish
from ufm.solvers._solve import prepared_run as prepared_run
from ufm.solvers._solve import solve as solve
from ufm.solvers._solve import solve_in_lock_step as solve_in_lock_step
from ufm.solvers._solve import solve_many as solve_many
