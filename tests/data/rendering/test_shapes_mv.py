"""ShapesViews: general shapes and the user's own, and what the numbers of shapes mean."""

import numpy as np
import pytest
import torch

pytest.importorskip("mitsuba")
pytest.importorskip("pyoidn")
pytest.importorskip("trimesh")

import trimesh

from unscene.data.rendering.cle_mv import CLEVRViews
from unscene.data.rendering.shapes_mv import ShapesViews
from unscene.errors import InputError

QUICK = {"samples": 1, "denoise": False, "variant": "scalar"}
TINY = {"views": 2, "image_size": 16, **QUICK}


@pytest.fixture
def folder(tmp_path):
    """A ball and a rod, in millimetres and elsewhere."""
    trimesh.creation.icosphere(subdivisions=2, radius=30).export(tmp_path / "ball.ply")
    rod = trimesh.creation.box((100, 30, 40))
    rod.apply_translation((500, 0, 70))
    rod.export(tmp_path / "rod.obj")
    return tmp_path


def test_shapes_and_types():
    scenes = ShapesViews(2, **TINY).batch([0, 1])
    assert scenes["image"].shape == (2, 2, 3, 16, 16) and scenes["mask"].shape == (2, 2, 16, 16)
    assert scenes["factors"].keys() == CLEVRViews(1, **TINY)[0]["factors"].keys()
    assert scenes["visibility"].shape == (2, 7) and scenes["view_visibility"].shape == (2, 2, 7)


def test_a_scene_does_not_depend_on_its_batch():
    whole, again = ShapesViews(3, **TINY).batch([0, 1, 2]), ShapesViews(30, **TINY)[2]
    for name in ("image", "mask", "visibility", "camera"):
        assert torch.equal(whole[name][2], again[name]), name
    for name, value in whole["factors"].items():
        assert torch.equal(value[2], again["factors"][name]), name


def test_shapes_are_numbered_as_their_names_are():
    """Objects alone: how high they appear, in widths."""
    dataset = ShapesViews(60, views=1, image_size=64, fewest=1, most=1, **QUICK)
    assert len(dataset.shape_names) == 12 and dataset.shape_names[3] == "torus"
    found = {}
    scenes = dataset.batch(range(40))
    for b in range(40):
        rows, columns = np.nonzero(scenes["mask"][b, 0].numpy() == 1)
        name = dataset.shape_names[int(scenes["factors"]["shape"][b, 1]) - 1]
        found.setdefault(name, []).append(np.ptp(rows) / np.ptp(columns))
    found = {name: np.mean(shares) for name, shares in found.items()}
    assert len(found) > 9 and found["bottle"] > 1.3 > 0.8 > found["torus"]
    assert min(found, key=found.get) in ("torus", "star", "cross") and max(found, key=found.get) == "bottle"


def test_the_meshes_of_a_folder(folder):
    dataset = ShapesViews(40, views=2, image_size=64, fewest=1, most=1, meshes=str(folder), **QUICK)
    assert dataset.shape_names == ("ball", "rod")
    scenes = dataset.batch(range(10))
    assert set(scenes["factors"]["shape"][:, 1].tolist()) == {1, 2}
    for b in range(10):
        shape, size = (int(scenes["factors"][name][b, 1]) for name in ("shape", "size"))
        x, y, depth = scenes["factors"]["pixel_coords"][b, 1, 0].tolist()
        area = np.pi * ((0.95, 0.75)[size - 1] * 70 / depth) ** 2  # of a ball; the rod has the same on the mean
        assert int((scenes["mask"][b, 0] == 1).sum()) == pytest.approx(area, rel=0.15 if shape == 1 else 0.5)
        if shape == 1:
            assert scenes["factors"]["position"][b, 1, 2] == pytest.approx((0.95, 0.75)[size - 1], rel=0.02)


def test_provenance_tells_the_meshes_apart(folder):
    first = ShapesViews(1, meshes=str(folder), **TINY).provenance()
    assert first == ShapesViews(1, meshes=str(folder), **TINY).provenance()
    assert len(first["meshes"]) == 64 and "meshes" not in ShapesViews(1, **TINY).provenance()
    trimesh.creation.box((1, 1, 1)).export(folder / "rod.obj")
    assert ShapesViews(1, meshes=str(folder), **TINY).provenance() != first


def test_bad_folders(folder, monkeypatch):
    with pytest.raises(InputError, match="there is no folder .*; set meshes to one with .ply or .obj files"):
        ShapesViews(1, meshes=str(folder / "gone"), **TINY)
    (folder / "open.ply").write_bytes((folder / "ball.ply").read_bytes()[:-40])
    with pytest.raises(InputError, match="cannot read .*open.ply"):
        ShapesViews(1, meshes=str(folder), **TINY)
    monkeypatch.setattr("unscene.data.rendering.shapes_mv.MOST_SHAPES", 2)
    with pytest.raises(InputError, match="has 3 meshes; leave at most 2 there"):
        ShapesViews(1, meshes=str(folder), **TINY)


def test_bad_options_are_those_of_clevr_views():
    with pytest.raises(InputError, match="cannot draw 3 to 9 objects"):
        ShapesViews(most=9)
