"""Measurements, one module each, run by `mirage bench PART`."""
