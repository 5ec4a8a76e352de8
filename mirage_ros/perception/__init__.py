"""After a chunk is decoded: its depth, its cameras, and what of it may be remembered."""
