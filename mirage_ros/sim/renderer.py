"""Drawing a scene without a screen: colour, metric depth and classes from any pose."""

from __future__ import annotations

import contextlib
import os
from ctypes.util import find_library
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.recordings.clips import MOVING, SKY, STATIC
from mirage_ros.rgbd import RgbdFrame, check_pixels
from mirage_ros.sim.scene import Scene

# Metres. The depth buffer is reversed (far is 0), so its resolution hardly depends on these: 1 mm at 20 m.
NEAR, FAR = 0.03, 100.0
_ADVICE = "Install it with: apt-get install libegl1 libgl1-mesa-dri (or libosmesa6 and MUJOCO_GL=osmesa)"


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledFrame(RgbdFrame):
    """What the simulated camera sees: depth is exact, +inf in the sky, and never missing.

    Attributes:
        labels: (..., H, W) uint8, STATIC, MOVING or SKY.
    """

    depth: NDArray[np.float32] = field(kw_only=False)
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pixels("labels", self.labels, self.rgb.shape[:-1], np.uint8)

    @property
    def finite_depth(self) -> NDArray[np.float32]:
        """(..., H, W) depth in metres with 0 in the sky, as clips hold it."""
        return np.where(np.isinf(self.depth), np.float32(0), self.depth)


def import_mujoco() -> Any:
    """MuJoCo with an OpenGL that needs no screen.

    MUJOCO_GL is obeyed where it is set (egl, osmesa or glfw); otherwise EGL is taken, then OSMesa.

    Raises:
        RuntimeError: no OpenGL can be loaded; names the Debian packages.
    """
    # Mesa's software renderer and Triton bring a copy of LLVM each. Triton's loads before Mesa's without harm; after
    # it, importing Triton, as transformers and torch.compile do at some point, kills the process.
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401
    if "MUJOCO_GL" not in os.environ:
        found = [name for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if find_library(library)]
        if not found:
            raise RuntimeError(f"MUJOCO_GL: neither EGL nor OSMesa is installed. {_ADVICE}")
        os.environ["MUJOCO_GL"] = found[0]
    try:
        import mujoco
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise RuntimeError(f"MUJOCO_GL: {os.environ['MUJOCO_GL']!r} does not load ({error}). {_ADVICE}") from error
    return mujoco


