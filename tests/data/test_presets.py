"""Generators by names that stand for a class and some of its options, imported when they are asked for."""

import ast
import inspect
import subprocess
import sys

import pytest
import torch

from unscene.data import BouncingBalls, open_dataset
from unscene.data.generator import GeneratedScenes
from unscene.data.open import GENERATORS, Preset, find_generator, open_generator
from unscene.errors import InputError


@pytest.fixture(autouse=True)
def preset(monkeypatch):
    monkeypatch.setitem(GENERATORS, "curtain", Preset("bouncing_balls:BouncingBalls", {"variant": "curtain"}))


def test_a_name_stands_for_options():
    dataset = open_dataset("curtain", frames=2)
    assert type(dataset) is BouncingBalls and dataset.variant == "curtain" and len(dataset) == 320
    expected = BouncingBalls(320, split="test", variant="curtain", frames=2)
    assert torch.equal(dataset[7]["image"], expected[7]["image"])


def test_options_that_are_given_count_more():
    assert open_dataset("curtain", variant="6-8", frames=1).variant == "6-8"
    assert open_dataset("curtain/4", frames=1).variant == "4"


def test_a_file_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "curtain").mkdir()
    with pytest.raises(InputError, match="folder curtain has no images"):
        open_dataset("curtain", None)
    assert type(open_generator("curtain", "val", frames=1)) is BouncingBalls


@pytest.mark.parametrize("name", GENERATORS)
def test_every_name_is_found(name):
    kind, options = find_generator(name)
    assert issubclass(kind, GeneratedScenes) and options.keys() <= inspect.signature(kind).parameters.keys()


def test_renderers_are_imported_only_when_needed():
    code = "import sys, unscene.data.open; print([n for n in sys.modules if 'rendering' in n or n.startswith('m')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name.partition(".")[0] for name in ast.literal_eval(run.stdout)}
    assert not names & {"unscene", "mitsuba", "mujoco"}
