"""Files in the layout of R-NEM's bouncing balls, written here from generated videos."""

import pickle

import h5py
import numpy as np
import pytest
import torch

from unscene.data import BouncingBalls, Clips, Frames, RNEMScenes
from unscene.data.bouncing_balls import collision_masks
from unscene.errors import InputError


@pytest.fixture(scope="module")
def videos():
    return BouncingBalls(6, variant="6-8", frames=9, grayscale=True).batch(range(6))


@pytest.fixture(scope="module")
def file(videos, tmp_path_factory):
    """Boolean features, integer groups, float collisions: the types of the official files are not known."""
    path = tmp_path_factory.mktemp("rnem") / "balls678mass64.h5"
    with h5py.File(path, "w") as out:
        for name, part in (("training", slice(0, 4)), ("test", slice(4, 6))):
            group = out.create_group(name)
            arrays = {"features": videos["image"][:, :, 0] > 0, "groups": videos["mask"].long()}
            arrays["collisions"] = collision_masks(videos).float()
            for member, values in arrays.items():
                group[member] = values[part].transpose(0, 1)[..., None].numpy()
    return path


def test_videos_come_back(file, videos):
    dataset = RNEMScenes(file, grayscale=True)
    assert len(dataset) == 4 and dataset.splits == {"train": 4, "test": 2} and dataset.num_frames == 9
    batch = dataset.batch([3, 0, 3])
    assert batch["mask"].dtype == torch.uint8 and batch["image"].dtype == torch.float32
    for name in ("image", "mask", "visibility"):
        assert torch.equal(batch[name], videos[name][[3, 0, 3]])
    assert torch.equal(pickle.loads(pickle.dumps(RNEMScenes(file, "test")))[1]["mask"], videos["mask"][5])
    assert "collision" not in batch


@pytest.mark.parametrize("options", [{}, {"colors": 8}, {"colors": 4}, {"colors": 8, "grayscale": True}])
def test_colors_are_those_of_the_generator(file, options):
    expected = BouncingBalls(6, variant="6-8", frames=9, **options).batch(range(4))["image"]
    assert torch.equal(RNEMScenes(file, **options).batch(range(4))["image"], expected)


def test_collisions_are_read_if_asked_for(file, videos):
    dataset, expected = RNEMScenes(file, frames=8, collisions=True), collision_masks(videos)
    found = dataset.batch([2, 1])["collision"]
    assert found.dtype == torch.bool and found.any() and torch.equal(found, expected[[2, 1], :8])
    assert torch.equal(Clips(dataset, 4)[3]["collision"], expected[1, 4:8])


def test_frames_and_clips(file, videos):
    assert torch.equal(RNEMScenes(file, frames=5)[2]["mask"], videos["mask"][2, :5])
    clips = Clips(RNEMScenes(file, grayscale=True), 4)
    assert len(clips) == 8
    assert torch.equal(clips.batch([5, 0])["image"], torch.stack([videos["image"][2, 4:8], videos["image"][0, :4]]))
    assert torch.equal(Frames(RNEMScenes(file))[13]["mask"], videos["mask"][1, 4])


def write(path, **members):
    with h5py.File(path, "w") as out:
        for name, values in members.items():
            out[f"training/{name}"] = values
    return path


def test_other_layouts_are_refused(tmp_path):
    good = np.zeros((3, 2, 8, 8, 1))
    with pytest.raises(InputError, match="group 'training' of .*a.h5 has no 'groups', only features; it is not a file"):
        RNEMScenes(write(tmp_path / "a.h5", features=good))
    with pytest.raises(
        InputError, match=r"'features' in group 'training' of .*b.h5 has shape \(2, 3, 8, 8\); expected"
    ):
        RNEMScenes(write(tmp_path / "b.h5", features=good[..., 0].swapaxes(0, 1), groups=good))
    with pytest.raises(InputError, match=r"'groups' in group .* has shape \(2, 3, 8, 8, 1\); expected time first"):
        RNEMScenes(write(tmp_path / "c.h5", features=good, groups=good.swapaxes(0, 1)))
    for value in (9, -1, 0.5):
        path = write(tmp_path / f"{value}.h5", features=good, groups=np.full_like(good, value))
        with pytest.raises(InputError, match=f"'groups' in group 'training' of .*h5 has values from {value}"):
            RNEMScenes(path)[0]
    with pytest.raises(InputError, match="has no group 'validation'; it has training"):
        RNEMScenes(write(tmp_path / "d.h5", features=good, groups=good), "val")
    with pytest.raises(InputError, match="d.h5 has no 'collisions', only features, groups; leave .* collisions out"):
        RNEMScenes(tmp_path / "d.h5", collisions=True)[0]


def test_bad_options_and_files(file, tmp_path):
    with pytest.raises(InputError, match="unknown split 'training'; choose one of train, val, test"):
        RNEMScenes(file, "training")
    with pytest.raises(InputError, match="colors is 3; balls come in 8 or 4 colours"):
        RNEMScenes(file, colors=3)
    for frames in (0, 10):
        with pytest.raises(InputError, match=f"frames is {frames}, but the videos of .* have 9; set 1 to 9"):
            RNEMScenes(file, frames=frames)
    with pytest.raises(InputError, match="HDF5 file .*gone.h5 does not exist"):
        RNEMScenes(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InputError, match="text.h5 is not an HDF5 file, or it is damaged"):
        RNEMScenes(tmp_path / "text.h5")
