"""Variants of the model: who answers a question about a problem that is not the plain one.

The plain model has two factors, each with weight decay and free. A variant confines a factor
(`ufm.model.constraints`) or has more of them (`lam_hidden`). It is a folder of `ufm.variants` with
an object that answers some of the public verbs (`solve`, `certify`, …) and registers itself. A verb
that the variant does not answer is refused.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Variant:
    """Answers verbs for some problems: a method with the name and arguments of the verb each."""

    #: What its problems have, as in "does not support problems with …".
    name: str
    #: The verbs whose answer for the plain model holds for it as it stands.
    shares: frozenset[str] = frozenset()
    #: Its solvers by name (`ufm.solvers._loop.Method`), which `solve` and `solve_many` choose from.
    methods: Mapping[str, Any] = {}

    def accepts(self, problem: Any) -> bool:
        """Whether a problem belongs to this variant."""
        raise NotImplementedError

    def check_start(self, params: Any) -> None:
        """Raise `ValueError` for a start of a run that is outside of the feasible set; most are
        moved into it instead.
        """

    def default_tol(self, problem: Any) -> Any:
        """The gradient norm of a converged run in float64."""
        return 1e-10


_VARIANTS: list[Variant] = []


def register(variant: Variant) -> None:
    """Let a variant answer for the problems that it accepts."""
    _VARIANTS.append(variant)


def variant_of(problem: Any) -> Variant:
    """The variant of a problem that is not plain. Raises `ValueError` if there is none."""
    importlib.import_module("ufm.variants")  # its folders register themselves, and import this one
    for variant in _VARIANTS:
        if variant.accepts(problem):
            return variant
    parts = [f"{name}={type(set_).__name__}" for name, set_ in problem.constraints.items()]
    parts += ["lam_hidden"] if problem.lam_hidden else []
    raise ValueError(f"no variant of the model has {' together with '.join(parts)}")


def answers(problem: Any, verb: str) -> bool:
    """Whether a verb has an answer for a problem, plain or not."""
    variant = problem.variant
    return variant is None or verb in variant.shares or hasattr(variant, verb)


def check_answers(problem: Any, verb: str) -> None:
    """Raise `ValueError` if a verb has no answer for a problem."""
    if not answers(problem, verb):
        raise ValueError(f"ufm.{verb} does not support problems with {problem.variant.name}")


def by_variant(verb: Callable[P, T]) -> Callable[P, T]:
    """Decorate a public verb, whose first argument is the problem, so that a variant answers it.

    If the variant has no method of that name and does not share the verb, it raises `ValueError`.
    """

    @functools.wraps(verb)
    def answered(*args: P.args, **kwargs: P.kwargs) -> T:
        problem: Any = args[0] if args else kwargs.get("problem")
        variant = getattr(problem, "variant", None)
        if variant is None or verb.__name__ in variant.shares:
            return verb(*args, **kwargs)
        check_answers(problem, verb.__name__)
        return getattr(variant, verb.__name__)(*args, **kwargs)

    answered.verb_of_variants = True  # pyright: ignore[reportAttributeAccessIssue]
    return answered
