"""Noise models: calibration snapshots of machines, parametric channels, scaled and taken apart."""
