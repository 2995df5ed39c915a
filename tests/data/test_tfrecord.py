import gzip
import zlib
from itertools import chain

import pytest

from unscene.data.tfrecord import read_record, read_records, record_offsets
from unscene.errors import InputError

PAYLOADS = [b"first", b"", bytes(range(256)) * 300]
COMPRESSIONS = ["gzip", "zlib", "none"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_reads_back_every_payload(tmp_path, tfrecord, compression):
    path = tfrecord.write(tmp_path / "a.tfrecords", PAYLOADS, compression)
    assert list(read_records(path)) == PAYLOADS


def test_an_uncompressed_file_may_start_like_a_zlib_stream(tmp_path, tfrecord):
    payload = bytes(0x9C78)  # its length begins with 78 9c, a ZLIB header
    path = tfrecord.write(tmp_path / "a.tfrecords", [payload], "none")
    assert path.read_bytes()[:2] == b"\x78\x9c"
    assert list(read_records(path)) == [payload]


def test_reads_all_members_of_a_gzip_file(tmp_path, tfrecord):
    path = tmp_path / "a.tfrecords"
    path.write_bytes(b"".join(gzip.compress(tfrecord.frame(payload)) for payload in PAYLOADS))
    assert list(read_records(path)) == PAYLOADS


RECORDS = [len(payload) + 16 for payload in PAYLOADS]
INSIDE = [1, 7, 8, 11, 12, 14, RECORDS[0] - 4, RECORDS[0] - 1]  # length, its checksum, payload, checksum


@pytest.mark.parametrize("cut", [*INSIDE, *(RECORDS[0] + RECORDS[1] + i for i in (1, 12, 500))])
@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, bytes])
def test_a_stream_that_ends_within_a_record_is_truncated(tmp_path, tfrecord, cut, compress):
    path = tmp_path / "a.tfrecords"
    path.write_bytes(compress(b"".join(map(tfrecord.frame, PAYLOADS))[:cut]))
    number, offset = (0, 0) if cut < RECORDS[0] else (2, RECORDS[0] + RECORDS[1])
    with pytest.raises(InputError, match=rf"a.tfrecords is truncated in record {number} \(offset {offset}\)"):
        list(read_records(path))


@pytest.mark.parametrize("compression", ["gzip", "zlib"])
@pytest.mark.parametrize("lost", [1, 4, 9, 20, "all but the magic"])
def test_a_cut_compressed_file_is_truncated(tmp_path, tfrecord, compression, lost):
    path = tfrecord.write(tmp_path / "a.tfrecords", PAYLOADS, compression)
    data = path.read_bytes()
    path.write_bytes(data[:2] if lost == "all but the magic" else data[:-lost])
    with pytest.raises(InputError, match="a.tfrecords is truncated in record"):
        list(read_records(path))


FLIPS = [(RECORDS[0] + i, "length") for i in (0, 7, 8, 11)] + [
    (RECORDS[0] + 12, "payload"),
    (RECORDS[0] + 20, "payload"),
]


@pytest.mark.parametrize(("position", "part"), FLIPS)
@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, bytes])
def test_a_flipped_bit_is_found(tmp_path, tfrecord, position, part, compress):
    stream = bytearray(b"".join(map(tfrecord.frame, [b"first", b"second record"])))
    stream[position] ^= 0x10
    path = tmp_path / "a.tfrecords"
    path.write_bytes(compress(bytes(stream)))
    message = rf"a.tfrecords is damaged: the {part} checksum does not match in record 1 \(offset {RECORDS[0]}\)"
    with pytest.raises(InputError, match=message):
        list(read_records(path))


def test_records_before_the_damage_are_delivered(tmp_path, tfrecord):
    path = tmp_path / "a.tfrecords"
    path.write_bytes(tfrecord.frame(b"good") + tfrecord.frame(b"bad")[:-1] + b"?")
    records = read_records(path)
    assert next(records) == b"good"
    with pytest.raises(InputError, match="record 1"):
        next(records)


