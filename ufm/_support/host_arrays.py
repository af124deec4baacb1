"""Arrays of NumPy, PyTorch, JAX and others as arrays of NumPy on the host.

>>> host(jnp.ones(2, jnp.bfloat16)).dtype.name, real("W", host([1, 2]))
('bfloat16', array([1., 2.]))
"""

from typing import Any

import jax.numpy as jnp
import numpy as np


def host(array: Any) -> np.ndarray:
    """Convert an array of NumPy, JAX, Keras, PyTorch or any library with DLPack to NumPy."""
    if hasattr(array, "detach"):  # a tensor of PyTorch: it may require grad, or be on a device
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":  # which NumPy does not have
            array = array.float()
    if hasattr(array, "__dlpack__") and not hasattr(array, "__array__"):
        return np.from_dlpack(array, device="cpu")
    try:
        return np.asarray(array)
    except TypeError:  # CuPy copies to the host by DLPack only
        return np.from_dlpack(array, device="cpu")


def real(name: str, array: np.ndarray) -> np.ndarray:
    """Convert to double precision. Raises `ValueError` unless the entries are real numbers."""
    check_real(name, array.dtype)
    return array.astype(np.float64)


def check_real(name: str, dtype: np.dtype) -> None:
    """Raise `ValueError` unless entries of this dtype are real numbers."""
    if dtype.kind in "iuf" or jnp.issubdtype(dtype, jnp.floating):
        return
    remedy = ""
    if dtype.kind == "V" and dtype.names is None:
        remedy = (
            f", which is how an .npz stores bfloat16: save {name} as float32, "
            f"{name}.astype('float32') or, in PyTorch, {name}.float()"
        )
    elif dtype.kind == "c":
        remedy = f": save {name}.real if its imaginary part is 0"
    raise ValueError(f"{name} must be an array of real numbers, got dtype {dtype}{remedy}")
