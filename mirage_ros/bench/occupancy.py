"""`mirage bench occupancy`: maps out of depth, and scores of views from the readout, at once and one by one.

Times are of the processor, so that neighbours on the same core count for less.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from mirage_ros.bench.timing import surroundings
from mirage_ros.geometry import Camera, pinhole
from mirage_ros.occupancy.grid import GridShape
from mirage_ros.rgbd import ImaginedFrame, RgbdFrame
from mirage_ros.sim.sheet import positive
from mirage_ros.trajectory import pan
from mirage_ros.world.model import WorldModel
from mirage_ros.world.surroundings import Surroundings
from mirage_ros.world.view_scores import score_views

VIEWS = 100


def processor_ms(work: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of this process, on all its threads together, for a call; after one to warm up."""
    work()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return 1000 * statistics.median(spent)


def upright(count: int, turn: float) -> Camera:
    """(T,) cameras of the default preset's size that stand 1.2 m high and turn, radians in all."""
    pose = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.2], [0, 0, 0, 1]], dtype=torch.float64)
    return pinhole(128, 192, vertical_fov=0.9).to(dtype=torch.float64).at(pan(pose, turn, count))


def chunk_of(cameras: Camera) -> ImaginedFrame:
    """Frames at four metres, of which a half is invented and doubted by a metre."""
    size = (len(cameras), cameras.height, cameras.width)
    visible = np.zeros(size, np.float32)
    visible[..., : cameras.width // 2] = 1
    doubt, depth = np.where(visible > 0, 0.1, 1.0).astype(np.float32), np.full(size, 4.0, np.float32)
    rgb, coverage = np.zeros((*size, 3), np.uint8), np.full(len(cameras), 0.5, np.float32)
    return ImaginedFrame(rgb, depth, cameras, visible=visible, uncertainty=doubt, coverage=coverage)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=positive, default=21)
    parser.add_argument("--threads", type=positive, default=1, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} thread(s), median of {options.repeats}; {surroundings(0)}")
    world = WorldModel.from_pretrained(random_weights=True, dtype=torch.float32)
    for extent in (10.0, 20.0):
        memory = world.new_memory()
        grid, cameras = Surroundings(GridShape(extent=extent), memory), upright(8, 0.5)
        frame = RgbdFrame(np.zeros((128, 192, 3), np.uint8), np.full((128, 192), 4.0, np.float32), cameras[0])
        world.observe(memory, frame)
        grid.saw(frame)
        chunk = chunk_of(cameras)
        views = [upright(1, 0).at(pose[None]) for pose in upright(VIEWS, math.pi).cam2world]
        networks = world.networks
        times = {
            "camera frame": processor_ms(lambda: grid.saw(frame), options.repeats),  # noqa: B023
            "chunk of 8": processor_ms(lambda: grid.imagined_frames(chunk), options.repeats),  # noqa: B023
            "known": processor_ms(grid.known, options.repeats),
            "guessed": processor_ms(grid.guessed, options.repeats),
        }

        def score(paths: list[Camera]) -> object:
            return list(score_views(networks, memory, grid, paths, radius=0.3))  # noqa: B023

        together = processor_ms(lambda: score(views), 3)  # noqa: B023
        single = processor_ms(lambda: [score([view]) for view in views], 3)  # noqa: B023
        told = ", ".join(f"{name} {value:.1f} ms" for name, value in times.items())
        print(f"{extent:g} m at 5 cm: {told}")
        told = f"at once {together:.0f} ms, one by one {single:.0f} ms: {single / together:.1f} times"
        print(f"  {VIEWS} views scored {told}")


if __name__ == "__main__":
    main()
