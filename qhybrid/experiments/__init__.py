"""Experiments: a model, its data, its training, and what came out. Reads the folder `experiments/`."""
