"""What one fresh process does in the race for the first answer, and the tour of the library.

    python benchmarks/cold.py CONTENDER in.npz out.npz SECONDS     # first_answer.py calls this

Every contender is written as a script would write it, with nothing of the others and nothing of
ufm: cross-entropy of logits W H + b 1ᵀ over all columns, with decays, from the starts of the file.
It imports what it needs, and returns how it answers: (arrays of the starts, end of the time
allowed) to the points reached, as W, H and b. Prints the seconds of imports and of answers.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Task(NamedTuple):
    """Labels (N,), λ_W, λ_H, λ_b, the norm of the gradient to reach, and the starts in turn."""

    labels: np.ndarray
    decays: tuple[float, ...]
    tol: float
    starts: list[tuple[np.ndarray, ...]]
    end: float

    def in_time(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The starts, until the time is over."""
        return itertools.takewhile(lambda _: time.perf_counter() < self.end, self.starts)

    def one_hot(self) -> np.ndarray:
        """The labels as columns, K×N."""
        return np.eye(len(self.starts[0][0]))[:, self.labels]


Points = list[tuple[np.ndarray, ...]]
Answer = Callable[[Task], Points]


def value_and_gradient(task: Task, W: Any, H: Any, b: Any) -> tuple[float, tuple[Any, ...]]:
    """f and its gradient in NumPy, as derived by hand; the judge of all points, too."""
    columns, count = np.arange(len(task.labels)), len(task.labels)
    V = W @ H + b[:, None]
    V -= V.max(axis=0)
    P = np.exp(V)
    sums = P.sum(axis=0)
    value = (np.log(sums) - V[task.labels, columns]).mean()
    P /= sums
    P[task.labels, columns] -= 1.0
    P /= count
    lam_w, lam_h, lam_b = task.decays
    value += 0.5 * (lam_w * (W**2).sum() + lam_h * (H**2).sum() + lam_b * (b**2).sum())
    return value, (P @ H.T + lam_w * W, W.T @ P + lam_h * H, P.sum(axis=1) + lam_b * b)


# ufm ----------------------------------------------------------------------------------------------


def ufm_newton() -> Answer:
    """`ufm.solve`, and `ufm.solve_many` for more than one start."""
    import jax
    import jax.numpy as jnp

    import ufm

    jax.config.update("jax_enable_x64", True)

    def answer(task: Task) -> Points:
        lam_w, lam_h, lam_b = task.decays
        problem = ufm.Problem(
            loss=ufm.CrossEntropy(), class_counts=tuple(np.bincount(task.labels).tolist()),
            dim=task.starts[0][0].shape[1], lam_w=lam_w, lam_h=lam_h, lam_b=lam_b,
        )  # fmt: skip
        if len(task.starts) == 1:
            start = ufm.Params(*map(jnp.array, task.starts[0]))
            found = ufm.solve(problem, start, tol=task.tol).params
            return [(np.asarray(found.W), np.asarray(found.H), np.asarray(found.b))]
        starts = ufm.Params(*(jnp.array(np.stack(x)) for x in zip(*task.starts, strict=True)))
        found = ufm.solve_many(problem, starts=starts, tol=task.tol).params
        return list(zip(np.asarray(found.W), np.asarray(found.H), np.asarray(found.b), strict=True))

    return answer


# JAX ----------------------------------------------------------------------------------------------


def _jax_objective(task: Task) -> Callable[[Any], Any]:
    import jax
    import jax.numpy as jnp

    Y = jnp.asarray(task.one_hot())

    def objective(x: Any) -> Any:
        W, H, b = x
        V = W @ H + b[:, None]
        data = (jax.nn.logsumexp(V, axis=0) - (Y * V).sum(axis=0)).mean()
        return data + sum(0.5 * lam * (y**2).sum() for lam, y in zip(task.decays, x, strict=True))

    return objective


