"""TFRecord files of tf.train.Example messages, read without TensorFlow.

A file is a sequence of records, each: length (uint64), masked CRC32C of the length, payload, masked
CRC32C of the payload; little-endian, the whole file GZIP, ZLIB or not compressed.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from unscene.data.crc32c import masked_crc32c
from unscene.errors import InputError

HEADER = struct.Struct("<QI")  # payload length and its checksum
ZLIB_OR_GZIP = zlib.MAX_WBITS | 32  # zlib's flag to recognise either header
CHUNK = 1 << 16
FILE_NAME = re.compile(r"\.tfrecords?(-\d+-of-\d+)?$")  # with the number of the shard, if it is one


def read_records(path: Path) -> Iterator[bytes]:
    """The payloads of a TFRecord file in order, every checksum verified.

    Raises InputError, with the record's number (from 0) and its offset in the decompressed stream,
    if the file is missing, empty, truncated, damaged, or no TFRecord file at all.
    """
    if not path.is_file():
        raise InputError(f"TFRecord file {path} does not exist")
    number, offset = 0, 0
    with path.open("rb") as file:
        stream = _decompressed(file)
        try:
            while (payload := _read_record(stream)) is not None:
                yield payload
                number, offset = number + 1, offset + HEADER.size + len(payload) + 4
        except EOFError:
            raise InputError(f"{path} is truncated in record {number} (offset {offset}); download it again") from None
        except (_ChecksumError, zlib.error) as error:
            if number == 0 and not isinstance(error, _PayloadError):
                raise InputError(f"{path} is not a TFRecord file, or damaged from its start") from None
            raise InputError(f"{path} is damaged: {error} in record {number} (offset {offset})") from None
    if number == 0:
        raise InputError(f"{path} is empty; it holds no records")


def record_offsets(path: Path, limit: int | None = None) -> list[int]:
    """Where the records (the first ``limit``) of a file that is not compressed begin, for `read_record`.

    Only the checksum of the first length is verified. Raises InputError if the file is missing, empty, truncated,
    compressed, or no TFRecord file at all.
    """
    if not path.is_file():
        raise InputError(f"TFRecord file {path} does not exist")
    offsets, offset, size = [], 0, path.stat().st_size
    with path.open("rb") as file:
        _check_plain(path, file.read(HEADER.size))
        while offset < size and len(offsets) != limit:
            file.seek(offset)
            header = file.read(HEADER.size)
            end = offset + HEADER.size + int.from_bytes(header[:8], "little") + 4
            if len(header) < HEADER.size or end > size:
                where = f"record {len(offsets)} (offset {offset})"
                raise InputError(f"{path} is truncated or damaged in {where}; download it again")
            offsets.append(offset)
            offset = end
    return offsets


def read_record(path: Path, offset: int) -> bytes:
    """The payload of the record that begins at ``offset`` of a file that is not compressed, checksums verified.

    Raises InputError if the file is missing or changed, or the record damaged.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            payload = _read_record(file)
    except (OSError, EOFError, _ChecksumError) as error:
        problem = str(error) or "it is cut off"
        raise InputError(f"cannot read the record of {path} at offset {offset}: {problem}; get it again") from None
    if payload is None:
        raise InputError(f"{path} has become shorter since the start; there is no record at offset {offset} any more")
    return payload


def _check_plain(path: Path, header: bytes) -> None:
    if not header:
        raise InputError(f"{path} is empty; it holds no records")
    if _is_compressed(header) and not _is_plain(header):
        raise InputError(f"{path} is compressed, so its records cannot be found without reading all; unpack it first")
    if not _is_plain(header):
        raise InputError(f"{path} is not a TFRecord file, or damaged from its start")


class _ChecksumError(Exception):
    pass


class _PayloadError(_ChecksumError):
    """The header was right, so this is a TFRecord file."""


def _read_record(stream: io.BufferedReader) -> bytes | None:
    """The next payload; None at the end of the stream."""
    header = stream.read(HEADER.size)
    if not header:
        return None
    length, length_crc = HEADER.unpack(_complete(header, HEADER.size))
    if masked_crc32c(header[:8]) != length_crc:
        raise _ChecksumError("the length checksum does not match")
    payload = _complete(stream.read(length), length)
    (payload_crc,) = struct.unpack("<I", _complete(stream.read(4), 4))
    if masked_crc32c(payload) != payload_crc:
        raise _PayloadError("the payload checksum does not match")
    return payload


def _complete(data: bytes, length: int) -> bytes:
    if len(data) < length:
        raise EOFError
    return data


def _decompressed(file: io.BufferedReader) -> io.BufferedReader:
    """A stream of the decompressed bytes; a valid record header tells an uncompressed file."""
    header = file.read(HEADER.size)
    file.seek(0)
    if _is_plain(header) or not _is_compressed(header):
        return file
    return io.BufferedReader(_Inflated(file), CHUNK)


def _is_plain(header: bytes) -> bool:
    return len(header) == HEADER.size and masked_crc32c(header[:8]) == HEADER.unpack(header)[1]


def _is_compressed(header: bytes) -> bool:
    return header[:2] == b"\x1f\x8b" or (header[:1] == b"\x78" and int.from_bytes(header[:2]) % 31 == 0)


class _Inflated(io.RawIOBase):
    """The bytes of a ZLIB stream or of the members of a GZIP file; EOFError if the last is incomplete."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file, self._inflater = file, zlib.decompressobj(ZLIB_OR_GZIP)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = b""
        while not data:
            waiting = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            compressed = waiting or self._file.read(CHUNK)
            if self._inflater.eof:
                if not compressed:
                    return 0
                self._inflater = zlib.decompressobj(ZLIB_OR_GZIP)
            data = self._inflater.decompress(compressed, len(buffer))
            if not (data or compressed or self._inflater.eof):
                raise EOFError
        buffer[: len(data)] = data
        return len(data)
