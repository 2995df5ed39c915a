import gzip
import pickle

import numpy as np
import pytest
import torch

from unscene.data import collate
from unscene.data.crc32c import crc32c
from unscene.data.multi_object import LAYOUTS
from unscene.data.preprocess import crop_clevr, to_grayscale
from unscene.data.tfrecord_scenes import TFRecordScenes
from unscene.errors import InputError

# (image, number of entities, axis of the entities, stored factors per entity), written down from the
# specification of the files independently of LAYOUTS
FACTORS = {"x": (), "y": (), "shape": ()}
SPRITES = FACTORS | {"orientation": (), "scale": ()}
CLEVR = {"x": (), "y": (), "z": (), "pixel_coords": (3,), "rotation": ()}
CLEVR_BYTES = {"size": (), "material": (), "shape": (), "color": ()}
KINDS = {
    "tetrominoes": ((35, 35, 3), 4, 0, FACTORS | {"color": (3,)}),
    "multi_dsprites/binarized": ((64, 64, 1), 4, 2, SPRITES | {"color": (1,)}),
    "multi_dsprites/colored_on_grayscale": ((64, 64, 3), 6, 2, SPRITES | {"color": (3,)}),
    "multi_dsprites/colored_on_colored": ((64, 64, 3), 5, 2, SPRITES | {"color": (3,)}),
    "clevr_with_masks": ((240, 320, 3), 11, 0, CLEVR | CLEVR_BYTES),
    "objects_room/train": ((64, 64, 3), 7, 0, {}),
    "objects_room/six_objects": ((64, 64, 3), 10, 0, {}),
    "objects_room/empty_room": ((64, 64, 3), 4, 0, {}),
    "objects_room/identical_color": ((64, 64, 3), 10, 0, {}),
    "cater_with_masks": ((33, 64, 64, 3), 11, 1, {"object_positions": (33, 3)}),
}


def make_scene(name: str, rng: np.random.Generator, num_visible: int | None = None) -> tuple[dict, np.ndarray]:
    """The features of one record, and the label map behind its masks."""
    image, entities, axis, factors = KINDS[name]
    labels = rng.integers(0, entities, image[:-1])
    masks = [255 * (labels == entity).astype(np.uint8) for entity in range(entities)]
    features = {"image": rng.integers(0, 256, image, dtype=np.uint8), "mask": np.stack(masks, axis)[..., None]}
    for factor, shape in factors.items():
        in_bytes = name.startswith("clevr") and factor in CLEVR_BYTES
        categorical = in_bytes or factor == "shape"
        values = rng.integers(0, 20, (entities, *shape)) if categorical else rng.normal(size=(entities, *shape))
        features[factor] = values.astype(np.uint8 if in_bytes else np.float32)
    if factors and not name.startswith("cater"):
        num_visible = rng.integers(1, entities) if num_visible is None else num_visible
        features["visibility"] = (np.arange(entities) <= num_visible).astype(np.float32)
    return features, labels


def encode(tfrecord, features: dict, name: str) -> bytes:
    if name.startswith("cater"):  # bytes are single raw values there
        features = features | {key: features[key].tobytes() for key in ("image", "mask")}
        features["camera_matrix"] = np.zeros((33, 4, 4), np.float32)
    return tfrecord.encode_example(features)


def write(tfrecord, path, scenes, name, compression="gzip"):
    return tfrecord.write(path, [encode(tfrecord, features, name) for features, _ in scenes], compression, crc32c)


@pytest.fixture
def tetrominoes(tmp_path, tfrecord):
    """A file of eight scenes, and their features."""
    rng = np.random.default_rng(0)
    scenes = [make_scene("tetrominoes", rng) for _ in range(8)]
    return write(tfrecord, tmp_path / "t.tfrecords", scenes, "tetrominoes"), [features for features, _ in scenes]


