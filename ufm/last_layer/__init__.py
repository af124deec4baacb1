"""The last layer of a trained network: read as a point of the model, examined, certified."""
