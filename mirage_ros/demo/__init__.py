"""`make demo`: a robot camera, the node and a planner as separate processes, and a page that shows what they did."""

from __future__ import annotations


def main() -> None:
    """Run the demo."""
    from mirage_ros.demo.run import main as run

    run()
