"""Collecting geoms, materials and textures into one MuJoCo model description (MJCF)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import cv2
import numpy as np

from mirage_ros.sim.textures import Colour, Pixels

Vector = Sequence[float]


def _numbers(values: Vector) -> str:
    # A tenth of a millimetre: far below what is seen, and the same text on every machine.
    return " ".join(f"{value:.4f}".rstrip("0").rstrip(".") or "0" for value in values)


class Mjcf:
    """A model under construction.

    Positions are metres in the world (z up) or, inside a body, relative to it; sizes are full lengths, not MuJoCo's
    halves; turns are yaw about z, radians.

    Attributes:
        assets: texture files by name, PNG.
        quads: along each side of a box; light is computed at their corners, and drawing takes time for each.
    """

    def __init__(self) -> None:
        self.assets: dict[str, bytes] = {}
        self._textures: list[str] = []
        self._materials: list[str] = []
        self._lights: list[str] = []
        self._geoms: list[str] = []
        self._bodies: list[str] = []
        self._names = 0
        self.quads = 3

    def paint(self, colour: Colour, *, shine: float = 0.1, glow: float = 0.0) -> str:
        """A plain material; returns its name."""
        rgba = _numbers((*(min(max(value, 0.0), 1.0) for value in colour), 1.0))
        return self._material(f'rgba="{rgba}" specular="{shine:g}" shininess="{shine:g}" emission="{glow:g}"')

    def skin(self, pixels: Pixels, *, shine: float = 0.1) -> str:
        """A material that shows a picture on each side of a box or around a round thing."""
        return self._textured(pixels, "cube", "", shine)

    def sheet(self, pixels: Pixels, *, metres: float | None = None, shine: float = 0.05) -> str:
        """A material for flat things that face their local z: repeated every `metres`, or once over the whole face."""
        repeat = "" if metres is None else f' texuniform="true" texrepeat="{1 / metres:.4f} {1 / metres:.4f}"'
        return self._textured(pixels, "2d", repeat, shine)

    def sky(self, faces: Sequence[Pixels]) -> None:
        """What is seen where nothing is: six square pictures, right, left, up, down, front, back."""
        names = [self._file(face) for face in faces]
        sides = ("fileright", "fileleft", "fileup", "filedown", "filefront", "fileback")
        files = " ".join(f'{side}="{name}"' for side, name in zip(sides, names, strict=True))
        self._textures.append(f'<texture name="sky" type="skybox" {files}/>')

    def lamp(self, position: Vector, brightness: float, *, shadow: bool) -> None:
        """A light that shines down; those that throw shadows cost most of the drawing time."""
        self._lights.append(
            f'<light pos="{_numbers(position)}" dir="0 0 -1" cutoff="85" exponent="1" '
            f'castshadow="{str(shadow).lower()}" diffuse="{_numbers([brightness] * 3)}" '
            f'specular="{_numbers([0.25 * brightness] * 3)}" attenuation="1 0 0.015"/>'
        )

    def box(self, centre: Vector, size: Vector, material: str, *, yaw: float = 0.0) -> str:
        """A cuboid of full lengths `size`; returns its MJCF, which is part of the static scene."""
        turn = "" if yaw == 0 else f' euler="0 0 {math.degrees(yaw):.4f}"'
        return self._geom("box", centre, [value / 2 for value in size], material, turn)

    def cylinder(self, centre: Vector, radius: float, height: float, material: str) -> str:
        """An upright cylinder."""
        return self._geom("cylinder", centre, [radius, height / 2], material)

    def capsule(self, centre: Vector, radius: float, height: float, material: str) -> str:
        """An upright capsule of total `height`."""
        return self._geom("capsule", centre, [radius, max(height / 2 - radius, 1e-3)], material)

    def ball(self, centre: Vector, radius: float | Vector, material: str) -> str:
        """A sphere, or an ellipsoid of three radii."""
        if isinstance(radius, float | int):
            return self._geom("sphere", centre, [radius], material)
        return self._geom("ellipsoid", centre, radius, material)

    def panel(self, centre: Vector, width: float, height: float, facing: float, material: str, depth: float) -> str:
        """An upright flat thing whose normal has the yaw `facing`; a `sheet` appears unmirrored on that side."""
        axes = f' xyaxes="{_numbers([-math.sin(facing), math.cos(facing), 0])} 0 0 1"'
        return self._geom("box", centre, [width / 2, height / 2, depth / 2], material, axes)

    def moving(self, name: str, geoms: Sequence[str]) -> None:
        """Turn geoms that were just added, placed relative to a body's origin, into a body that moves."""
        for geom in geoms:
            self._geoms.remove(geom)
        self._bodies.append(f'<body name="{name}" mocap="true">{"".join(geoms)}</body>')

    def xml(self, ambient: float) -> str:
        """The finished model, with `ambient` light that comes from everywhere, 0 to 1."""
        return (
            '<mujoco model="scene"><compiler texturedir=""/><statistic center="0 0 1" extent="10"/>'
            f'<visual><headlight ambient="{_numbers([ambient] * 3)}" diffuse="0.08 0.08 0.08" specular="0 0 0"/>'
            f'<quality shadowsize="768" offsamples="4" numquads="{self.quads}" numslices="16" numstacks="8"/>'
            '<map znear="0.003" zfar="10" shadowclip="1.6"/></visual>'
            f"<asset>{''.join(self._textures)}{''.join(self._materials)}</asset>"
            f"<worldbody>{''.join(self._lights)}{''.join(self._geoms)}{''.join(self._bodies)}</worldbody></mujoco>"
        )

    def _file(self, pixels: Pixels) -> str:
        done, png = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not done:
            raise ValueError(f"pixels: expected (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
        name = f"{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}.png"
        self.assets[name] = png.tobytes()
        return name

    def _textured(self, pixels: Pixels, kind: str, mapping: str, shine: float) -> str:
        self._names += 1
        name = f"texture{self._names}"
        self._textures.append(f'<texture name="{name}" type="{kind}" file="{self._file(pixels)}"/>')
        return self._material(f'texture="{name}"{mapping} specular="{shine:g}" shininess="{shine:g}"')

    def _material(self, attributes: str) -> str:
        self._names += 1
        name = f"material{self._names}"
        self._materials.append(f'<material name="{name}" {attributes}/>')
        return name

    def _geom(self, kind: str, centre: Vector, size: Vector, material: str, turn: str = "") -> str:
        # Contacts are never computed: this model is drawn, not simulated.
        geom = (
            f'<geom type="{kind}" pos="{_numbers(centre)}" size="{_numbers(size)}" material="{material}"{turn} '
            'contype="0" conaffinity="0"/>'
        )
        self._geoms.append(geom)
        return geom
