"""The only part that knows ROS: conversions, quality of service, parameters, nodes."""
