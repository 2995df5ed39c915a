"""Scenes in the layout of MulMON's data, written here: an index of cameras and objects, archives named .npy."""

import json
import pickle

import numpy as np
import pytest
import torch

from unscene.data import HDF5Scenes, MultiViewScenes, Views, save_hdf5
from unscene.data.multi_view import is_multi_view
from unscene.data.preprocess import to_grayscale
from unscene.data.viewpoints import normalise_cameras
from unscene.errors import InputError

NUM_VIEWS, HEIGHT, WIDTH = 3, 6, 8
CAMERAS = [[7.5, -6.5, 3.5], [9.9, -0.9, 3.5], [-8.5, 5.1, 3.5]]
KINDS = [
    ("cube", "large", "rubber", "red"),
    ("dolphin", "small", "metal", "cyan"),
    ("sphere", "large", "metal", "gray"),
]


def make_scene(number, num_objects):
    """(index entry, arrays, true ids): object i covers column i, but in view 2 the last object hides the first."""
    rng = np.random.default_rng(number)
    true = np.zeros((NUM_VIEWS, HEIGHT, WIDTH), np.uint8)
    for i in range(num_objects):
        true[:, 1:-1, i] = i + 1
    true[2][true[2] == 1] = num_objects
    orders = [rng.permutation(num_objects).tolist() for _ in range(NUM_VIEWS)]
    near = np.zeros_like(true)
    for view, order in enumerate(orders):
        for j, i in enumerate(order):
            near[view][true[view] == i + 1] = j + 1
    whole = np.stack([np.eye(1, WIDTH, i)[0] * np.ones((NUM_VIEWS, HEIGHT, 1)) for i in range(num_objects)], axis=-1)
    masks = np.concatenate([near[..., None], whole.astype(np.uint8)], axis=-1)
    images = rng.integers(0, 256, (NUM_VIEWS, HEIGHT, WIDTH, 4), dtype=np.uint8)
    names = ("shape", "size", "material", "color")
    objects = [
        dict(zip(names, KINDS[i % 3], strict=True))
        | {"3d_coords": [i, number, 0.5], "rotation": 10.0 * i, "pixel_coords": [[1, 2, 9.5]] * NUM_VIEWS}
        for i in range(num_objects)
    ]
    entry = {
        "image_filename": f"CLEVR_new_{number:06}.png",
        "data_path": f"clevr_mv/data/CLEVR_new_{number:06}.npy",
        "camera": {"location": CAMERAS},
        "depth_orders": orders,
        "objects": objects,
    }
    return entry, {"images": images, "masks": masks}, true


def write_archive(path, arrays):
    with path.open("wb") as file:  # given a name, savez would add .npz
        np.savez(file, **arrays)


def write_index(path, entries, **more):
    head = {"info": "clevr_mv", "num_views": NUM_VIEWS, "shape_gallery": ["cube", "sphere", "cow"]}
    path.write_text(json.dumps(head | {"scenes": entries} | more))


class Data:
    """clevr_mv with 4 scenes to train, of 3, 1, 2 and 3 objects, and 2 to test."""

    def __init__(self, root):
        self.root = root / "clevr" / "clevr_mv"
        (self.root / "data").mkdir(parents=True)
        self.scenes = [make_scene(number, count) for number, count in enumerate([3, 1, 2, 3, 2, 2])]
        for number, (_, arrays, _) in enumerate(self.scenes):
            write_archive(self.file(number), arrays)
        self.index()
        write_index(self.root / "clevr_mv_test.json", [entry for entry, _, _ in self.scenes[4:]])

    def file(self, number):
        return self.root / "data" / f"CLEVR_new_{number:06}.npy"

    def index(self, **more):
        write_index(self.root / "clevr_mv_train.json", [entry for entry, _, _ in self.scenes[:4]], **more)

    def change(self, number, **changes):
        """Change entries of the index."""
        self.scenes[number][0].update(changes)
        self.index()

    def replace(self, number, **changes):
        """Replace arrays of a scene."""
        write_archive(self.file(number), self.scenes[number][1] | changes)


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def test_scenes_come_back_with_ids_of_the_objects(data):
    dataset = MultiViewScenes(data.root)
    assert len(dataset) == 4 and dataset.splits == {"train": 4, "test": 2}
    batch = pickle.loads(pickle.dumps(dataset)).batch([3, 0, 1])
    for i, number in enumerate((3, 0, 1)):
        _, arrays, true = data.scenes[number]
        np.testing.assert_array_equal(batch["mask"][i], true)
        np.testing.assert_array_equal((batch["image"][i] * 255).round().movedim(1, -1), arrays["images"][..., :3])
    assert batch["mask"].dtype == torch.uint8 and batch["image"].dtype == torch.float32
    np.testing.assert_allclose(batch["viewpoint"][1], normalise_cameras(np.array(CAMERAS)))
    assert batch["visibility"].tolist() == [[True] * 4, [True] * 4, [True, True, False, False]]


