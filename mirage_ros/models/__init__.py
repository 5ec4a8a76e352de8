"""The world model's networks: transformer with memory branch, autoencoders, reader, text, schedules, presets."""