def test_a_damaged_payload_in_the_first_record_is_no_foreign_file(tmp_path, tfrecord):
    path = tmp_path / "a.tfrecords"
    path.write_bytes(tfrecord.frame(b"bad")[:-1] + b"?")
    with pytest.raises(InputError, match="payload checksum does not match in record 0"):
        list(read_records(path))


def test_a_damaged_compressed_stream_names_the_record(tmp_path, tfrecord):
    path = tfrecord.write(tmp_path / "a.tfrecords", PAYLOADS, "gzip")
    data = bytearray(path.read_bytes())
    data[-5] ^= 0xFF  # GZIP's own checksum
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a.tfrecords is damaged: Error -3 .*incorrect data check in record 2"):
        list(read_records(path))


FOREIGN = [
    b"<html>404 Not Found</html>",
    gzip.compress(b"some other archive", mtime=0),
    b"\x78\x9cnot deflated",
    bytes(100),
]


@pytest.mark.parametrize("content", FOREIGN)
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "a.tfrecords"
    path.write_bytes(content)
    with pytest.raises(InputError, match="a.tfrecords is not a TFRecord file"):
        list(read_records(path))


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(tmp_path, content):
    path = tmp_path / "a.tfrecords"
    path.write_bytes(content)
    with pytest.raises(InputError, match="a.tfrecords is empty"):
        list(read_records(path))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="gone.tfrecords does not exist"):
        list(chain(read_records(tmp_path / "gone.tfrecords")))


@pytest.mark.parametrize("limit", [None, 1, 2, 9])
def test_records_are_found_and_read_one_by_one(tmp_path, tfrecord, limit):
    path = tfrecord.write(tmp_path / "a.tfrecords", PAYLOADS, "none")
    offsets = record_offsets(path, limit)
    assert offsets == [0, RECORDS[0], RECORDS[0] + RECORDS[1]][:limit]
    assert [read_record(path, offset) for offset in offsets] == PAYLOADS[:limit]


@pytest.mark.parametrize("cut", [1, 4, 20, RECORDS[2] - 5])
def test_files_that_end_within_a_record_are_not_indexed(tmp_path, tfrecord, cut):
    path = tfrecord.write(tmp_path / "a.tfrecords", PAYLOADS, "none")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(
        InputError, match=rf"a.tfrecords is truncated or damaged in record 2 \(offset {sum(RECORDS[:2])}"
    ):
        record_offsets(path)


@pytest.mark.parametrize("compression", ["gzip", "zlib"])
def test_compressed_files_are_not_indexed(tmp_path, tfrecord, compression):
    path = tfrecord.write(tmp_path / "a.tfrecords", PAYLOADS, compression)
    with pytest.raises(
        InputError, match="a.tfrecords is compressed, so its records cannot be found without reading all"
    ):
        record_offsets(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty; it holds no records"), (b"<html>404", "is not a TFRecord file, or damaged")],
)
def test_other_files_are_not_indexed(tmp_path, content, message):
    (tmp_path / "a.tfrecords").write_bytes(content)
    with pytest.raises(InputError, match=f"a.tfrecords {message}"):
        record_offsets(tmp_path / "a.tfrecords")
    with pytest.raises(InputError, match="TFRecord file .*gone.tfrecords does not exist"):
        record_offsets(tmp_path / "gone.tfrecords")


def test_single_records_are_checked(tmp_path, tfrecord):
    path = tfrecord.write(tmp_path / "a.tfrecords", PAYLOADS, "none")
    whole = path.read_bytes()
    path.write_bytes(whole[:14] + b"?" + whole[15:])
    with pytest.raises(
        InputError, match="cannot read the record of .* at offset 0: the payload checksum does not match"
    ):
        read_record(path, 0)
    path.write_bytes(whole[:14])
    with pytest.raises(InputError, match="cannot read the record of .* at offset 0: it is cut off"):
        read_record(path, 0)
    with pytest.raises(InputError, match="a.tfrecords has become shorter .*; there is no record at offset 99"):
        read_record(path, 99)
    path.unlink()
    with pytest.raises(InputError, match="cannot read the record of .* at offset 0: .*No such file"):
        read_record(path, 0)
