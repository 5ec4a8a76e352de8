"""Training: clips from the simulator or from recordings, and the recipe that makes the default preset's weights."""