class Renderer(contextlib.AbstractContextManager["Renderer"]):
    """Draws one scene at one size. It belongs to the thread that made it, as OpenGL contexts do.

    With software rendering, LP_NUM_THREADS=1 in the environment is fastest where several processes draw at once.
    """

    def __init__(
        self,
        scene: Scene,
        height: int = 128,
        width: int = 192,
        *,
        vertical_fov: float = 1.0,
        shadows: bool = True,
        samples: int = 4,
    ) -> None:
        """Compile the scene and open an OpenGL context.

        Args:
            height, width: pixels.
            vertical_fov: radians.
            shadows: whether lamps throw them; they take about half of the time.
            samples: of antialiasing for each pixel; 0 for none.

        Raises:
            RuntimeError: OpenGL is not available.
            ValueError: a size or angle is not usable.
        """
        self._optics = pinhole(height, width, vertical_fov=vertical_fov)
        self._scene = scene
        self._mujoco = mujoco = import_mujoco()
        self._model = mujoco.MjModel.from_xml_string(scene.mjcf, dict(scene.assets))
        self._model.vis.global_.offheight, self._model.vis.global_.offwidth = height, width
        self._model.vis.quality.offsamples = samples
        self._data = mujoco.MjData(self._model)
        self._context = mujoco.GLContext(width, height)
        self._context.make_current()
        try:
            self._gl = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except mujoco.FatalError as error:
            # Most often mujoco was imported before MUJOCO_GL was set, and chose an OpenGL that needs a screen.
            self._context.free()
            raise RuntimeError(
                f"MUJOCO_GL: {os.environ.get('MUJOCO_GL')!r} gives no context ({error}). Set MUJOCO_GL=egl before "
                f"anything imports mujoco. {_ADVICE}"
            ) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._gl)
        # Zero far away: a float buffer then has its resolution where perspective needs it.
        self._gl.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._view = mujoco.MjvScene(self._model, self._model.ngeom + 10)
        self._view.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._view.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._options, self._perturb, self._free = mujoco.MjvOption(), mujoco.MjvPerturb(), mujoco.MjvCamera()
        self._moving_geoms = np.flatnonzero(self._model.geom_bodyid > 0)

    def camera(self, cam2world: Tensor) -> Camera:
        """The camera at a pose or poses (..., 4, 4)."""
        return self._optics.to(cam2world.device, cam2world.dtype).at(cam2world)

    def render(self, cam2world: Tensor, time: float = 0.0) -> LabelledFrame:
        """Draw what is seen from an optical pose (4, 4), with what moves where it is at `time` seconds.

        Raises:
            ValueError: not one rigid pose, or the renderer was closed.
        """
        if self._context is None:
            raise ValueError("renderer: expected an open one, got one after close()")
        camera = self.camera(cam2world)
        if camera.batch_shape:
            raise ValueError(f"cam2world: expected (4, 4), got {tuple(cam2world.shape)}")
        self._context.make_current()
        self._move(time)
        self._aim(cam2world.detach().double().cpu().numpy())
        rgb = self._draw()
        geoms, depth = self._measure()
        labels = np.full(depth.shape, STATIC, np.uint8)
        labels[np.isin(geoms, self._moving_geoms)] = MOVING
        labels[np.isinf(depth)] = SKY
        return LabelledFrame(rgb, depth, camera, labels=labels)

    def close(self) -> None:
        """Release the OpenGL context."""
        if self._context is not None:
            # Freeing deletes objects of whichever context is current; another renderer's must not be.
            self._context.make_current()
            self._gl.free()
            self._context.free()
            self._context = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def _move(self, time: float) -> None:
        mujoco = self._mujoco
        for mover in self._scene.movers:
            body = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_BODY, mover.name)
            index = self._model.body_mocapid[body]
            self._data.mocap_pos[index], self._data.mocap_quat[index] = mover.pose(time)
        for update in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            update(self._model, self._data)
        every = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(self._model, self._data, self._options, self._perturb, self._free, every, self._view)

    def _aim(self, pose: NDArray[np.float64]) -> None:
        top = NEAR * self._optics.height / 2 / float(self._optics.intrinsics[1, 1])
        for eye in self._view.camera:
            eye.pos, eye.forward, eye.up = pose[:3, 3], pose[:3, 2], -pose[:3, 1]
            eye.frustum_center = 0
            eye.frustum_bottom, eye.frustum_top = -top, top
            eye.frustum_near, eye.frustum_far = NEAR, FAR

    def _draw(self, buffer: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
        """(H, W, 3) colours, upper row first; a buffer (H, W) gets the reversed depth, lower row first."""
        rgb = np.empty((self._viewport.height, self._viewport.width, 3), np.uint8)
        self._mujoco.mjr_render(self._viewport, self._view, self._gl)
        self._mujoco.mjr_readPixels(rgb, buffer, self._viewport, self._gl)
        return np.ascontiguousarray(rgb[::-1])

    def _measure(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """(H, W) index of the geom in each pixel, -1 for none, and (H, W) depth in metres, +inf for none.

        Depth comes from this pass because it is drawn at pixel centres. The colour pass would give the depth of one
        antialiasing sample, up to half a pixel beside the centre, and that of MuJoCo's sky, a box half way to FAR.
        """
        flags, flag = self._view.flags, self._mujoco.mjtRndFlag
        saved = flags.copy()
        flags[flag.mjRND_SEGMENT] = flags[flag.mjRND_IDCOLOR] = True
        flags[flag.mjRND_SHADOW] = flags[flag.mjRND_SKYBOX] = False
        buffer = np.empty((self._viewport.height, self._viewport.width), np.float32)
        coded = self._draw(buffer)
        flags[:] = saved
        # The reversed buffer holds (1 / depth - 1 / FAR) / (1 / NEAR - 1 / FAR).
        inverse = buffer[::-1] * (1 / NEAR - 1 / FAR) + 1 / FAR
        depth = np.where(buffer[::-1] > 0, 1 / inverse, np.inf).astype(np.float32)
        segment = coded.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32) - 1
        geoms = np.full(self._view.ngeom + 1, -1, np.int32)
        for geom in self._view.geoms[: self._view.ngeom]:
            if geom.objtype == self._mujoco.mjtObj.mjOBJ_GEOM and 0 <= geom.segid < self._view.ngeom:
                geoms[geom.segid] = geom.objid
        return geoms[np.where((segment >= 0) & (segment < self._view.ngeom), segment, -1)], depth
