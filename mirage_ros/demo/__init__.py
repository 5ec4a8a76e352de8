"""`make demo`: a robot camera, the node and a planner as separate processes, and a page that shows what they did."""
