"""What scale.py is made of: growth as measured here, a model calibrated by it, and a simulation that the model is checked by."""
