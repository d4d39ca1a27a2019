"""Circuits: angles in, expectation values out. Reads the descriptions in the catalog folder `circuits/`."""
