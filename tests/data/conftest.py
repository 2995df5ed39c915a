"""Files like the official TFRecord files, written by independent means: Google's protobuf and a bitwise CRC."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

CRC_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    CRC_TABLE.append(_byte)


def bytewise_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def frame(payload: bytes, crc32c=bytewise_crc32c) -> bytes:
    """A TFRecord record."""

    def masked(data: bytes) -> bytes:
        crc = crc32c(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def _example_class():
    """tf.train.Example, declared to Google's protobuf."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="unscene_test", syntax="proto3")

    def message(name, **fields):
        proto = file.message_type.add(name=name)
        for number, (member, (kind, repeated)) in enumerate(fields.items(), start=1):
            entry = proto.field.add(name=member, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                entry.type, entry.type_name = field.TYPE_MESSAGE, f".unscene_test.{kind}"
            else:
                entry.type = kind
        return proto

    message("BytesList", value=(field.TYPE_BYTES, True))
    message("FloatList", value=(field.TYPE_FLOAT, True))
    message("Int64List", value=(field.TYPE_INT64, True))
    message(
        "Feature", bytes_list=("BytesList", False), float_list=("FloatList", False), int64_list=("Int64List", False)
    )
    message("Entry", key=(field.TYPE_STRING, False), value=("Feature", False))  # a map on the wire
    message("Features", feature=("Entry", True))
    message("Example", features=("Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("unscene_test.Example"))


EXAMPLE = _example_class()


def encode_example(features: dict) -> bytes:
    """uint8 arrays become one entry per byte, bytes one entry, float32 and int64 arrays number lists."""
    example = EXAMPLE()
    for name, value in features.items():
        feature = example.features.feature.add(key=name).value
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, list):
            feature.bytes_list.value.extend(value)
        elif value.dtype == np.uint8:
            feature.bytes_list.value.extend(bytes([byte]) for byte in value.tobytes())
        elif value.dtype == np.float32:
            feature.float_list.value.extend(value.ravel().tolist())
        else:
            feature.int64_list.value.extend(value.ravel().tolist())
    return example.SerializeToString()


@pytest.fixture
def tfrecord():
    """The writer: `tfrecord.write(path, payloads, compression)`, `.encode_example`, `.frame`, `.crc32c`."""

    class Writer:
        crc32c = staticmethod(bytewise_crc32c)
        frame = staticmethod(frame)
        encode_example = staticmethod(encode_example)

        @staticmethod
        def write(path: Path, payloads: list[bytes], compression: str = "gzip", crc32c=bytewise_crc32c) -> Path:
            compress = {"gzip": lambda data: gzip.compress(data, 1), "zlib": zlib.compress, "none": bytes}[compression]
            path.write_bytes(compress(b"".join(frame(payload, crc32c) for payload in payloads)))
            return path

    return Writer