def test_every_layout_is_tested():
    assert KINDS.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_reads_each_kind(tmp_path, tfrecord, name):
    rng = np.random.default_rng(1)
    scenes = [make_scene(name, rng) for _ in range(2)]
    path = write(tfrecord, tmp_path / "a.tfrecords", scenes, name, "zlib" if name.startswith("cater") else "gzip")
    kind, _, variant = name.partition("/")
    dataset = TFRecordScenes(path, kind, variant or None)
    assert len(dataset) == 2
    for sample, (features, labels) in zip(dataset, scenes, strict=True):
        pixels = features["image"]
        if name.startswith("objects_room"):
            labels = np.where(labels < 4, 0, labels - 3)
        if name == "clevr_with_masks":
            pixels, labels = crop_clevr(pixels, labels.astype(np.uint8))
        expected = torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).movedim(-1, -3)
        assert torch.equal(sample["image"], expected)
        np.testing.assert_array_equal(sample["mask"], labels)
        check_factors(sample, features, KINDS[name][3])
        visibility = features.get("visibility", np.isin(np.arange(sample["visibility"].numel()), labels))
        np.testing.assert_array_equal(sample["visibility"], visibility.astype(bool))


def check_factors(sample, features, names):
    assert sample.get("factors", {}).keys() == names.keys()
    for name in names:
        np.testing.assert_array_equal(sample["factors"][name], features[name])


def test_batches_equal_samples(tetrominoes):
    dataset = TFRecordScenes(tetrominoes[0], "tetrominoes")
    batch, samples = dataset.batch([5, 0, 5]), collate([dataset[5], dataset[0], dataset[-3]])
    assert batch["image"].shape == (3, 3, 35, 35) and batch["factors"]["color"].shape == (3, 4, 3)
    torch.testing.assert_close(batch, samples, rtol=0, atol=0)


def test_grayscale(tetrominoes):
    path, _ = tetrominoes
    gray, color = TFRecordScenes(path, "tetrominoes", grayscale=True)[1], TFRecordScenes(path, "tetrominoes")[1]
    torch.testing.assert_close(gray["image"], to_grayscale(color["image"]))


def images(dataset):
    return (dataset.batch(range(len(dataset)))["image"] * 255).round().to(torch.uint8).movedim(1, -1).numpy()


@pytest.mark.parametrize(
    ("split", "limit", "expected"),
    [
        (None, None, range(8)),
        (None, 3, range(3)),
        (slice(2, 6), None, range(2, 6)),
        (slice(2, 6), 3, range(2, 5)),
        (slice(5, None), None, range(5, 8)),
        ("train", None, range(8)),
    ],
)
def test_selection(tetrominoes, split, limit, expected):
    path, features = tetrominoes
    dataset = TFRecordScenes(path, "tetrominoes", split=split, limit=limit)
    np.testing.assert_array_equal(images(dataset), [features[i]["image"] for i in expected])


def test_named_splits_follow_each_other(tetrominoes, monkeypatch):
    monkeypatch.setattr("unscene.data.tfrecord_scenes.NUM_TRAIN", 4)
    monkeypatch.setattr("unscene.data.tfrecord_scenes.NUM_TEST", 2)
    path, features = tetrominoes
    for split, expected in {"train": range(4), "test": range(4, 6), "val": range(6, 8)}.items():
        dataset = TFRecordScenes(path, "tetrominoes", split=split)
        np.testing.assert_array_equal(images(dataset), [features[i]["image"] for i in expected])
        assert dataset.splits == {"train": 4, "test": 2, "val": 2}
    assert len(list(path.parent.glob("*.scenes"))) == 1  # decoded once for the three


def test_clevr6_keeps_scenes_of_at_most_six_objects(tmp_path, tfrecord):
    rng = np.random.default_rng(2)
    scenes = [make_scene("clevr_with_masks", rng, num_visible) for num_visible in (7, 6, 3)]
    path = write(tfrecord, tmp_path / "a.tfrecords", scenes, "clevr_with_masks")
    dataset = TFRecordScenes(path, "clevr_with_masks", max_objects=6, split="train")
    assert dataset.batch([0, 1])["visibility"][:, 1:].sum(1).tolist() == [6, 3]
    assert len(dataset) == 2


