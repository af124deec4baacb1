"""Products with the Hessian, its parts, and the Hessian as a matrix."""
