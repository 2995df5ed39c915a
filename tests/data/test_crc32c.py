import numpy as np
import pytest

from unscene.data.crc32c import DEGREE, crc32c, masked_crc32c


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),  # the check value of the CRC catalogue
        (bytes(32), 0x8A9136AA),  # RFC 3720, appendix B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_known_values(data, expected):
    assert crc32c(data) == expected


@pytest.mark.parametrize(
    "length", [1, 3, 4, 5, DEGREE - 5, DEGREE - 4, DEGREE - 3, 2 * DEGREE, 4 * DEGREE + 1, 123_457]
)
def test_equals_the_walk_over_bytes(length, tfrecord):
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == tfrecord.crc32c(data)


def test_masked_is_what_a_tfrecord_holds(tfrecord):
    assert masked_crc32c(b"payload").to_bytes(4, "little") == tfrecord.frame(b"payload")[-4:]
