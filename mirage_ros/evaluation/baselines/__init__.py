"""Caches that the latent memory is compared with, behind the protocol that the world model reads and writes."""
