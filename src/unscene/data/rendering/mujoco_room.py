"""The room of Objects Room, drawn by MuJoCo: built once, then only refurnished and repainted."""

from __future__ import annotations

import atexit
import math
import os
import threading
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from unscene.data.rendering.camera import camera_to_world
from unscene.data.rendering.gl import describe_gl, import_mujoco, open_gl
from unscene.data.rendering.room_model import GRID, MOST, SHAPES, SIZES, describe_room
from unscene.data.rendering.stage import Camera

FLOOR, WALLS, FIRST = 0, slice(1, 5), 5  # geoms of the model; objects follow from FIRST on
PARTS = np.array([1, 2, 3, 3, 4, 4, *[0] * MOST], dtype=np.uint8)  # sky, floor, walls across x and y; by 1 + geom
LABELS = np.array([0, 0, 0, 0, 0, 0, *range(1, MOST + 1)], dtype=np.uint8)


class Furniture(NamedTuple):
    """The n objects of a room, and its colours."""

    shape: Int[np.ndarray, " n"]  # position in SHAPES
    level: Int[np.ndarray, " n"]  # position in SIZES
    position: Float[np.ndarray, "n 3"]
    rotation: Float[np.ndarray, " n"]  # around the vertical, in degrees
    color: Float[np.ndarray, "n 3"]
    wall: Float[np.ndarray, " 3"]
    floor: Float[np.ndarray, " 3"]


class Form(NamedTuple):
    """What a geom of the model is made into."""

    kind: int
    mesh: int  # -1 for none
    half: Float[np.ndarray, " 3"]
    middle: Float[np.ndarray, " 3"]  # MuJoCo moves the vertices of a mesh to their centre of mass,
    axes: Float[np.ndarray, "3 3"]  # and turns them to their axes of inertia


class Room:
    """The room, and the OpenGL context of the thread that it was made in: see `room`.

    Raises InputError where MuJoCo or OpenGL is missing.
    """

    def __init__(self) -> None:
        self._gl = None
        self._mujoco = mujoco = import_mujoco()
        self._model = mujoco.MjModel.from_xml_string(describe_room())
        self._data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, self._data)  # walls and lamps never move again
        levels = range(len(SIZES))
        self._forms = {(i, level): self._form(name, level) for i, name in enumerate(SHAPES) for level in levels}
        self._scene = mujoco.MjvScene(self._model, maxgeom=FIRST + MOST)
        self._label_flags = [flag.value for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)]
        self._options = mujoco.MjvOption()
        self._view = mujoco.MjvCamera()
        self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        self._gl, self._context = open_gl(self._model)
        self._owner = os.getpid(), threading.get_ident()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)

    def enter(self) -> Room:
        """Itself, after its OpenGL context has become the current one."""
        self._gl.make_current()
        return self

    def close(self) -> None:
        """Give back what OpenGL holds; a copy that a fork has made is left alone."""
        if self._gl is not None and self._owner == (os.getpid(), threading.get_ident()):
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    __del__ = close  # when its thread ends

    def describe(self) -> dict[str, str]:
        """What the pixels depend on."""
        return {"renderer": f"mujoco {self._mujoco.__version__}", "opengl": describe_gl()}

    def furnish(self, furniture: Furniture) -> None:
        """Paint the room and put the objects into it."""
        model, count = self._model, len(furniture.shape)
        model.geom_rgba[FLOOR, :3], model.geom_rgba[WALLS, :3] = furniture.floor, furniture.wall
        model.geom_rgba[FIRST:, 3] = np.arange(MOST) < count  # alpha 0 hides
        model.geom_rgba[FIRST : FIRST + count, :3] = furniture.color
        rows = zip(furniture.shape, furniture.level, furniture.position, furniture.rotation, strict=True)
        for geom, (shape, level, position, rotation) in enumerate(rows, start=FIRST):
            self._put(geom, self._forms[int(shape), int(level)], position, math.radians(rotation))
        everything = self._mujoco.mjtCatBit.mjCAT_ALL.value
        self._mujoco.mjv_updateScene(self._model, self._data, self._options, None, self._view, everything, self._scene)

    def picture(self, camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
        """The image: of each pixel the mean of GRID x GRID points, its centre among them."""
        fine = self._shoot(camera._replace(width=GRID * camera.width, height=GRID * camera.height))
        sums = fine.reshape(camera.height, GRID, camera.width, GRID, 3).sum((1, 3), dtype=np.uint16)
        return ((sums + GRID**2 // 2) // GRID**2).astype(np.uint8)

    def parts(self, camera: Camera) -> UInt8[np.ndarray, "H W"]:
        """What the centre of each pixel shows: an index of LABELS and PARTS."""
        self._scene.flags[self._label_flags] = True
        ids = self._shoot(camera)[..., 0]  # 1 + place among the visible geoms, and only the last ones are hidden
        self._scene.flags[self._label_flags] = False
        return ids

    def _form(self, name: str, level: int) -> Form:
        """The geom that is this shape in this size."""
        shape, types = SHAPES[name], self._mujoco.mjtGeom
        kind = getattr(types, f"mjGEOM_{shape.kind.upper()}").value
        if shape.vertices is None:
            return Form(kind, -1, SIZES[level] * np.array(shape.half), np.zeros(3), np.eye(3))
        mesh = self._model.mesh(f"{name}{level}").id
        turn = np.zeros(9)
        self._mujoco.mju_quat2Mat(turn, self._model.mesh_quat[mesh])
        return Form(kind, mesh, np.zeros(3), self._model.mesh_pos[mesh], turn.reshape(3, 3))

    def _put(self, geom: int, form: Form, position: Float[np.ndarray, " 3"], angle: float) -> None:
        cos, sin = math.cos(angle), math.sin(angle)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        self._model.geom_type[geom], self._model.geom_dataid[geom] = form.kind, form.mesh
        self._model.geom_size[geom] = form.half
        self._data.geom_xpos[geom] = position + turn @ form.middle
        self._data.geom_xmat[geom] = (turn @ form.axes).ravel()

    def _shoot(self, camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
        mujoco, pose = self._mujoco, camera_to_world(camera)
        self._data.cam_xpos[0] = pose[:3, 3]
        self._data.cam_xmat[0] = (pose[:3, :3] * (1, -1, -1)).ravel()  # to the right, up, backwards
        self._model.cam_fovy[0] = math.degrees(2 * math.atan(camera.tangent * camera.height / camera.width))
        mujoco.mjv_updateCamera(self._model, self._data, self._view, self._scene)
        if camera.width > self._context.offWidth or camera.height > self._context.offHeight:
            mujoco.mjr_resizeOffscreen(camera.width, camera.height, self._context)
        pixels = np.empty((camera.height, camera.width, 3), np.uint8)
        window = mujoco.MjrRect(0, 0, camera.width, camera.height)
        mujoco.mjr_render(window, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, window, self._context)
        return pixels[::-1]


_own = threading.local()


def room() -> Room:
    """The room of this process and thread, made at the first call; its OpenGL context is the current one."""
    rooms = _own.__dict__.setdefault("rooms", {})  # by process, as a fork copies the room but not what draws it
    if os.getpid() not in rooms:
        rooms[os.getpid()] = Room()
        atexit.register(close_room)  # before MuJoCo ends the display, which it arranged when the context was made
    return rooms[os.getpid()].enter()


def close_room() -> None:
    """Close the room of this process and thread, if there is one; `room` makes another."""
    made = _own.__dict__.get("rooms", {}).pop(os.getpid(), None)
    if made is not None:
        made.close()
