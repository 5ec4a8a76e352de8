"""Protocols: frozen lists of cases, on the simulator and on recordings."""