def test_shards_are_chosen_by_split_and_read_in_order(tmp_path, tfrecord):
    rng = np.random.default_rng(3)
    scenes = [make_scene("cater_with_masks", rng) for _ in range(3)]
    for scene, shard in zip(
        scenes, ("train.tfrecords-00001", "train.tfrecords-00000", "test.tfrecords-00000"), strict=True
    ):
        write(tfrecord, tmp_path / f"cater_with_masks_{shard}-of-00100", [scene], "cater_with_masks", "zlib")
    for source in (tmp_path, tmp_path / "cater*.tfrecords-*"):
        train = TFRecordScenes(source, "cater_with_masks", split="train")
        test = TFRecordScenes(source, "cater_with_masks", split="test")
        np.testing.assert_array_equal(train[0]["mask"], scenes[1][1])
        np.testing.assert_array_equal(train[1]["mask"], scenes[0][1])
        np.testing.assert_array_equal(test[0]["mask"], scenes[2][1])
        assert (len(train), len(test)) == (2, 1)
        assert (train.splits, test.splits) == ({"train": 2}, {"test": 1})  # the other was not looked at


def test_the_cache_is_reused_and_renewed(tetrominoes, tfrecord, tmp_path):
    path, features = tetrominoes
    TFRecordScenes(path, "tetrominoes")
    (cache,) = tmp_path.glob("*.scenes")
    written = cache.stat().st_mtime_ns
    TFRecordScenes(path, "tetrominoes", limit=2)
    assert cache.stat().st_mtime_ns == written and list(tmp_path.glob("*.scenes")) == [cache]

    newer = make_scene("tetrominoes", np.random.default_rng(9))
    write(tfrecord, path, [newer], "tetrominoes")
    np.testing.assert_array_equal(images(TFRecordScenes(path, "tetrominoes")), [newer[0]["image"]])


def test_decoding_shows_how_far_it_is(tetrominoes, monkeypatch):
    calls = []
    monkeypatch.setattr("unscene.data.tfrecord_scenes.progress", lambda *call: calls.append(call))
    monkeypatch.setattr("unscene.data.tfrecord_scenes.SHOWN_EVERY", 3)
    for limit in (7, None):
        TFRecordScenes(tetrominoes[0], "tetrominoes", limit=limit)
    shown = [(3, 7), (6, 7), (7, 7), (3, None), (6, None), (8, 8)]
    assert calls == [("decoding t.tfrecords:", *state) for state in shown]


def test_more_scenes_than_cached_are_decoded(tetrominoes):
    path, _ = tetrominoes
    assert [len(TFRecordScenes(path, "tetrominoes", limit=limit)) for limit in (2, 5, 3)] == [2, 5, 3]
    assert sorted(cache.name.split(".")[-2] for cache in path.parent.glob("*.scenes")) == ["2", "5"]


def test_the_cache_goes_where_asked(tetrominoes, tmp_path):
    cache_dir = tmp_path / "cache"
    TFRecordScenes(tetrominoes[0], "tetrominoes", cache_dir=cache_dir)
    assert len(list(cache_dir.iterdir())) == 1 and not list(tmp_path.glob("*.scenes"))


def test_damage_leaves_no_cache_behind(tetrominoes, tmp_path):
    path, _ = tetrominoes
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="t.tfrecords is truncated in record"):
        TFRecordScenes(path, "tetrominoes")
    assert list(tmp_path.iterdir()) == [path]


def test_pickles_without_its_data(tetrominoes):
    dataset = TFRecordScenes(tetrominoes[0], "tetrominoes")
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 2000
    torch.testing.assert_close(pickle.loads(pickled)[3], dataset[3])


