"""Blender's side of `BlenderRenderer`: a script, run by a Python that has bpy, and without unscene.

Its argument is a folder for temporary files. It reads requests from its input, each a line of JSON, and ends with it:
first {"base", "shapes", "materials", "threads"}, then views, the arguments of `Studio.render`. It answers each with a
line of JSON, and a view with {"bytes": n} and n bytes: light (H, W, 3) float32 and labels (H, W) uint8.
{"error": sentence} is what the user can mend; for all else it dies, and says why on standard error.
"""

import json
import os
import shutil
import signal
import sys
import sysconfig
from pathlib import Path

LAMPS = ("Lamp_Key", "Lamp_Fill", "Lamp_Back")
LENS = 35.0  # mm, CLEVR's; only its ratio to the sensor's width matters


class UnusableError(Exception):
    """Something that the user can mend."""


class Studio:
    """CLEVR's base scene, opened once; its props, a pool of copies of each shape, are moved, painted and hidden."""

    def __init__(self, bpy, base, shapes, materials, threads):
        self.bpy = bpy
        bpy.ops.wm.read_factory_settings(use_empty=True)
        try:
            bpy.ops.wm.open_mainfile(filepath=base, load_ui=False, use_scripts=False)
        except RuntimeError as error:
            raise UnusableError(f"Blender cannot open {base}: {error}") from None
        self.camera, *self.lamps = (_member(bpy.data.objects, name, base) for name in ("Camera", *LAMPS))
        for thing in bpy.data.objects:
            thing.pass_index = 0
        for constraint in self.camera.constraints:  # it is turned by us, lamps by their own constraints
            constraint.mute = True
        self.shapes = {kind: _append(bpy, "objects", *place) for kind, place in shapes.items()}
        self.materials = {kind: _append(bpy, "node_groups", *place) for kind, place in materials.items()}
        self.props = {kind: [] for kind in shapes}
        self._set_up(bpy.context.scene, threads)

    def _set_up(self, scene, threads):
        scene.camera = self.camera
        render, cycles = scene.render, scene.cycles
        render.engine, cycles.device = "CYCLES", "CPU"  # a GPU's noise differs
        render.resolution_percentage, render.pixel_aspect_x, render.pixel_aspect_y = 100, 1, 1
        render.use_border = render.film_transparent = render.use_compositing = render.use_sequencer = False
        render.threads_mode, render.threads = ("FIXED", threads) if threads else ("AUTO", 1)
        render.image_settings.media_type = "MULTI_LAYER_IMAGE"  # to be set before the format
        render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
        render.image_settings.color_depth = "32"
        scene.view_layers[0].use_pass_object_index = True
        cycles.use_adaptive_sampling = cycles.use_animated_seed = False
        cycles.denoiser, cycles.denoising_use_gpu = "OPENIMAGEDENOISE", False
        cycles.blur_glossy = 2.0  # as CLEVR's own generator sets it

    def render(self, path, size, pose, tangent, shift, lamps, things, samples, denoise, seed):
        scene, lens = self.bpy.context.scene, self.camera.data
        scene.render.filepath = str(path)
        scene.render.resolution_x, scene.render.resolution_y = size
        scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.seed = samples, denoise, seed
        lens.type, lens.sensor_fit, lens.lens = "PERSP", "HORIZONTAL", LENS
        lens.sensor_width, lens.shift_x, lens.shift_y = 2 * LENS * tangent, 0, shift
        self.camera.matrix_world = _matrix(pose)
        for lamp, place in zip(self.lamps, lamps, strict=True):
            lamp.location = place
        self._furnish(things)
        self.bpy.ops.render.render(write_still=True)

    def _furnish(self, things):
        free = {kind: list(props) for kind, props in self.props.items()}
        for props in free.values():
            for prop, _ in props:
                prop.hide_render = True
        for k, (kind, pose, color, material) in enumerate(things, start=1):
            prop, skins = free[kind].pop(0) if free[kind] else self._new_prop(kind)
            prop.hide_render, prop.pass_index = False, k
            prop.matrix_world = _matrix(pose) @ self.shapes[kind].matrix_basis
            prop.material_slots[0].material = skin = skins[material]
            skin.node_tree.nodes["Group"].inputs["Color"].default_value = (*color, 1)

    def _new_prop(self, kind):
        """A copy, with its modifiers, and a material of each kind of its own."""
        prop = self.shapes[kind].copy()
        if not prop.data.materials:
            prop.data.materials.append(None)  # without a slot there is no place for a material
        self.bpy.context.scene.collection.objects.link(prop)
        prop.material_slots[0].link = "OBJECT"
        self.props[kind].append((prop, {name: self._skin(name) for name in self.materials}))
        return self.props[kind][-1]

    def _skin(self, name):
        skin = self.bpy.data.materials.new(name)
        nodes = skin.node_tree.nodes
        nodes.clear()
        group, output = nodes.new("ShaderNodeGroup"), nodes.new("ShaderNodeOutputMaterial")
        group.name, group.node_tree = "Group", self.materials[name]
        if "Color" not in group.inputs or not group.outputs:
            raise UnusableError(f"the node group {self.materials[name].name} has no input Color, or no output")
        skin.node_tree.links.new(group.outputs[0], output.inputs["Surface"])
        return skin


