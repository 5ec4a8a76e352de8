"""The z-buffer: the contract of projecting, the reference, and its forms for CPUs and CUDA devices."""
