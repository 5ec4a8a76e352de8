"""Imagination: chunk by chunk, read the memory, denoise, decode, perceive, write."""