def _append(bpy, kind, path, name):
    try:
        with bpy.data.libraries.load(path, link=False) as (there, wanted):
            if name in getattr(there, kind):
                setattr(wanted, kind, [name])
    except OSError as error:
        raise UnusableError(f"Blender cannot open {path}: {error}") from None
    if not (found := getattr(wanted, kind)):
        raise UnusableError(f"{path} has no {name} among its {kind}")
    return found[0]


def _member(things, name, path):
    if name not in things:
        raise UnusableError(f"{path} has no object {name}, so it is not CLEVR's base scene")
    return things[name]


def _matrix(rows):
    from mathutils import Matrix

    return Matrix(rows)


def _read(path):
    """The light and the labels in an EXR, of which each pass is a part, as bytes."""
    import numpy as np
    import OpenImageIO

    image, channels, part = OpenImageIO.ImageInput.open(str(path)), {}, 0
    while image.seek_subimage(part, 0):
        names, pixels = image.spec().channelnames, np.asarray(image.read_image(format="float"))
        channels |= {tuple(name.split(".")[-2:]): pixels[..., k] for k, name in enumerate(names)}  # layer.pass.channel
        part += 1
    image.close()
    light = np.stack([channels["Combined", color] for color in "RGB"], axis=-1)
    return light.astype("<f4").tobytes() + channels["Object Index", "X"].astype(np.uint8).tobytes()


def _import_bpy():
    try:
        import bpy
    except ModuleNotFoundError as error:
        if error.name == "bpy":
            return None
        raise
    # What is bundled with bpy as a module is not on the path
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path.append(str(Path(bpy.utils.resource_path("LOCAL"), "python", "lib", version, "site-packages")))
    return bpy


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, whose end is that of our input
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Blender prints much

    def answer(payload=b"", **words):
        answers.write(json.dumps(words).encode() + b"\n" + payload)
        answers.flush()

    requests, folder = iter(sys.stdin.readline, ""), Path(sys.argv[1])
    try:
        bpy = _import_bpy()
        if bpy is None:
            answer(lacks_bpy=sysconfig.get_python_version())
            return
        studio = Studio(bpy, **json.loads(next(requests)))
        answer(version=bpy.app.version_string)
        for request in requests:
            studio.render(folder / "view.exr", **json.loads(request))
            pixels = _read(folder / "view.exr")
            answer(pixels, bytes=len(pixels))
    except UnusableError as error:
        answer(error=str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # here too, for when the parent was killed


if __name__ == "__main__":
    main()
