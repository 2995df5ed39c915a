"""A few frames of fake CLEVRER in the official folders."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from toy_videos import write_video
from unscene.data import CLEVRER, Clips, Frames
from unscene.data.clevrer import is_clevrer
from unscene.data.clevrer_annotations import read_annotation
from unscene.data.preprocess import to_grayscale
from unscene.errors import InputError

KINDS = [("red", "metal", "cube"), ("blue", "rubber", "sphere"), ("gray", "rubber", "cylinder")]
LENGTH = 128


def annotate(path, inside):
    """``inside``: for each object, the range of frames in view."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("object_id", "color", "material", "shape")
    objects = [dict(zip(names, (10 + i, *KINDS[i]), strict=True)) for i in range(len(inside))]
    trajectory = [
        {
            "frame_id": t,
            "objects": [
                {
                    "object_id": 10 + i,
                    "location": [i, t, 0.5],
                    "velocity": [0, -i, t],
                    "inside_camera_view": t in frames,
                }
                for i, frames in enumerate(inside)
            ],
        }
        for t in range(LENGTH)
    ]
    path.write_text(json.dumps({"object_property": objects, "motion_trajectory": trajectory}))
    return path


def frames_of(video, count):
    """Blocks of 20 x 20 pixels in random colours, so that a block of 5 x 5 lies within one of them."""
    coarse = np.random.default_rng(video).integers(40, 216, (count, 16, 24, 3), dtype=np.uint8)
    return coarse.repeat(20, axis=1).repeat(20, axis=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("clevrer")
    write_video(root / "video_train" / "video_00000-01000" / "video_00007.mp4", frames_of(7, 3))
    for video, count in ((10000, 52), (10001, 3), (10002, 3)):
        write_video(root / "video_10000-11000" / f"video_{video}.mp4", frames_of(video, count))
    folder = root / "annotation_10000-11000"
    annotate(folder / "annotation_10000.json", [range(0, 128), range(8, 60), range(4, 128)])
    annotate(folder / "annotation_10001.json", [range(0, 128), range(20, 59)])  # 39 frames of both
    annotate(folder / "annotation_10002.json", [range(100)])
    return root


@pytest.fixture(scope="module")
def validation(root):
    return CLEVRER(root, "val", frames=3)


def test_splits_go_by_number(root, validation):
    train = CLEVRER(root, frames=3)
    assert train.splits == {"train": 1, "val": 3} and len(train) == 1 and len(validation) == 3
    assert [clip.video for clip in train.clips] == [7] and [clip.video for clip in validation.clips] == [
        10000,
        10001,
        10002,
    ]
    assert train[0].keys() == {"image"}  # no annotation
    assert CLEVRER(root).num_frames == 128


def test_images_are_the_middle_square_resized(root, validation):
    batch = validation.batch([2, 0])
    assert batch["image"].shape == (2, 3, 3, 64, 64)
    frame = Image.fromarray(frames_of(10002, 3)[2][:, 80:400]).resize((64, 64), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(frame)).movedim(-1, 0) / 255
    assert (batch["image"][0, 2] - expected).abs().mean() < 0.01
    gray = CLEVRER(root, "val", frames=3, grayscale=True, image_size=32)[2]["image"]
    assert gray.shape == (3, 1, 32, 32)
    full = to_grayscale(batch["image"][0])
    assert (torch.nn.functional.avg_pool2d(full, 2) - gray).abs().mean() < 0.02


def test_factors(validation):
    scene = validation[0]
    factors = scene["factors"]
    assert factors["color"].tolist() == [0, 2, 3, 1, *[0] * 7] and factors["color"].dtype == torch.uint8
    assert factors["material"].tolist()[:5] == [0, 1, 2, 2, 0] and factors["shape"].tolist()[:5] == [0, 1, 2, 3, 0]
    assert factors["location"].shape == (11, 3, 3) and factors["location"][2, 1].tolist() == [1, 1, 0.5]
    assert factors["velocity"][3, 2].tolist() == [0, -2, 2]
    assert factors["inside"].shape == (11, 3) and factors["inside"].any(1).tolist() == [False, True, *[False] * 9]
    assert scene["visibility"].tolist() == [True, True, *[False] * 9]


def test_trimming(root):
    dataset = CLEVRER(root, "val", trim=True)
    assert [(clip.video, clip.begin, clip.end) for clip in dataset.clips] == [(10000, 8, 60), (10002, 0, 100)]
    assert dataset.num_frames == 40
    scene = dataset[0]
    whole = CLEVRER(root, "val", frames=48)[0]
    assert torch.equal(scene["image"], whole["image"][8:])
    assert torch.equal(scene["factors"]["location"], whole["factors"]["location"][:, 8:])
    assert scene["visibility"].tolist() == [True] * 4 + [False] * 7
    assert [clip.video for clip in CLEVRER(root, "val", trim=True, frames=53).clips] == [10002]


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ([range(0, 128), range(0, 128)], range(0, 127)),  # never out of view: up to the last frame
        ([range(0, 128), range(5, 70)], range(5, 70)),
        ([range(0, 50), range(60, 128)], range(0)),
        ([{3, 4, 5, 9, 10}, range(128)], range(3, 6)),  # what comes later does not count
        ([range(127, 128)], range(127, 127)),
        ([], range(0)),
    ],
)
def test_trimming_rule(tmp_path, inside, expected):
    span = read_annotation(annotate(tmp_path / "annotation_00000.json", inside)).trimmed()
    assert list(span) == list(expected)


