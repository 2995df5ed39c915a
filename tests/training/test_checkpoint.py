"""Checkpoint files: whole or absent, and clear about damage. Kills and full disks are in test_interruption.py."""

import os

import pytest
import torch

from toy_scenes import ToyModel
from unscene.errors import InputError
from unscene.training.checkpoint import (
    AtomicCheckpointIO,
    Checkpoints,
    export_weights,
    link_atomically,
)


def full_disk(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("links", [True, False])
def test_linking_replaces_the_target(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", full_disk)  # as on file systems without hard links
    for content in (b"first", b"second"):
        source = tmp_path / content.decode()
        source.write_bytes(content)
        link_atomically(source, tmp_path / "last")
        assert (tmp_path / "last").read_bytes() == content
    assert (tmp_path / "first").read_bytes() == b"first"


def test_checkpoints_round_trip(tmp_path):
    saved = {"state_dict": {"w": torch.arange(3.0)}, "loops": {}}
    AtomicCheckpointIO().save_checkpoint(saved, tmp_path / "sub" / "x.ckpt")
    loaded = AtomicCheckpointIO().load_checkpoint(tmp_path / "sub" / "x.ckpt")
    assert torch.equal(loaded["state_dict"]["w"], torch.arange(3.0))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", "truncated"])
def test_a_damaged_checkpoint_is_told_in_a_sentence(tmp_path, content):
    path = tmp_path / "x.ckpt"
    if content == "truncated":
        torch.save({"state_dict": {"w": torch.rand(1000)}, "loops": {}}, path)
        content = path.read_bytes()[:2000]
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x.ckpt is damaged or no checkpoint; continue from an earlier one"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_a_foreign_file_of_torch_is_no_checkpoint(tmp_path):
    torch.save({"w": torch.rand(3)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="no training checkpoint"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "x.pt")


def test_exported_weights_are_replaced(tmp_path):
    for model in (ToyModel(), ToyModel()):
        export_weights(model, tmp_path / "model")
        loaded = ToyModel.from_pretrained(tmp_path / "model")
        assert torch.equal(loaded.colour[0].weight, model.colour[0].weight)
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


def test_zero_intervals_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 1, got 0 and 3"):
        Checkpoints(tmp_path, tmp_path, every_n_steps=0)
