"""Meshes from files: what is read, and what is said of files that cannot be used."""

import sys

import numpy as np
import pytest

pytest.importorskip("trimesh")

from unscene.data.rendering import mesh_files
from unscene.data.rendering.mesh_files import mesh_paths, read_mesh
from unscene.errors import InputError

WEDGE = [(0, 0, 0), (2, 0, 0), (0, 1, 0), (0, 0, 1)]  # a tetrahedron
FACES = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]


def write_obj(path, vertices=WEDGE, faces=FACES):
    lines = [f"v {x} {y} {z}" for x, y, z in vertices] + [" ".join(["f", *(str(1 + k) for k in f)]) for f in faces]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_ply(path, vertices=WEDGE, faces=FACES):
    header = f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\n" + "".join(
        f"property float {c}\n" for c in "xyz"
    )
    header += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [f"{x} {y} {z}" for x, y, z in vertices] + [" ".join(map(str, (len(f), *f))) for f in faces]
    path.write_text(header + "\n".join(rows) + "\n")
    return path


def triangles(mesh):
    """Corners of the faces, each from its first on, in one order."""
    corners = mesh.vertices[mesh.faces].round(9) + 0.0
    turned = [min((tuple(map(tuple, np.roll(face, k, axis=0))) for k in range(3)), default=()) for face in corners]
    return np.array(sorted(turned))


@pytest.mark.parametrize("write", [write_obj, write_ply])
def test_a_mesh_is_read_moved_and_scaled(tmp_path, write):
    mesh = read_mesh(write(tmp_path / f"wedge.{write.__name__[-3:]}"))
    assert mesh.name == "wedge"
    hull_area = (2 + 1 + 2 + 3) / 2  # of the faces; the fourth is half of |(2, -1, 0) x (2, 0, -1)| = |(1, 2, 2)|
    scale = (4 * np.pi / hull_area) ** 0.5
    scale = min(scale, 2**0.5 / np.hypot(1, 0.5))
    expected = (np.array(WEDGE) - (1, 0.5, 0.5)) * scale
    np.testing.assert_allclose(triangles(mesh), triangles(mesh_of(expected, FACES)), atol=1e-8)


def mesh_of(vertices, faces):
    return mesh_files.Mesh("mesh", np.asarray(vertices), np.array(faces))


def test_seams_inside_out_and_polygons(tmp_path):
    """A cube of quadrilaterals, each with vertices of its own, that look inwards."""
    corners = np.array(list(np.ndindex(2, 2, 2)))
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    apart = corners[np.concatenate(sides)]
    faces = np.arange(24).reshape(6, 4)
    for order in (1, -1):
        mesh = read_mesh(write_obj(tmp_path / "cube.obj", apart, faces[:, ::order]))
        assert len(mesh.faces) == 12
        np.testing.assert_allclose(np.abs(mesh.vertices), (4 * np.pi / 6) ** 0.5 / 2)
        a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
        assert ((np.cross(b - a, c - a) * a).sum(1) > 0).all()


def test_a_folder_is_read_by_name(tmp_path):
    for name in ("b.PLY", "a.obj", "c.ply", ".hidden.ply", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in mesh_paths(str(tmp_path))] == ["a.obj", "b.PLY", "c.ply"]


def test_folders_without_meshes(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*gone; set meshes to one with \.ply or \.obj files"):
        mesh_paths(tmp_path / "gone")
    with pytest.raises(InputError, match="has no .ply or .obj files; put some there"):
        mesh_paths(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 9\nproperty float x\nend_header\nab"),
        ("text.ply", b"a mesh, honestly"),
        ("word.obj", b"v 0 0 0\nv 1 a 0\nv 0 1 0\nf 1 2 3\n"),
        ("far.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n"),
    ],
)
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"cannot read .*{name}: .*; export it again$"):
        read_mesh(tmp_path / name)


def test_vertices_without_coordinates(tmp_path):
    path = write_ply(tmp_path / "a.ply", [("nan", 0, 0), *WEDGE[1:]])
    with pytest.raises(InputError, match="it has vertices without coordinates; export it again"):
        read_mesh(path)


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        ([], [], "has no faces; leave it out"),
        (WEDGE, [], "has no faces; leave it out"),
        (WEDGE, FACES[1:], "is open: 3 of its 6 edges end a surface; close its holes"),
        (WEDGE, [FACES[0][::-1], *FACES[1:]], "has faces that look inwards next to others that look outwards"),
        (np.array(WEDGE) * (1, 1, 0), FACES, "encloses no volume; give it a thickness"),
        (WEDGE[:3], [(0, 1, 2), (2, 1, 0)], "encloses no volume; give it a thickness"),
    ],
)
@pytest.mark.parametrize("write", [write_obj, write_ply])
def test_unusable_surfaces(tmp_path, write, vertices, faces, message):
    path = write(tmp_path / f"bad.{write.__name__[-3:]}", vertices, faces)
    with pytest.raises(InputError, match=message) as caught:
        read_mesh(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_too_many_faces(tmp_path, monkeypatch):
    assert mesh_files.MOST_FACES == 20_000
    monkeypatch.setattr(mesh_files, "MOST_FACES", 3)
    with pytest.raises(InputError, match="has 4 faces; simplify it to at most 3"):
        read_mesh(write_obj(tmp_path / "a.obj"))


def test_without_trimesh(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(InputError, match=r'reading meshes needs trimesh: pip install "unscene\[render\]"'):
        read_mesh(write_obj(tmp_path / "a.obj"))
