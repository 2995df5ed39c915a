import numpy as np
import pytest

from unscene.data.example import parse_example
from unscene.errors import InputError

RNG = np.random.default_rng(0)
FEATURES = {
    "byte per entry": RNG.integers(0, 256, 1000, dtype=np.uint8),
    "one byte": np.array([10], dtype=np.uint8),
    "all tags": np.full(9, 0x0A, dtype=np.uint8),
    "floats": RNG.normal(size=7).astype(np.float32),
    "one float": np.array([-0.0], dtype=np.float32),
    "integers": np.array([0, 1, 127, 128, 300, 2**62, -1, -(2**63)], dtype=np.int64),
}


def test_reads_what_protobuf_wrote(tfrecord):
    parsed = parse_example(tfrecord.encode_example(FEATURES))
    assert parsed.keys() == FEATURES.keys()
    for name, expected in FEATURES.items():
        assert parsed[name].dtype == expected.dtype
        np.testing.assert_array_equal(parsed[name], expected)


@pytest.mark.parametrize("raw", [b"\x0a\x01\x07" * 5, bytes(200), b"ab"])
def test_a_single_entry_is_raw_bytes(tfrecord, raw):
    parsed = parse_example(tfrecord.encode_example({"image": raw}))
    assert parsed["image"].tobytes() == raw


def test_bytes_are_viewed_not_copied(tfrecord):
    parsed = parse_example(tfrecord.encode_example({"image": FEATURES["byte per entry"]}))
    assert parsed["image"].strides == (3,)


@pytest.mark.parametrize("kind", [np.float32, np.int64])
def test_an_empty_list_is_an_empty_array(tfrecord, kind):
    payload = tfrecord.encode_example({"none": np.empty(0, kind)})
    assert parse_example(payload).get("none", np.empty(0)).size == 0


def test_several_long_entries_are_refused(tfrecord):
    with pytest.raises(InputError, match="feature 'frames' has 2 entries of several bytes; only one is supported"):
        parse_example(tfrecord.encode_example({"frames": [b"JPEG one", b"JPEG two"]}))


def test_lists_of_strings_by_name(tfrecord):
    features = {"frames": [b"JPEG one", b"", b"JPEG two"], "one": [b"x"], "bytes": FEATURES["byte per entry"]}
    parsed = parse_example(tfrecord.encode_example(features), strings=("frames", "one", "not there"))
    assert parsed["frames"] == features["frames"] and parsed["one"] == [b"x"]
    np.testing.assert_array_equal(parsed["bytes"], features["bytes"])


def test_every_cut_payload_is_refused(tfrecord):
    payload = tfrecord.encode_example({"a": np.ones(2, np.float32), "b": np.ones(2, np.uint8), "c": np.array([300])})
    for cut in range(1, len(payload)):
        with pytest.raises(InputError, match="not a tf.train.Example message"):
            parse_example(payload[:cut])


@pytest.mark.parametrize("payload", [b"plain text", b'{"json": true}', b"\x08\x01", b"\x0a\x04\x0a\x02\x0a\x00"])
def test_another_message_is_refused(payload):
    with pytest.raises(InputError, match="not a tf.train.Example message"):
        parse_example(payload)