def optax_lbfgs() -> Answer:
    """`optax.lbfgs` in a loop of one's own that stops by the norm of the gradient."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def answer(task: Task) -> Points:
        run = jax.jit(optax_loop(_jax_objective(task), task.tol))
        return [_numpy(run(tuple(map(jnp.asarray, start)))) for start in task.in_time()]

    return answer


def optax_loop(objective: Callable[[Any], Any], tol: float) -> Callable[[Any], Any]:
    """Steps of L-BFGS until ‖∇f‖ ≤ tol."""
    import jax
    import jax.numpy as jnp
    import optax

    optimiser: Any = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        x, memory, count, _, _ = state
        value, grad = value_and_grad(x, state=memory)
        updates, memory = optimiser.update(
            grad, memory, x, value=value, grad=grad, value_fn=objective
        )
        return optax.apply_updates(x, updates), memory, count + 1, grad, x

    def more(state: tuple[Any, ...]) -> Any:
        return (state[2] < 20_000) & (optax.tree.norm(state[3]) > tol)

    def run(start: Any) -> Any:
        ones = jax.tree.map(jnp.ones_like, start)
        # The last gradient is that of the point before the last step.
        return jax.lax.while_loop(more, step, (start, optimiser.init(start), 0, ones, start))[4]

    return run


def optimistix_lbfgs() -> Answer:
    """`optimistix.LBFGS`, which stops by changes of f and of the point."""
    import jax
    import jax.numpy as jnp
    import optimistix

    jax.config.update("jax_enable_x64", True)

    def answer(task: Task) -> Points:
        objective = _jax_objective(task)
        solver = optimistix.LBFGS(rtol=OPTIMISTIX_TOL, atol=OPTIMISTIX_TOL)

        @jax.jit
        def run(start: Any) -> Any:
            return optimistix.minimise(
                lambda x, _: objective(x), solver, start, max_steps=20_000, throw=False
            ).value

        return [_numpy(run(tuple(map(jnp.asarray, start)))) for start in task.in_time()]

    return answer


#: The loosest power of ten at which every start arrives at 1e-8.
OPTIMISTIX_TOL = 1e-7


def _numpy(x: Any) -> tuple[np.ndarray, ...]:
    return tuple(map(np.asarray, x))


# SciPy --------------------------------------------------------------------------------------------


class Arrived(Exception):
    """Raised inside the objective, with the point: SciPy cannot stop by the norm."""


def _scipy(task: Task, function: Callable[..., tuple[float, tuple[Any, ...]]]) -> Points:
    """`scipy.optimize.minimize` with L-BFGS-B from every start."""
    import scipy.optimize

    def parts(flat: Any, like: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
        cut = np.split(flat, np.cumsum([x.size for x in like])[:-1])
        return tuple(x.reshape(y.shape) for x, y in zip(cut, like, strict=True))

    points: Points = []
    for start in task.in_time():

        def value(flat: Any, start: Any = start) -> tuple[float, Any]:
            f, grads = function(*parts(flat, start))
            grad = np.concatenate([np.asarray(g).ravel() for g in grads])
            if np.linalg.norm(grad) <= task.tol or time.perf_counter() > task.end:
                raise Arrived(flat)
            return float(f), grad

        try:
            options = {"gtol": 0.0, "ftol": 0.0, "maxiter": 20_000, "maxfun": 40_000}
            flat = scipy.optimize.minimize(
                value, np.concatenate([x.ravel() for x in start]), jac=True, method="L-BFGS-B",
                options=options,
            ).x  # fmt: skip
        except Arrived as arrived:
            (flat,) = arrived.args
        points.append(parts(flat, start))
    return points


def scipy_numpy() -> Answer:
    """SciPy, with a gradient derived by hand in NumPy: nothing is compiled."""
    import scipy.optimize  # noqa: F401  # its time is that of imports

    return lambda task: _scipy(task, lambda *x: value_and_gradient(task, *x))


def scipy_jax() -> Answer:
    """SciPy, with the gradient of JAX."""
    import jax
    import scipy.optimize  # noqa: F401  # its time is that of imports

    jax.config.update("jax_enable_x64", True)

    def answer(task: Task) -> Points:
        compiled = jax.jit(jax.value_and_grad(_jax_objective(task)))
        return _scipy(task, lambda *x: compiled(x))

    return answer


# PyTorch ------------------------------------------------------------------------------------------


def _torch(task: Task, optimizer_of: Callable[[Any], Any], check_every: int) -> Points:
    import torch

    labels, points = torch.tensor(task.labels), []
    for start in task.in_time():
        leaves = [torch.tensor(x, requires_grad=True) for x in start]
        optimizer, (W, H, b) = optimizer_of(leaves), leaves

        def closure(W: Any = W, H: Any = H, b: Any = b, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            V = W @ H + b[:, None]
            f = torch.nn.functional.cross_entropy(V.T, labels)
            for lam, x in zip(task.decays, (W, H, b), strict=True):
                f = f + 0.5 * lam * (x**2).sum()
            f.backward()
            return f

        while time.perf_counter() < task.end:
            for _ in range(check_every):
                optimizer.step(closure)
            closure()
            if torch.sqrt(sum((x.grad**2).sum() for x in leaves)) <= task.tol:
                break
        points.append(tuple(x.detach().numpy() for x in leaves))
    return points


def torch_lbfgs() -> Answer:
    """`torch.optim.LBFGS` with the strong Wolfe line search, looked at every ten steps."""
    import torch

    def optimizer_of(leaves: Any) -> Any:
        return torch.optim.LBFGS(
            leaves, max_iter=10, history_size=10, tolerance_grad=0.0, tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

    return lambda task: _torch(task, optimizer_of, 1)


def torch_sgd() -> Answer:
    """Full-batch SGD with momentum, as the published scripts do it."""
    import torch

    return lambda task: _torch(task, lambda x: torch.optim.SGD(x, lr=0.1, momentum=0.9), 100)


CONTENDERS: dict[str, tuple[tuple[str, ...], Callable[[], Answer]]] = {
    "ufm": ((), ufm_newton),
    "optax L-BFGS": ((), optax_lbfgs),
    "optimistix L-BFGS": (("optimistix",), optimistix_lbfgs),
    "SciPy L-BFGS-B, NumPy": ((), scipy_numpy),
    "SciPy L-BFGS-B, jax.grad": ((), scipy_jax),
    "PyTorch L-BFGS": (("torch",), torch_lbfgs),
    "PyTorch SGD, lr 0.1, momentum 0.9": (("torch",), torch_sgd),
}


def main(name: str, given: str, out: str, limit: str) -> None:
    with np.load(given) as file:
        starts = list(zip(file["W"], file["H"], file["b"], strict=True))
        labels, decays, tol = file["labels"], tuple(file["decays"].tolist()), float(file["tol"])
    begin = time.perf_counter()
    answer = CONTENDERS[name][1]()
    ready = time.perf_counter()
    points = answer(Task(labels, decays, tol, starts, ready + float(limit)))
    done = time.perf_counter()
    np.savez(out, **{n: np.stack(x) for n, x in zip("WHb", zip(*points, strict=True), strict=True)})
    print(json.dumps({"import": ready - begin, "answer": done - ready}))


if __name__ == "__main__":
    main(*sys.argv[1:])