def test_objects_that_are_hidden_in_a_view_keep_their_ids(data):
    scene = MultiViewScenes(data.root)[0]
    assert scene["mask"][0].unique().tolist() == [0, 1, 2, 3] and scene["mask"][2].unique().tolist() == [0, 2, 3]
    assert Views(MultiViewScenes(data.root))[2]["visibility"].tolist() == [True, False, True, True]


def test_factors(data):
    factors = MultiViewScenes(data.root).batch([0, 2])["factors"]
    assert factors["shape"].tolist() == [[0, 1, 6, 2], [0, 1, 6, 0]]
    assert factors["size"].tolist() == [[0, 1, 2, 1], [0, 1, 2, 0]]
    assert factors["material"].tolist() == [[0, 2, 1, 1], [0, 2, 1, 0]]
    assert factors["color"].tolist() == [[0, 2, 6, 1], [0, 2, 6, 0]]
    assert factors["rotation"].tolist() == [[0, 0, 10, 20], [0, 0, 10, 0]]
    assert factors["position"][1].tolist() == [[0, 0, 0], [0, 2, 0.5], [1, 2, 0.5], [0, 0, 0]]


def test_factors_that_some_objects_lack_are_left_out(data):
    del data.scenes[1][0]["objects"][0]["rotation"]
    data.index()
    assert MultiViewScenes(data.root)[0]["factors"].keys() == {"shape", "size", "material", "color", "position"}


def test_shapes_of_the_gallery_come_after_the_known(data):
    data.scenes[0][0]["objects"][1]["shape"] = "cow"
    data.index()
    assert MultiViewScenes(data.root)[0]["factors"]["shape"].tolist() == [0, 1, 11, 2]


def test_scenes_without_objects(data):
    data.change(0, objects=[], depth_orders=[[]] * NUM_VIEWS)
    data.replace(0, masks=np.zeros((NUM_VIEWS, HEIGHT, WIDTH, 1), np.uint8))
    scene = MultiViewScenes(data.root)[0]
    assert not scene["mask"].any() and scene["visibility"].tolist() == [True, False, False, False]


def test_a_subset_is_always_the_same(data):
    some = MultiViewScenes(data.root, subset=2)
    whole = MultiViewScenes(data.root)
    places = [i for i in range(4) for j in range(2) if torch.equal(whole[i]["image"], some[j]["image"])]
    assert len(some) == 2 and len(set(places)) == 2 and places == sorted(places)
    for j, i in enumerate(places):
        for name, value in some[j]["factors"].items():
            assert torch.equal(value, whole[i]["factors"][name])
    assert torch.equal(MultiViewScenes(data.root, subset=2)[1]["mask"], some[1]["mask"])
    assert some.splits == {"train": 4, "test": 2}


def test_grayscale(data):
    gray, color = (MultiViewScenes(data.root, grayscale=switch)[0]["image"] for switch in (True, False))
    assert torch.equal(gray, to_grayscale(color))


def test_moved_folders(data):
    moved = data.root.rename(data.root.with_name("my copy"))
    assert len(MultiViewScenes(moved)) == 4


