import errno
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from unscene.data import ImageFolder
from unscene.errors import InputError
from unscene.export import export_decompositions, read_image
from unscene.figures import palette
from unscene.models.base import Losses, SceneModel
from unscene.scenes import Decomposition, check_image


class Halves(SceneModel):
    """Slot 1 owns the left half, slot 0 the right; both paint the image; a slot's latent is noise."""

    def __init__(self, image_channels: int = 3, num_slots: int = 2) -> None:
        super().__init__()
        self.image_channels, self.num_slots = image_channels, num_slots
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def decompose(self, image, *, num_slots=None):
        check_image(image, channels=self.image_channels)
        if image.shape[-1] > 100:
            raise InputError("too wide")
        batch, _, height, width = image.shape
        num_slots = num_slots or self.num_slots
        masks = torch.zeros(batch, num_slots, height, width)
        masks[:, 1, :, : width // 2] = 1
        masks[:, 0] = 1 - masks[:, 1]
        components = image.unsqueeze(1).expand(-1, num_slots, -1, -1, -1)
        return Decomposition(masks=masks, components=components, slots=torch.randn(batch, num_slots, 3))

    def loss(self, batch, step):
        return Losses(self.unused.sum(), {})


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return path


def load(path):
    with Image.open(path) as picture:
        picture.load()
        return picture


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_file_holds_what_it_says(photo, tmp_path):
    (folder,) = export_decompositions(Halves(), [photo], tmp_path / "out")
    assert folder == tmp_path / "out" / "photo"
    assert names(folder) == [
        *("decomposition.npz", "info.json", "labels.png", "overlay.png", "panel.png", "slot_0.png", "slot_1.png")
    ]
    pixels = np.asarray(load(photo))
    labels = load(folder / "labels.png")
    assert labels.mode == "P"
    np.testing.assert_array_equal(np.asarray(labels), np.repeat([[1] * 15 + [0] * 15], 20, axis=0))
    assert labels.convert("RGB").getpixel((0, 0)) == tuple(palette(2)[1])
    slot = np.asarray(load(folder / "slot_1.png"))
    np.testing.assert_array_equal(slot[..., :3], pixels)
    np.testing.assert_array_equal(slot[0, :, 3], [255] * 15 + [0] * 15)
    blend = np.asarray(load(folder / "overlay.png"))[3, 4]
    np.testing.assert_allclose(blend, pixels[3, 4] / 2 + palette(2)[1] / 2, atol=0.51)
    arrays = np.load(folder / "decomposition.npz")
    assert {name: array.shape for name, array in arrays.items()} == {
        "masks": (2, 20, 30),
        "components": (2, 3, 20, 30),
        "slots": (2, 3),
    }
    np.testing.assert_allclose(arrays["components"][0].transpose(1, 2, 0) * 255, pixels, atol=0.1)


def test_an_image_depends_on_the_seed_and_on_no_other_image(photo, tmp_path):
    other = tmp_path / "other.png"
    Image.new("RGB", (8, 9)).save(other)
    random_state = torch.random.get_rng_state()

    def slots(images, out, seed):
        folder = export_decompositions(Halves(), images, tmp_path / out, seed=seed)[-1]
        return np.load(folder / "decomposition.npz")["slots"]

    np.testing.assert_array_equal(slots([photo], "a", 1), slots([other, photo], "b", 1))
    assert (slots([photo], "a", 1) != slots([photo], "c", 2)).all()
    assert torch.equal(random_state, torch.random.get_rng_state())


def test_redoing_an_image_replaces_its_folder_and_leaves_others(photo, tmp_path):
    out = tmp_path / "out"
    export_decompositions(Halves(), [photo], out, num_slots=5)
    (out / "mine.txt").write_text("keep")
    (folder,) = export_decompositions(Halves(), [photo], out)
    assert not (folder / "slot_4.png").exists()
    assert json.loads((folder / "info.json").read_text()) == {"image": str(photo), "method": "Halves", "seed": 0}
    assert names(out) == ["mine.txt", "photo"]


class Stamps(Halves):
    """Slot 1 shows sprite 4."""

    def decompose(self, image, *, num_slots=None):
        return replace(super().decompose(image), sprite_ids=torch.tensor([[-1, 4]]).expand(len(image), -1))


def test_the_info_of_a_sprite_model_tells_which_sprite_each_slot_shows(photo, tmp_path):
    (folder,) = export_decompositions(Stamps(), [photo], tmp_path / "out")
    assert json.loads((folder / "info.json").read_text())["sprites"] == [-1, 4]


def test_equal_names_do_not_overwrite_each_other(photo, tmp_path):
    twin = tmp_path / "sub" / "photo.jpg"
    twin.parent.mkdir()
    Image.new("RGB", (8, 9)).save(twin)
    out = tmp_path / "out"
    assert names(out / export_decompositions(Halves(), [photo], out)[0])
    assert [path.name for path in export_decompositions(Halves(), [twin, photo], out)] == ["photo-2", "photo"]
    assert load(out / "photo-2" / "labels.png").size == (8, 9)
    assert load(out / "photo" / "labels.png").size == (30, 20)


def test_images_take_the_models_channels_and_the_wanted_size(photo, tmp_path):
    (folder,) = export_decompositions(Halves(image_channels=1), [photo], tmp_path / "out", image_size=(6, 12))
    assert np.load(folder / "decomposition.npz")["components"].shape == (2, 1, 6, 12)


def test_failure_leaves_nothing_half_written(photo, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export_decompositions(Halves(), [photo], out)
    before = (out / "photo" / "info.json").stat().st_mtime_ns

    def full_disk(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(InputError, match="cannot write .*out/photo: No space left on device; make room"):
        export_decompositions(Halves(), [photo], out, seed=1)
    assert names(out) == ["photo"]
    assert (out / "photo" / "info.json").stat().st_mtime_ns == before


def test_folders_stand_for_their_images_as_in_ImageFolder(photo, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    for name in ("A10.PNG", "A2.png", ".hidden.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (3, 3)).save(tmp_path / name)
    out = tmp_path / "out"
    for _ in range(2):  # the second time, what the first one wrote lies in the folder too
        folders = export_decompositions(Halves(), [tmp_path, photo], out)
        assert [folder.name for folder in folders] == ["A2", "A10", "photo", "b"]
    assert len(ImageFolder(tmp_path, image_size=3, split=None).paths) > 4  # which takes them for images


def test_a_fixed_size_is_kept_to(photo, tmp_path):
    model = Halves()
    model.image_size = [6, 12]
    (folder,) = export_decompositions(model, [photo], tmp_path / "out")
    assert load(folder / "labels.png").size == (12, 6)
    (folder,) = export_decompositions(model, [photo], tmp_path / "out", image_size=8)
    assert load(folder / "labels.png").size == (8, 8)


def test_resizing_crops_and_does_not_stretch(tmp_path):
    columns = np.repeat([0, 255, 255, 0], 4).astype(np.uint8)  # 8 x 16: the central 8 columns are white
    Image.fromarray(np.tile(columns, (8, 1))).save(tmp_path / "a.png")
    for size in (8, (8, 8)):
        image = read_image(tmp_path / "a.png", 1, size)
        assert image.shape == (1, 8, 8) and image.min() == 1


def test_large_photos_are_refused_unless_resized(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (300, 219)).save(path)
    with pytest.raises(InputError, match="photo.jpg has 219 x 300 pixels, .* many GB of memory; give --image_size"):
        export_decompositions(Halves(), [path], tmp_path / "out")
    assert len(export_decompositions(Halves(), [path], tmp_path / "out", image_size=64)) == 1


def test_more_slots_than_the_label_map_can_hold_are_refused(photo, tmp_path):
    for model, settings in ((Halves(), {"num_slots": 257}), (Halves(num_slots=257), {})):
        with pytest.raises(InputError, match="num_slots is 257; label maps can tell 256 slots apart, ask for fewer"):
            export_decompositions(model, [photo], tmp_path / "out", **settings)


def test_sixteen_bit_images_keep_their_range(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(path)
    torch.testing.assert_close(read_image(path, 1) * 255, torch.tensor([[[0.0, 1, 128, 255]]]))


def test_photos_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    Image.new("RGB", (10, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg", 3).shape == (3, 10, 4)


def test_bad_input_is_named(photo, tmp_path):
    out, empty, broken = tmp_path / "out", tmp_path / "empty", tmp_path / "broken.png"
    empty.mkdir()
    broken.write_bytes(photo.read_bytes()[:200])
    wide = tmp_path / "wide.png"
    Image.new("RGB", (101, 4)).save(wide)
    floats = tmp_path / "floats.tif"
    Image.new("F", (4, 4)).save(floats)
    (tmp_path / "file").touch()
    for images, folder, settings, message in [
        ([], out, {}, "no images given"),
        ([empty], out, {}, "folder .*empty has no images .*.bmp"),
        ([tmp_path / "gone.png"], out, {}, "image .*gone.png does not exist"),
        ([tmp_path / "file"], out, {}, "cannot read image .*file"),
        ([broken], out, {}, "cannot read image .*broken.png: .*truncated"),
        ([wide], out, {}, "wide.png: too wide"),
        ([photo], tmp_path / "file", {}, "cannot write to .*file: it is a file"),
        ([photo], out, {"iterations": 3}, "Halves does not take iterations"),
        ([photo], out, {"image_size": (0, 4)}, r"image_size is \(0, 4\); give one number of pixels"),
        ([floats], out, {}, "floats.tif: its pixels are floating-point numbers"),
    ]:
        with pytest.raises(InputError, match=message):
            export_decompositions(Halves(), images, folder, **settings)
    assert not out.exists() or names(out) == []
