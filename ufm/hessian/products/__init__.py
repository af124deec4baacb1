"""Hessian products, the parts of the Hessian, and the Hessian as a matrix."""
