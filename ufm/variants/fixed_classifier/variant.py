"""Which verbs the variant answers: those of norm sets, with minima of its own."""

from ufm.model.constraints import Ball, Budget, Fixed, Sphere
from ufm.model.problem import Problem
from ufm.variants.fixed_classifier import minimum
from ufm.variants.norms.variant import Norms


class FixedClassifier(Norms):
    """W given, features decayed or of confined norm: Newton's method is in H and b alone."""

    name = "a fixed classifier"
    shares = frozenset({"frame_metrics", "objective", "nc_metrics"})

    def accepts(self, problem: Problem) -> bool:
        fits = problem.features is None or isinstance(problem.features, Sphere | Ball | Budget)
        return isinstance(problem.classifier, Fixed) and fits

    closed_form = staticmethod(minimum.frame_minimum)
    global_minimum = staticmethod(minimum.global_minimum)
