"""MitsubaRenderer: a stage as a path tracer sees it, on CPUs, with exact label maps."""

from __future__ import annotations

import math
import os
import zlib
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from unscene.data.rendering import studio
from unscene.data.rendering.camera import camera_to_world, pixel_rays, project, window
from unscene.data.rendering.denoise import denoise, denoiser_name
from unscene.data.rendering.probe import LLVM, choose_variant
from unscene.data.rendering.stage import Camera, Mesh, Pictures, Stage, Thing
from unscene.errors import InputError

BRIGHTEST = 4.0  # of a sample, white being 1: a path that meets a lamp in a mirror is far brighter, and speckles
TILE = 32  # pixels a side; left to itself it depends on the number of threads, and the noise with it
DEPTH = 6  # longest path, in edges
MOST = 255  # things, in a label map of bytes
SMALL = 100  # pixels a side; of smaller images the denoiser blurs the edges, unless it has four pixels for each
LABEL = "thing"  # what the shapes of things are called, before their number


class MitsubaRenderer:
    """Renders a `Stage` with Mitsuba 3; the same stage gives the same pixels, whatever the number of threads.

    ``samples`` per pixel, each clamped against fireflies, and spread evenly as far as they make up squares (16 do);
    ``denoise`` then runs Open Image Denoise. ``variant`` "scalar" runs everywhere, "llvm" is faster for large images
    and needs LLVM's library; "auto" takes llvm where it works, see `choose_variant`. Their noise differs.
    A pixel of the mask is the object at the pixel's centre.

    Raises InputError where a package is missing, and for fewer than 1 sample, another variant, and an llvm that does
    not work.
    """

    def __init__(self, samples: int = 16, denoise: bool = True, variant: str = "auto") -> None:
        if samples < 1:
            raise InputError(f"samples is {samples}; a pixel needs at least 1")
        self.variant = choose_variant(variant)
        self.samples = samples
        self.denoiser = denoiser_name() if denoise else None

    def describe(self) -> dict[str, str]:
        """What the pixels depend on, apart from the stage."""
        return {
            "renderer": f"mitsuba {_mitsuba(self.variant).__version__}",
            "variant": self.variant,
            "samples": str(self.samples),
            "denoiser": self.denoiser or "none",
        }

    def render(self, stage: Stage) -> Pictures:
        """Images and label maps of all cameras of the stage."""
        mi = _mitsuba(self.variant)
        scene = _load(mi, stage)
        light = self._light(mi, scene, stage)
        if self.denoiser:
            light = np.stack([denoise(view) for view in light])
        light = _shrink(light, light.shape[1] // stage.cameras[0].height)
        return Pictures(to_bytes(light), _labels(mi, scene, stage))

    def labels(self, stage: Stage) -> UInt8[np.ndarray, "V H W"]:
        """The label maps of `render` alone, which are far cheaper."""
        mi = _mitsuba(self.variant)
        return _labels(mi, _load(mi, stage), stage)

    def _light(self, mi: Any, scene: Any, stage: Stage) -> np.ndarray:
        """(V, H, W, 3), or for denoising small images (V, 2 H, 2 W, 3).

        Every sample is a pixel of one large film, so that it can be clamped.
        """
        side, passes = _split(self.samples)
        sensor = _sensor(mi, stage.cameras, side)
        integrator = mi.load_dict({"type": "path", "max_depth": DEPTH, "block_size": TILE})
        first, seed, light = stage.cameras[0], noise_seed(stage), 0.0
        fine = 2 if self.denoiser and side % 2 == 0 and min(first.height, first.width) < SMALL else 1
        for k in range(passes):
            samples = np.array(mi.render(scene, sensor=sensor, integrator=integrator, seed=(seed + k) % 2**32))
            samples = samples.reshape(side * first.height, len(stage.cameras), side * first.width, 3).swapaxes(0, 1)
            light = light + _shrink(np.minimum(samples, BRIGHTEST), side // fine) / passes
        return light


def _mitsuba(variant: str) -> Any:
    import mitsuba

    if mitsuba.variant() != variant:
        mitsuba.set_variant(variant)
        if threads := os.environ.get("OMP_NUM_THREADS"):  # as in worker processes, which share the cores
            import_module("drjit").set_thread_count(int(threads))
    if variant == LLVM:
        _one_of_each()
    return mitsuba


@lru_cache
def _one_of_each() -> Any:
    """A scene with two things of each kind, kept for good.

    What llvm compiles depends on the order of the kinds of plugins in the process, and on how many there are of each.
    With this scene the order stays, and what is left is one compilation for every mixture of materials, which Mitsuba
    also keeps on disk; without it, nearly every picture costs one.
    """
    import mitsuba

    triangle = Mesh("triangle", np.eye(3), np.array([[0, 1, 2]]), np.eye(3))
    things = [Thing(triangle, np.eye(4), (gray,) * 3, kind) for kind in studio.MATERIALS for gray in (0.25, 0.5)]
    return _load(mitsuba, Stage(tuple(things), (), 2 + np.eye(3), "backdrop"))


def _load(mi: Any, stage: Stage) -> Any:
    """The stage as Mitsuba's scene; the shapes of its things are called thing1, thing2, ..."""
    if len(stage.things) > MOST:
        raise InputError(f"the stage has {len(stage.things)} things, and a label map room for {MOST}; take some away")
    shapes = {f"{LABEL}{k}": _shape(mi, *thing) for k, thing in enumerate(stage.things, start=1)}
    floor = studio.floor(stage.floor)
    shapes["floor"] = _shape(mi, floor, np.eye(4), (studio.GROUND,) * 3, "ground")
    lights = studio.lights(stage.lamps)
    for light in lights.values():
        if "to_world" in light:
            light["to_world"] = mi.ScalarTransform4f(light["to_world"])
    # Optimised, meshes of one material are merged, and which is which is lost
    return mi.load_dict({"type": "scene"} | shapes | lights, optimize=False)


def _shape(mi: Any, mesh: Mesh, pose: np.ndarray, color: tuple[float, ...], material: str) -> Any:
    properties = mi.Properties()
    properties["mesh_bsdf"] = mi.load_dict(studio.material(material, color))
    smooth = mesh.normals is not None
    shape = mi.Mesh(mesh.name, len(mesh.vertices), len(mesh.faces), properties, has_vertex_normals=smooth)
    buffers = mi.traverse(shape)
    buffers["vertex_positions"] = (mesh.vertices @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32).ravel()
    if mesh.normals is not None:
        normals = mesh.normals @ np.linalg.inv(pose[:3, :3])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        buffers["vertex_normals"] = normals.astype(np.float32).ravel()
    buffers["faces"] = mesh.faces.astype(np.uint32).ravel()
    buffers.update()
    return shape


def _sensor(mi: Any, cameras: tuple[Camera, ...], side: int) -> Any:
    """The cameras beside each other on one film, of side x side pixels for each of theirs, with one sample in each."""
    sampler = {"type": "independent", "sample_count": 1}
    views = {
        f"view{k}": {
            "type": "perspective",
            "fov_axis": "x",
            "fov": math.degrees(2 * math.atan(camera.tangent)),
            "principal_point_offset_y": camera.shift,
            "to_world": mi.ScalarTransform4f(camera_to_world(camera) * (-1, -1, 1, 1)),  # its x is left, its y up
            "film": _film(camera.width * side, camera.height * side),
            "sampler": sampler,
        }
        for k, camera in enumerate(cameras)
    }
    film = _film(len(cameras) * cameras[0].width * side, cameras[0].height * side)
    return mi.load_dict({"type": "batch", "film": film, "sampler": sampler} | views)


def _film(width: int, height: int) -> dict[str, Any]:
    # Any other filter correlates the noise of neighbours, and the denoiser leaves it
    size = {"width": width, "height": height, "rfilter": {"type": "box"}}
    return {"type": "hdrfilm", "pixel_format": "rgb", "component_format": "float32"} | size


def _labels(mi: Any, scene: Any, stage: Stage) -> UInt8[np.ndarray, "V H W"]:
    """Which thing a ray through the pixel's centre meets; only rays that pass near one are cast.

    Mitsuba's own output of shape indices counts differently in every variant, averages them, and takes longer.
    """
    names = [shape.id() for shape in scene.shapes()]
    of_names = (int(name.removeprefix(LABEL)) if name.startswith(LABEL) else 0 for name in [*names, "sky"])
    labels = np.array([*of_names], np.uint8)
    maps = np.zeros((len(stage.cameras), stage.cameras[0].height, stage.cameras[0].width), np.uint8)
    for view, camera in zip(maps, stage.cameras, strict=True):
        near = _near_things(camera, stage.things)
        view[near] = labels[_first_shapes(mi, scene, camera, near)]
    return maps


def _near_things(camera: Camera, things: tuple[Thing, ...]) -> Bool[np.ndarray, "H W"]:
    """The pixels within the rectangles around the things' boxes; all, if a box reaches behind the camera."""
    near = np.zeros((camera.height, camera.width), bool)
    for thing in things:
        low, high = thing.mesh.vertices.min(0), thing.mesh.vertices.max(0)
        corners = low + (high - low) * list(np.ndindex(2, 2, 2))
        places = project(camera, thing.to_world(corners))
        if places[:, 2].min() <= 0:
            return np.ones_like(near)
        near[window(places)] = True
    return near


def _first_shapes(mi: Any, scene: Any, camera: Camera, where: Bool[np.ndarray, "H W"]) -> Int[np.ndarray, " n"]:
    """For the rays through n pixels the position among the scene's shapes, -1 for none."""
    rays = pixel_rays(camera)[where]
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    origin, intersect = mi.ScalarPoint3f(camera.location.tolist()), scene.ray_intersect_preliminary
    if mi.variant().startswith("scalar"):
        hits = [intersect(mi.Ray3f(origin, mi.ScalarVector3f(*ray))) for ray in rays.tolist()]
        index = np.array([hit.shape_index if hit.is_valid() else -1 for hit in hits], int)
    else:
        hit = intersect(mi.Ray3f(mi.Point3f(origin), mi.Vector3f(rays.T.astype(np.float32))))
        index = np.where(np.array(hit.is_valid()), np.array(hit.shape_index).astype(int), -1)
    return index


def noise_seed(stage: Stage) -> int:
    """Of the noise: another one for every stage, the same for the same."""
    numbers = [stage.lamps, *(camera.location for camera in stage.cameras), *(thing.pose for thing in stage.things)]
    rounded = np.concatenate([np.ravel(part) for part in numbers]).round(3) + 0.0  # which makes -0 a 0
    return zlib.crc32(rounded.tobytes())


def _shrink(light: np.ndarray, side: int) -> np.ndarray:
    """The means of side x side pixels, of (V, H, W, 3)."""
    views, height, width, _ = light.shape
    return light.reshape(views, height // side, side, width // side, side, 3).mean(axis=(2, 4))


def _split(samples: int) -> tuple[int, int]:
    """The side of the largest square of samples in a pixel, and how many such squares make up all samples."""
    side = max(n for n in range(1, math.isqrt(samples) + 1) if samples % n**2 == 0)
    return side, samples // side**2


def to_bytes(light: np.ndarray) -> UInt8[np.ndarray, "V H W 3"]:
    """Linear light by the curve of sRGB."""
    light = light.clip(0, 1)
    curve = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * curve).astype(np.uint8)