def test_numbers_of_objects(root):
    assert [clip.video for clip in CLEVRER(root, "val", min_objects=2).clips] == [10000, 10001]
    assert [clip.video for clip in CLEVRER(root, "val", max_objects=2).clips] == [10001, 10002]
    with pytest.raises(InputError, match="none of the 3 videos of split 'val' in .* are left; check split, trim"):
        CLEVRER(root, "val", min_objects=4)


def test_clips_and_frames(root):
    dataset = CLEVRER(root, "val", frames=3)
    frames = Frames(dataset)
    assert len(frames) == 9
    torch.testing.assert_close(frames[5]["image"], dataset[1]["image"][2], rtol=0, atol=0)
    assert torch.equal(frames[5]["factors"]["location"], dataset[1]["factors"]["location"][:, 2])
    assert torch.equal(Clips(dataset, 2)[1]["image"], dataset[1]["image"][:2])


def write_detections(path, count=3):
    """Object 1, red, covers rows 100 to 199 and columns 180 to 259, object 3 what is left of column 130."""
    path.parent.mkdir(exist_ok=True)
    first, third = np.zeros((2, 320, 480), bool)
    first[100:200, 180:260], third[:, :130] = True, True
    objects = []
    for kind, mask in ((KINDS[0], first), (KINDS[2], third)):
        flat = mask.T.ravel()
        runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
        rle = {"size": [320, 480], "counts": [0, *runs] if flat[0] else runs}
        objects.append(dict(zip(("color", "material", "shape"), kind, strict=True), mask=rle))
    frames = [{"frame_index": t, "objects": objects} for t in range(count)]
    path.write_text(json.dumps({"frames": frames}))


def test_masks_from_detections(root, tmp_path):
    for video in (10000, 10001, 10002):
        write_detections(tmp_path / f"sim_{video}.json")
    scene = CLEVRER(root, "val", frames=3, mask_root=tmp_path)[0]
    expected = np.zeros((64, 64), np.uint8)
    expected[20:40, 20:36], expected[:, :10] = 1, 3
    assert scene["mask"].dtype == torch.uint8
    np.testing.assert_array_equal(scene["mask"], [expected] * 3)
    assert scene["visibility"].nonzero()[:, 0].tolist() == [0, 1, 3]
    assert "factors" in scene
    with pytest.raises(InputError, match="sim_10000.json has no frame 3; use other frames"):
        CLEVRER(root, "val", frames=4, mask_root=tmp_path)[0]


