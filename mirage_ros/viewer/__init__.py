"""Looking at what the world model imagines: a window in the browser (viser), and logs for Rerun."""
