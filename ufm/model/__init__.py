"""The model itself: problem, parameters, objective, and what follows from its form.

Class means, products with the Hessian, bounds on rounding errors, samples spread over devices.
"""
