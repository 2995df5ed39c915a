"""Makes a folder that is laid out as CLEVR's scene files, with plain content: run by a Python that has bpy.

The real files are not ours to ship. Names and places are theirs; shapes have sharp edges, so that geometry knows what
should be seen; the cube has a modifier and the sphere stands shrunk in its file, which must both be kept.
"""

import sys
from pathlib import Path

import bpy

LAMPS = {  # name: place, power, colour
    "Lamp_Key": ((6.45, -2.91, 4.26), 61, (1, 0.84, 0.63)),
    "Lamp_Fill": ((-4.67, -4.01, 3.01), 19, (0.54, 0.63, 1)),
    "Lamp_Back": ((-1.17, 2.65, 5.82), 23.5, (1, 1, 1)),
    "Area": ((11.66, -6.63, 25.82), 1130, (1, 1, 1)),
}


def main(folder):
    for part in ("shapes", "materials"):
        (folder / part).mkdir(parents=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    for name, thing in shapes().items():
        bpy.data.libraries.write(str(folder / "shapes" / f"{name}.blend"), {thing})
    for name, roughness, metallic in (("Rubber", 0.6, 0), ("MyMetal", 0.2, 1)):
        group = material(name, roughness, metallic)
        bpy.data.libraries.write(str(folder / "materials" / f"{name}.blend"), {group}, fake_user=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    base_scene()
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "base_scene.blend"))


def shapes():
    bpy.ops.mesh.primitive_plane_add(size=2)
    cube = bpy.context.object
    thickness = cube.modifiers.new("Solidify", "SOLIDIFY")  # the plane at z = 0 becomes the cube from -1 to 1
    thickness.thickness, thickness.offset = 2, 0
    bpy.ops.mesh.primitive_uv_sphere_add(radius=2, segments=96, ring_count=48)
    sphere = bpy.context.object
    sphere.scale = (0.5, 0.5, 0.5)
    bpy.ops.object.shade_smooth()
    bpy.ops.mesh.primitive_cylinder_add(radius=1, depth=2, vertices=96)
    things = {"SmoothCube_v2": cube, "Sphere": sphere, "SmoothCylinder": bpy.context.object}
    for name, thing in things.items():
        thing.name = name
    return things


def material(name, roughness, metallic):
    group = bpy.data.node_groups.new(name, "ShaderNodeTree")
    group.interface.new_socket("Color", in_out="INPUT", socket_type="NodeSocketColor")
    group.interface.new_socket("Shader", in_out="OUTPUT", socket_type="NodeSocketShader")
    inlet, shader, outlet = (
        group.nodes.new(kind) for kind in ("NodeGroupInput", "ShaderNodeBsdfPrincipled", "NodeGroupOutput")
    )
    shader.inputs["Roughness"].default_value, shader.inputs["Metallic"].default_value = roughness, metallic
    group.links.new(inlet.outputs["Color"], shader.inputs["Base Color"])
    group.links.new(shader.outputs[0], outlet.inputs["Shader"])
    return group


def base_scene():
    scene = bpy.context.scene
    scene.world = bpy.data.worlds.new("World")
    bpy.ops.object.empty_add()
    empty = bpy.context.object
    bpy.ops.mesh.primitive_plane_add(size=100)
    bpy.context.object.name = "Ground"
    for name, (place, power, color) in LAMPS.items():
        lamp = bpy.data.lights.new(name, "AREA")
        lamp.energy, lamp.color, lamp.size = power, color, 5 if name == "Area" else 0.5
        place_facing(bpy.data.objects.new(name, lamp), place, empty)
    place_facing(bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera")), (7.48, -6.51, 5.34), empty)


def place_facing(thing, place, target):
    bpy.context.scene.collection.objects.link(thing)
    thing.location = place
    track = thing.constraints.new("TRACK_TO")
    track.target, track.track_axis, track.up_axis = target, "TRACK_NEGATIVE_Z", "UP_Y"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
