"""Devices: whatever turns a batch of angles into a batch of expectation values. Reads the folder `devices/`."""
