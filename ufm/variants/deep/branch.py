"""The minimum of a structure at any decay, followed from the nearest known one."""

import math

import numpy as np

from ufm.minimum.structures import Found, Structure, TableLoss, minimum_of

#: Steps of log e: the first, and that at which a branch that is lost has ended. Near its end a
#: longer one leads across the barrier.
_FIRST, _LAST = 0.12, 1e-3


class Branch:
    """`branch(e)` is the minimum of a structure at the decay e, or None.

    A ray has its lowest one at each e. Of a structure of several parameters the first is sought on
    a ray, and followed to where it ends.
    """

    def __init__(self, structure: Structure, loss: TableLoss, factors: int):
        self.structure, self.loss, self.factors = structure, loss, factors
        self._known: dict[float, np.ndarray] = {}
        self._ends: list[float] = []

    def __call__(self, decay: float) -> Found | None:
        if not self._known:
            return self._solve(decay, None)
        near, step = min(self._known, key=lambda e: abs(math.log(e / decay))), _FIRST
        while not any(min(near, decay) <= end <= max(near, decay) for end in self._ends):
            left = math.log(decay / near)
            step = min(step, abs(left))
            e = decay if step == abs(left) else near * math.exp(math.copysign(step, left))
            found = self._solve(e, self._known[near])
            if found is not None and e == decay:
                return found
            if found is not None:
                near = e
            elif step > _LAST:
                step /= 4
            else:
                self._ends.append(e)
        return None

    def last(self) -> list[float]:
        """The known decays next to where the branch ends."""
        return [min(self._known, key=lambda e: abs(e - end)) for end in self._ends]

    def _solve(self, e: float, near: np.ndarray | None) -> Found | None:
        found = minimum_of(self.structure, self.loss, self.factors, e, near)
        if found is not None and len(found.theta) > 1:
            self._known[e] = found.theta
        return found