def test_workers_deliver_the_same(tetrominoes):
    dataset = TFRecordScenes(tetrominoes[0], "tetrominoes")
    expected = dataset.batch(range(8))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=4, num_workers=1, collate_fn=collate, multiprocessing_context="fork"
    )
    torch.testing.assert_close(torch.cat([batch["image"] for batch in loader]), expected["image"])


def test_a_wrong_kind_is_named(tetrominoes, tmp_path, tfrecord):
    message = r"t.tfrecords does not hold objects_room/train: in record 0, feature 'image' has 3675 values"
    with pytest.raises(InputError, match=message):
        TFRecordScenes(tetrominoes[0], "objects_room", "train")
    path = write(
        tfrecord,
        tmp_path / "r.tfrecords",
        [make_scene("objects_room/train", np.random.default_rng(0))],
        "objects_room/train",
    )
    with pytest.raises(InputError, match=r"'mask' has 28672 values instead of \(10, 64, 64, 1\)"):
        TFRecordScenes(path, "objects_room", "six_objects")


def test_a_missing_feature_is_named(tmp_path, tfrecord):
    features, _ = make_scene("tetrominoes", np.random.default_rng(0))
    del features["shape"]
    path = tfrecord.write(tmp_path / "t.tfrecords", [tfrecord.encode_example(features)])
    with pytest.raises(InputError, match="in record 0, there is no feature 'shape', only color, image, mask"):
        TFRecordScenes(path, "tetrominoes")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image", np.zeros((35, 35, 3), np.float32), "feature 'image' is a list of float32 instead of bytes"),
        ("shape", np.full(4, 0.5, np.float32), "feature 'shape' has values that are no category"),
    ],
)
def test_features_of_another_type_are_named(tmp_path, tfrecord, name, value, message):
    features, _ = make_scene("tetrominoes", np.random.default_rng(0))
    path = tfrecord.write(tmp_path / "t.tfrecords", [tfrecord.encode_example(features | {name: value})])
    with pytest.raises(InputError, match=message):
        TFRecordScenes(path, "tetrominoes")


def test_records_of_something_else(tmp_path, tfrecord):
    path = tfrecord.write(tmp_path / "t.tfrecords", [b"a checkpoint, perhaps"])
    with pytest.raises(InputError, match="in record 0, the payload is not a tf.train.Example message"):
        TFRecordScenes(path, "tetrominoes")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "tetris"}, "no data set 'tetris'; kind and variant must be one of tetrominoes, multi_dsprites/"),
        ({"kind": "multi_dsprites"}, "no data set 'multi_dsprites'"),
        (
            {"kind": "tetrominoes", "split": "holdout"},
            "no split 'holdout' of this data set; choose one of train, test, val",
        ),
        ({"kind": "tetrominoes", "split": "test"}, "no scenes are left of .*t.tfrecords with split='test', limit=None"),
        (
            {"kind": "tetrominoes", "split": slice(-3, None)},
            r"cannot select slice\(-3, None, None\), limit=None; slices",
        ),
        ({"kind": "tetrominoes", "split": slice(0, 4, 2)}, "count from 0 without step"),
        ({"kind": "tetrominoes", "limit": 0}, "cannot select None, limit=0; .* limit from 1"),
        ({"kind": "objects_room", "variant": "empty_room", "split": "train"}, "no split 'train' .* choose one of test"),
    ],
)
def test_bad_options(tetrominoes, options, message):
    with pytest.raises(InputError, match=message):
        TFRecordScenes(tetrominoes[0], **options)


def test_bad_paths(tmp_path):
    with pytest.raises(InputError, match="there is no TFRecord file at .*gone.tfrecords"):
        TFRecordScenes(tmp_path / "gone.tfrecords", "tetrominoes")
    (tmp_path / "t.tfrecords").write_bytes(gzip.compress(b"an archive of something else"))
    with pytest.raises(InputError, match="is not a TFRecord file"):
        TFRecordScenes(tmp_path / "t.tfrecords", "tetrominoes")