def test_masks_from_videos_of_colors(root, tmp_path):
    """Of the trimmed clip, whose frame 0 is the video's frame 8."""
    frames = np.zeros((52, 320, 480, 3), np.uint8)
    frames[:, 100:200, 180:260] = 250, 20, 20
    frames[1:, 220:260, 100:140] = 20, 20, 250
    write_video(tmp_path / "mask_10000.mp4", frames)
    dataset = CLEVRER(root, "val", trim=True, min_objects=3, mask_root=tmp_path)
    clip = Clips(dataset, 3)[0]
    expected = np.zeros((3, 64, 64), np.uint8)
    expected[:, 20:40, 20:36], expected[1:, 44:52, 4:12] = 1, 2
    np.testing.assert_array_equal(clip["mask"], expected)
    assert "factors" not in clip and clip["visibility"].nonzero()[:, 0].tolist() == [0, 1, 2]
    for video in (10000, 10001, 10002):
        write_video(tmp_path / f"mask_{video}.mp4", np.zeros((3, 32, 48, 3), np.uint8))
    with pytest.raises(InputError, match=r"masks .*mask_10001.mp4 have shape \(3, 32, 48\) and 0 objects; expected"):
        CLEVRER(root, "val", frames=3, mask_root=tmp_path)[1]


def test_what_is_missing_is_said(root, tmp_path):
    with pytest.raises(InputError, match="unknown split 'validation' of CLEVRER; choose one of train, val, test"):
        CLEVRER(root, "validation")
    with pytest.raises(InputError, match="frames is 0 and image_size 64; both must be at least 1"):
        CLEVRER(root, frames=0)
    with pytest.raises(InputError, match="there are no videos such as video_10000.mp4 in"):
        CLEVRER(tmp_path)
    with pytest.raises(InputError, match="none of the 0 videos of split 'test' in .* are left"):
        CLEVRER(root, "test")
    with pytest.raises(
        InputError, match="video 00007 has no annotation_00007.json in the folder of the videos or below"
    ):
        CLEVRER(root, trim=True)
    with pytest.raises(InputError, match="3 of 3 videos have no masks in .*, the first is 10000"):
        CLEVRER(root, "val", mask_root=tmp_path)
    with pytest.raises(InputError, match="video_00007.mp4 is too short: frame 3 was asked for"):
        CLEVRER(root, frames=4)[0]
    write_video(tmp_path / "video_00000.mp4", np.zeros((2, 32, 48, 3), np.uint8))
    with pytest.raises(InputError, match="video_00000.mp4 has 32 x 48 pixels; CLEVRER's have 320 x 480"):
        CLEVRER(tmp_path, frames=2)[0]


@pytest.mark.parametrize(
    "text", ["not json", "[]", "{}", '{"motion_trajectory": [], "object_property": [{"color": "pink"}]}']
)
def test_other_files_are_no_annotations(tmp_path, text):
    (tmp_path / "annotation_00000.json").write_text(text)
    with pytest.raises(InputError, match="annotation_00000.json is not an annotation of CLEVRER"):
        read_annotation(tmp_path / "annotation_00000.json")


def test_more_than_ten_objects(tmp_path):
    things = [{"object_id": i, "color": "red", "material": "metal", "shape": "cube"} for i in range(11)]
    (tmp_path / "a.json").write_text(json.dumps({"object_property": things, "motion_trajectory": []}))
    with pytest.raises(InputError, match="a.json lists 11 objects; the videos of CLEVRER have 10 at most"):
        read_annotation(tmp_path / "a.json")


def test_the_folder_is_known_by_its_names(root, tmp_path):
    assert is_clevrer(root) and is_clevrer(root / "video_train") and is_clevrer(root / "video_10000-11000")
    (tmp_path / "video_clip.mp4").touch()
    assert not is_clevrer(tmp_path)
