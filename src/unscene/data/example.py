"""tf.train.Example messages decoded to arrays, with the little of the protobuf wire format that takes.

Example { Features { map of name to Feature { BytesList | FloatList | Int64List } } }: on the wire,
nested fields of (tag, length, content).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from unscene.errors import InputError

BYTES, FLOAT, INT64 = 1, 2, 3  # field numbers of Feature
LENGTH_DELIMITED = 2  # wire type


def parse_example(payload: bytes, strings: Collection[str] = ()) -> dict[str, np.ndarray | list[bytes]]:
    """The features of a serialised tf.train.Example as flat arrays {name: (n,)}.

    Bytes lists become uint8: either one entry per byte (as the Multi-Object Datasets are stored)
    or a single entry of raw bytes; float lists float32; int64 lists int64. Arrays are read-only views of
    the payload where possible. Bytes lists named in ``strings`` become lists of their entries, such as files.
    Raises InputError if the payload is anything else.
    """
    try:
        return dict(_features(memoryview(payload), strings))
    except InputError:
        raise
    except (IndexError, ValueError):
        raise InputError("the payload is not a tf.train.Example message") from None


def _features(example: memoryview, strings: Collection[str]) -> Iterator[tuple[str, np.ndarray | list[bytes]]]:
    for _, features in _fields(example):
        for _, entry in _fields(features):
            key, feature = (content for _, content in _fields(entry))
            name = bytes(key).decode()
            for kind, values in _fields(feature):
                if name in strings and kind == BYTES:
                    yield name, [bytes(content) for _, content in _fields(values)]
                else:
                    yield name, _decode_list(name, kind, values)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, content) of a message whose fields are all length-delimited."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        length, position = _varint(message, position)
        if tag & 7 != LENGTH_DELIMITED or position + length > len(message):
            raise ValueError
        yield tag >> 3, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A base-128 number, low digits first, and the position after it."""
    value = shift = 0
    while message[position] & 0x80:
        value |= (message[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
    return value | message[position] << shift, position + 1


def _decode_list(name: str, kind: int, values: memoryview) -> np.ndarray:
    if kind == BYTES:
        return _decode_bytes(name, values)
    content = next(_fields(values), (1, memoryview(b"")))[1]  # numbers are packed into one field
    if kind == FLOAT:
        return np.frombuffer(content, dtype="<f4")
    if kind == INT64:
        return _decode_varints(np.frombuffer(content, dtype=np.uint8))
    raise ValueError


def _decode_bytes(name: str, values: memoryview) -> np.ndarray:
    """One-byte entries are each (tag 0x0a, length 1, byte): every third byte is the data, no walk needed."""
    raw = np.frombuffer(values, dtype=np.uint8)
    if raw.size % 3 == 0 and (raw[0::3] == 0x0A).all() and (raw[1::3] == 1).all():
        return raw[2::3]
    entries = [content for _, content in _fields(values)]
    if len(entries) != 1:
        raise InputError(f"feature {name!r} has {len(entries)} entries of several bytes; only one is supported")
    return np.frombuffer(entries[0], dtype=np.uint8)


def _decode_varints(raw: np.ndarray) -> np.ndarray:
    """int64 of concatenated base-128 numbers: each byte is shifted by its place within its number."""
    ends = np.flatnonzero(raw < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    place = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    digits = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(digits, starts).astype(np.int64) if len(ends) else np.empty(0, np.int64)
