"""The networks: multilayer perceptrons and small residual networks, and their parts."""
