"""Occupancy: which places around the cameras are free, occupied or unknown, and what a camera would see of them."""
