"""Make the loss to check from a text, a function or an object, and evaluate it at many points.

All evaluations are here, so that each program is traced once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ufm._support.quick_jit import quick_jit
from ufm.losses import CustomLoss, Loss, parse_loss

#: Lengths of the arrays in which the profile is computed.
_BLOCKS = (64, 4096)

Rows = Float[Array | np.ndarray, "points K"]
Labels = Int[Array | np.ndarray, " points"]


def as_loss(given: Loss | Callable[..., Any] | str, num_classes: int) -> Loss:
    """Make the loss, and check that value and gradient at equal logits are finite.

    Raises `ValueError` or `TypeError`, naming what to change, for a function that JAX cannot
    trace, that does not return one number, or that is not finite at equal logits.
    """
    if isinstance(given, str):
        loss = parse_loss(given)
    elif isinstance(given, Loss):
        loss = given
    else:
        loss = CustomLoss(given)
    if isinstance(loss, CustomLoss):
        _check_function(loss, num_classes)
    elif loss.num_outputs is not None:
        raise ValueError(f"{loss.label()}: check the loss of class labels, which has no targets")
    else:
        loss.probe(num_classes, num_classes)
    values, gradients = sampled(loss, np.zeros((1, num_classes)), np.zeros(1, np.int32))
    if not (np.all(np.isfinite(values)) and np.all(np.isfinite(gradients))):
        what = "the value" if not np.all(np.isfinite(values)) else "the gradient"
        raise ValueError(
            f"{what} of {loss.label()} is not finite at equal logits, where W = H = 0 has them: "
            "define it there (for a norm, add a small number under the root)"
        )
    return loss


def _check_function(loss: CustomLoss, num_classes: int) -> None:
    """Raise unless the function takes the logits and label of one sample."""
    name, dtype = loss.label(), jnp.result_type(float)

    def shape(dims: tuple[int, ...], kind: Any = dtype) -> Any:
        label = jax.ShapeDtypeStruct(dims[:-1], jnp.int32)
        params = {k: jnp.asarray(v, dtype) for k, v in loss.params.items()}
        return jax.eval_shape(
            lambda z, k: loss.fn(z, k, **params), jax.ShapeDtypeStruct(dims, kind), label
        )

    try:
        found = shape((num_classes,))
    except Exception as error:
        # A user's function can raise anything; the remedy is the same.
        if _works(lambda: shape((2, num_classes))):
            raise TypeError(
                f"{name} takes a batch of logits: write it for one sample, logits of shape (K,) "
                "and one label; ufm batches it"
            ) from None
        if _works(lambda: shape((num_classes,), jnp.int32)):
            raise TypeError(f"{name} needs integer logits: write it for floating-point ones") from (
                None
            )
        said = (str(error).splitlines() or [""])[0].rstrip(". ")
        raise TypeError(
            f"{name} cannot be traced by JAX ({type(error).__name__}: {said[:160]}): write it with "
            "jax.numpy, jnp.where instead of if, and no float() or NumPy of the logits"
        ) from None
    if getattr(found, "shape", None) != ():
        got = getattr(found, "shape", None)
        what = f"an array of shape {got}" if got is not None else type(found).__name__
        raise TypeError(
            f"{name} must return one number for one sample, got {what}: sum or index it"
        )
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise TypeError(f"{name} must return a floating-point number, got {found.dtype}")


def _works(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except Exception:
        return False
    return True


@quick_jit
def _sampled(loss: Loss, Z: Any, labels: Any) -> tuple[Any, Any]:
    return jax.vmap(lambda z, k: (loss.value(z, k), loss.gradient(z, k)))(Z, labels)


def sampled(loss: Loss, Z: Rows, labels: Labels | int) -> tuple[np.ndarray, np.ndarray]:
    """Values (points,) and gradients (points, K)."""
    labels = np.broadcast_to(np.asarray(labels, np.int32), len(Z))
    found = _sampled(loss, np.asarray(Z, float), np.ascontiguousarray(labels))
    return np.asarray(found[0]), np.asarray(found[1])


@quick_jit
def _hessians(loss: Loss, Z: Any) -> Any:
    return jax.lax.map(lambda z: loss.hessian(z, 0), Z)


def hessians(loss: Loss, Z: Rows) -> np.ndarray:
    """∇²L(z, 0) of every row, (points, K, K)."""
    return np.asarray(_hessians(loss, np.asarray(Z, float)))


@quick_jit
def _along(loss: Loss, s: Any, unit: Any) -> tuple[Any, Any, Any]:
    def at(t: Any) -> tuple[Any, Any, Any]:
        z = t * unit
        product = loss.hessian_product(z, 0, unit)
        return loss.value(z, 0), jnp.dot(unit, loss.gradient(z, 0)), jnp.dot(unit, product)

    return jax.vmap(at)(s)


@quick_jit
def _values_along(loss: Loss, s: Any, unit: Any) -> tuple[Any]:
    return (jax.vmap(lambda t: loss.value(t * unit, 0))(s),)


def along_margin(
    loss: Loss, s: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """φ, φ' and φ'' at margins s: L(s (e_k − 1/K), k)."""
    return _in_blocks(_along, loss, s, num_classes)


def values_along_margin(loss: Loss, s: np.ndarray, num_classes: int) -> np.ndarray:
    """φ alone."""
    return _in_blocks(_values_along, loss, s, num_classes)[0]


def _in_blocks(program: Callable[..., Any], loss: Loss, s: np.ndarray, num_classes: int) -> Any:
    """Evaluate in arrays of two lengths, so that only two programs are traced."""
    unit, count = np.eye(1, num_classes)[0] - 1.0 / num_classes, len(s)
    block = _BLOCKS[0] if count <= _BLOCKS[0] else _BLOCKS[1]
    padded = np.concatenate([s, np.zeros(-count % block)])
    parts = [program(loss, part, unit) for part in padded.reshape(-1, block)]
    columns = zip(*parts, strict=True)
    return tuple(np.concatenate([np.asarray(x) for x in column])[:count] for column in columns)
