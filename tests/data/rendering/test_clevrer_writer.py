"""Files in CLEVRER's layout, read by what reads CLEVRER itself."""

import json

import numpy as np
import pytest
import torch

from unscene.data import CLEVRER
from unscene.data.clevrer import is_clevrer
from unscene.data.clevrer_annotations import read_annotation
from unscene.data.clevrer_masks import decode_rle
from unscene.data.rendering.clevrer_writer import clevrer_files, encode_mp4, encode_rle
from unscene.data.videos import frame_rate, iterate_pictures

T = 3


def fake(height=320, width=480, channels=3):
    """A scene of two objects in room for three; its colours change slowly, as codecs like it."""
    random = np.random.default_rng(0)
    there = torch.tensor([False, True, True, False])
    kinds = {"color": [0, 2, 8, 0], "material": [0, 1, 2, 0], "shape": [0, 3, 1, 0]}
    factors = {name: torch.tensor(values, dtype=torch.uint8) for name, values in kinds.items()}
    for name in ("location", "velocity", "orientation", "angular_velocity"):
        factors[name] = torch.from_numpy(random.normal(size=(4, T, 3)).astype(np.float32)) * there[:, None, None]
    factors["inside"] = torch.tensor([[False] * T, [True, True, False], [False, True, True], [False] * T])
    y, x = np.mgrid[:height, :width] / height
    image = np.stack([np.stack([y, x / 2, (x + y + t / 3) / 4][:channels]) for t in range(T)])
    mask = np.zeros((T, height, width), np.uint8)
    mask[:2, 20:90, 100:220], mask[1:, 60:300, 200:300] = 1, 2
    contacts = torch.full((4, 3), -1, dtype=torch.int16)
    contacts[:2] = torch.tensor([[1, 1, 2], [2, 1, 2]])
    return {
        "image": torch.from_numpy(np.round(255 * image) / 255).float(),
        "mask": torch.from_numpy(mask),
        "factors": factors,
        "contacts": contacts,
        "contact_location": torch.tensor([[0.25, -1.5, 0.2], [0.5, 0.5, 0.2], [0, 0, 0], [0, 0, 0]]),
    }


def write(root, files):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clevrer"), clevrer_files(10_003, fake()))


def test_folders_and_names_are_those_of_clevrer(root):
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*.*")) == [
        "annotation_10000-11000/annotation_10003.json",
        "proposals/proposal_10003.json",
        "video_10000-11000/video_10003.mp4",
    ]
    assert is_clevrer(root)
    assert "annotation_14000-15000/annotation_14999.json" in clevrer_files(14_999, fake(4, 4))


def test_the_annotation_has_what_clevrers_have(root):
    content = json.loads((root / "annotation_10000-11000" / "annotation_10003.json").read_text())
    assert content["scene_index"] == 10_003 and content["video_filename"] == "video_10003.mp4"
    assert content["object_property"] == [
        {"object_id": 0, "color": "red", "material": "metal", "shape": "cylinder"},
        {"object_id": 1, "color": "yellow", "material": "rubber", "shape": "cube"},
    ]
    assert content["collision"] == [
        {"object_ids": [0, 1], "frame_id": 1, "location": [0.25, -1.5, 0.2]},
        {"object_ids": [0, 1], "frame_id": 2, "location": [0.5, 0.5, 0.2]},
    ]
    assert [frame["frame_id"] for frame in content["motion_trajectory"]] == [0, 1, 2]
    thing = content["motion_trajectory"][2]["objects"][1]
    assert thing["object_id"] == 1 and thing["inside_camera_view"] is True
    for name in ("location", "orientation", "velocity", "angular_velocity"):
        np.testing.assert_allclose(thing[name], fake()["factors"][name][2, 2], atol=1e-6)


def test_annotations_are_read_unchanged(root):
    annotation = read_annotation(root / "annotation_10000-11000" / "annotation_10003.json")
    factors, true = annotation.factors(range(T)), fake()["factors"]
    assert annotation.kinds == (("red", "metal", "cylinder"), ("yellow", "rubber", "cube"))
    for name in ("color", "material", "shape", "inside"):
        np.testing.assert_array_equal(factors[name][:4], true[name])
    for name in ("location", "velocity"):
        np.testing.assert_allclose(factors[name][:4], true[name], atol=1e-6)


def test_the_reader_of_clevrer_reads_the_folder(root):
    scene, true = CLEVRER(root, "val", frames=T, mask_root=root / "proposals")[0], fake()
    expected = true["image"][..., 80:400].unflatten(-1, (64, 5)).unflatten(-3, (64, 5)).mean((-1, -3))
    assert (scene["image"] - expected).abs()[..., 1:-1, 1:-1].max() < 0.03  # the codec's losses
    assert torch.equal(scene["mask"], true["mask"][:, 2::5, 82:400:5])
    assert torch.equal(scene["factors"]["color"][:4], true["factors"]["color"])
    assert scene["visibility"].tolist() == [True, True, True, *[False] * 8]


def test_other_sizes_come_without_video():
    assert list(clevrer_files(7, fake(64, 64))) == ["annotation_00000-01000/annotation_00007.json"]


def test_a_gray_video_is_written_in_colors(tmp_path):
    root = write(tmp_path, clevrer_files(0, fake(channels=1)))
    (picture,) = list(iterate_pictures(root / "video_00000-01000" / "video_00000.mp4", start=2))
    pixels = np.asarray(picture).astype(int)
    assert np.ptp(pixels, axis=-1).max() <= 4
    assert abs(pixels[..., 0] - 255 * fake()["image"][2, 0].numpy()).mean() < 2


def test_videos_have_clevrers_frame_rate(tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
    (tmp_path / "film.mp4").write_bytes(encode_mp4(frames))
    assert frame_rate(tmp_path / "film.mp4") == pytest.approx(25.6)
    assert [picture.size for picture in iterate_pictures(tmp_path / "film.mp4")] == [(48, 32)] * 5


def test_run_lengths_by_hand():
    mask = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)  # down the columns: 0 0, 1 0, 1 1
    assert encode_rle(mask) == [2, 1, 1, 2]
    assert encode_rle(~mask) == [0, 2, 1, 1, 2]
    assert encode_rle(np.zeros((2, 3), dtype=bool)) == [6]


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_run_lengths_are_read_back(share):
    mask = np.random.default_rng(2).random((13, 7)) < share
    np.testing.assert_array_equal(decode_rle(mask.shape, encode_rle(mask)), mask)
