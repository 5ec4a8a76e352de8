"""Reading what others recorded: trajectories in the field's file formats, and RGB-D walks."""