def test_hdf5_holds_all_of_it(data, tmp_path):
    save_hdf5({"train": MultiViewScenes(data.root)}, tmp_path / "a.h5")
    expected = MultiViewScenes(data.root).batch(range(4))
    torch.testing.assert_close(HDF5Scenes(tmp_path / "a.h5").batch(range(4)), expected, rtol=0, atol=0)


def test_an_index_or_the_data_tells_the_folder(data, tmp_path):
    assert is_multi_view(data.root) and not is_multi_view(tmp_path)
    (tmp_path / "instances_train.json").write_text('{"annotations": []}')
    assert not is_multi_view(tmp_path)
    for index in data.root.glob("*.json"):
        index.unlink()
    assert is_multi_view(data.root)


@pytest.mark.parametrize("form", ["pickle", "npy"])
def test_pickled_scenes_need_the_flag(data, form):
    content = data.scenes[2][1]
    with data.file(2).open("wb") as file:
        pickle.dump(content, file) if form == "pickle" else np.save(file, content, allow_pickle=True)
    with pytest.raises(InputError, match="000002.npy is pickled, or no NumPy file.* set unsafe_pickle to true"):
        MultiViewScenes(data.root)[2]
    np.testing.assert_array_equal(MultiViewScenes(data.root, unsafe_pickle=True)[2]["mask"], data.scenes[2][2])
    assert len(MultiViewScenes(data.root, unsafe_pickle=True)) == 4  # archives among them are read too


def test_pickled_arrays_within_an_archive_need_the_flag(data):
    data.replace(1, images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="CLEVR_new_000001.npy is pickled"):
        MultiViewScenes(data.root)[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read .*000001.npy: No data left in file; get it again"),
        (b"PK\x03\x04 cut off", "cannot read .*000001.npy: File is not a zip file; get it again"),
        (b"<html>404</html>", "000001.npy is pickled, or no NumPy file at all"),
    ],
)
def test_damaged_scenes_are_named(data, content, message):
    data.file(1).write_bytes(content)
    with pytest.raises(InputError, match=message):
        MultiViewScenes(data.root)[1]


def test_damaged_archives_are_named(data):
    content = data.file(1).read_bytes()
    data.file(1).write_bytes(content[:300] + bytes([content[300] ^ 255]) + content[301:])
    with pytest.raises(InputError, match="cannot read .*000001.npy: Bad CRC-32.*; get it again"):
        MultiViewScenes(data.root)[1]
    data.file(1).write_text("garbage")
    with pytest.raises(InputError, match="cannot read .*000001.npy: Failed to interpret"):
        MultiViewScenes(data.root, unsafe_pickle=True)[1]


