"""Simulated scenes and the camera in them: training data, ground truth, and a stand-in for a robot."""
