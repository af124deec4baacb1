"""The Hessian of the model: products with it."""

from ufm.hessian.hvp import hvp as hvp