def test_files_of_other_kinds_are_refused(data):
    np.save(data.file(1), np.zeros(3))
    with pytest.raises(InputError, match="000001.npy holds no named arrays; expected 'images' and 'masks'"):
        MultiViewScenes(data.root)[1]
    write_archive(data.file(1), {"images": np.zeros(3), "mask": np.zeros(3)})
    with pytest.raises(InputError, match="000001.npy has no array 'masks', only images, mask"):
        MultiViewScenes(data.root)[1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "images",
            np.zeros((3, 6, 8, 3)),
            r"'images' of .* are float64 of shape \(3, 6, 8, 3\); expected uint8 of shape",
        ),
        ("images", np.zeros((2, 6, 8, 3), np.uint8), r"shape \(2, 6, 8, 3\); expected uint8 of shape \(3, H, W, 3\)"),
        ("images", np.zeros((3, 6, 8), np.uint8), r"'images' of .* shape \(3, 6, 8\)"),
        ("masks", np.zeros((3, 6, 8, 4)), r"'masks' of .* shape \(3, 6, 8, 4\); expected \(3, 6, 8, 2\), .* 1 objects"),
        ("masks", np.zeros((3, 8, 6, 2)), r"'masks' of .* shape \(3, 8, 6, 2\); expected \(3, 6, 8, 2\)"),
        (
            "masks",
            np.full((3, 6, 8, 2), 2),
            "label maps of .*1.npy have ids from 2 to 2, but .* lists 1 objects",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(data, name, value, message):
    data.replace(1, **{name: value})
    with pytest.raises(InputError, match=message):
        MultiViewScenes(data.root)[1]


def test_scenes_of_different_sizes_are_named(data):
    data.replace(1, images=np.zeros((3, 4, 8, 3), np.uint8), masks=np.zeros((3, 4, 8, 2), np.uint8))
    with pytest.raises(InputError, match="the views of .*1.npy are 4 x 8, those of the first scene 6 x 8; resize them"):
        MultiViewScenes(data.root)[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera": {"location": [[1, 2]] * 3}}, r"scene 1 of .*train.json is not as .* locations of shape \(3, 2\)"),
        ({"camera": {"location": CAMERAS[:2]}}, r"'camera' has locations of shape \(2, 3\) instead of \(3, 3\)"),
        ({"camera": {}}, "scene 1 of .*train.json has no 'location'; it is no index of multi-view scenes"),
        ({"depth_orders": [[0], [0]]}, "'depth_orders' must list each object, 0 to 0, once for each of the 3 views"),
        ({"depth_orders": [[0], [1], [0]]}, "'depth_orders' must list each object, 0 to 0, once"),
        ({"depth_orders": [[0], [0, 1], [0]]}, "scene 1 of .*train.json is not as expected: "),
        ({"objects": None}, "scene 1 of .*train.json is not as expected: "),
    ],
)
def test_entries_that_contradict_themselves_are_named(data, changes, message):
    data.change(1, **changes)
    with pytest.raises(InputError, match=message):
        MultiViewScenes(data.root)


def test_factors_that_make_no_sense_are_named(data):
    data.scenes[1][0]["objects"][0]["color"] = "pink"
    data.index()
    with pytest.raises(InputError, match="an object in .*train.json has the color 'pink', which is none of gray, red"):
        MultiViewScenes(data.root)
    data.scenes[1][0]["objects"][0] |= {"color": "red", "rotation": "left"}
    data.index()
    with pytest.raises(InputError, match="'rotation' of the objects in .*train.json are not all numbers, or not"):
        MultiViewScenes(data.root)


def test_missing_files(data, tmp_path):
    data.file(2).unlink()
    with pytest.raises(InputError, match="1 of 4 scenes that .*train.json lists are missing, .* is .*000002.npy"):
        MultiViewScenes(data.root)
    with pytest.raises(InputError, match=r"clevr_mv has no index of the split 'val' .*, only of: train, test"):
        MultiViewScenes(data.root, "val")
    with pytest.raises(InputError, match=r"has no index of the split 'train' \(a file ..._train.json\), only of: none"):
        MultiViewScenes(data.root / "data")
    with pytest.raises(InputError, match="folder .*gone does not exist; name the one with the index, such as clevr_mv"):
        MultiViewScenes(tmp_path / "gone")
    (data.root / "copy_train.json").write_text("{}")
    with pytest.raises(InputError, match="has several indices: clevr_mv_train.json, copy_train.json; keep one"):
        MultiViewScenes(data.root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read .*train.json: .*; get it again"),
        ("[]", "train.json has no list of 'scenes'; it is no index of multi-view scenes"),
        ('{"scenes": []}', "train.json has no list of 'scenes'"),
        ('{"scenes": [{"objects": []}]}', "scene 0 of .*train.json has no 'camera'"),
        ('{"scenes": [3]}', "scene 0 of .*train.json is not as expected"),
    ],
)
def test_files_that_are_no_index(data, text, message):
    (data.root / "clevr_mv_train.json").write_text(text)
    with pytest.raises(InputError, match=message):
        MultiViewScenes(data.root)


@pytest.mark.parametrize("subset", [0, 5])
def test_bad_subsets(data, subset):
    with pytest.raises(InputError, match=f"subset is {subset}, but .*train.json lists 4 scenes; set 1 to 4"):
        MultiViewScenes(data.root, subset=subset)
