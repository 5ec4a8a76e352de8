# %% [markdown]
# # The world model without ROS
#
# VS Code, PyCharm and Jupyter (with jupytext) open this file as a notebook; `python` runs it as a whole. It needs no
# ROS, no camera and no GPU: what the camera saw comes from the simulator.

# %%
"""The world model without ROS, cell by cell: show it one simulated view, look around, and keep what it imagined."""

from mirage_ros.machine import wait_passively

# Before torch is loaded: on busy cores, threads that spin while they wait make a rollout several times slower.
wait_passively()

import numpy as np

from mirage_ros.geometry import Camera
from mirage_ros.media import colour_depth, contact_sheet, save_png
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.trajectory import pan
from mirage_ros.world.model import WorldModel

FRAMES = 9

# %% [markdown]
# The small model of this repository, and a simulated room that it was not trained on.

# %%
world = WorldModel.from_pretrained()
scene = build_scene(1_000_000, moving=0)
here = plan_path(scene, 1)[0].double()
with Renderer(scene, world.height, world.width) as renderer:
    seen = renderer.render(here)

# %% [markdown]
# One view is all that the memory gets. Your own picture does as well: `RgbdFrame(rgb, depth, camera)` of (H, W, 3)
# uint8, (H, W) float32 metres along the optical axis (0 where unknown), and a `Camera` with its pose, cam2world in
# optical axes.

# %%
memory = world.new_memory(max_bytes=64 << 20)
world.observe(memory, seen)
print(f"the memory holds {len(memory)} elements")

# %% [markdown]
# Turn by 40 degrees to the right: the view leaves what was seen. A rollout has time stride x N + 1 frames.

# %%
poses = pan(here, np.radians(40), world.frames_for(FRAMES))
trajectory = Camera(seen.camera.intrinsics, poses, seen.camera.height, seen.camera.width)
chunks = list(world.imagine(memory, trajectory, first=seen, seed=0))
rgb, depth, visible = (
    np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("rgb", "depth", "visible")
)
print(f"{len(rgb)} frames imagined; of the last one {1 - visible[-1].mean():.0%} is invented")

# %% [markdown]
# What was imagined is remembered: a preview of the last view is there at once, without diffusion.

# %%
again = world.preview(memory, trajectory[-1:])
print(f"the memory knows {again.visible.mean():.0%} of that view now")

# %%
remembered = (visible * 255).round().astype(np.uint8)[..., None].repeat(3, -1)
rows = [("imagined", rgb), ("depth", colour_depth(depth)), ("remembered: white", remembered)]
save_png("look_around.png", contact_sheet(rows))
memory.save("look_around.safetensors")
