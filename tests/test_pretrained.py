"""unscene.load: every way to name weights, and every way in which they can be wrong."""

import json

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

import unscene
from toy_scenes import ToyModel
from unscene import pretrained
from unscene.errors import InputError


@pytest.fixture
def folder(tmp_path):
    ToyModel(num_slots=5).save_pretrained(tmp_path / "toy")
    return tmp_path / "toy"


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config = {name: value for name, value in (config | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))


def test_a_folder_gives_back_the_model(folder):
    model = unscene.load(folder)
    assert type(model) is ToyModel
    assert not model.training
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


def test_a_run_folder_stands_for_its_weights(folder):
    folder.rename(folder.parent / "model")
    assert len(unscene.load(str(folder.parent)).logit) == 5


def test_shipped_weights_are_found_by_name(folder, monkeypatch):
    monkeypatch.setattr(pretrained, "SHIPPED", folder.parent)
    assert pretrained.shipped() == ["toy"]
    assert len(unscene.load("toy").logit) == 5


@pytest.mark.parametrize("name", pretrained.shipped())
def test_every_shipped_model_loads(name):
    assert isinstance(unscene.load(name), unscene.SceneModel)


def test_a_hub_id_is_downloaded(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda name, file, revision: str(folder / file))
    assert len(unscene.load("someone/toy", revision="v1").logit) == 5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/folder", r"no weights no/such/folder: no such folder, .* nor is it the id of a hub repository"),
        ("iodine/own", r"no weights iodine/own: .*; it is a recipe, train it with `unscene train iodine/own`"),
        ("someone/absent-model", r"no weights someone/absent-model: .* nor can the hub give them \("),
    ],
)
def test_what_does_not_exist(source, message, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=message):
        unscene.load(source)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(InputError, match=r"holds no weights \(config.json and model.safetensors\)"):
        unscene.load(tmp_path)


def test_a_file_instead_of_its_folder(folder):
    with pytest.raises(InputError, match=r"model.safetensors is a file; name the folder that holds config.json"):
        unscene.load(folder / "model.safetensors")


def test_an_unknown_method(folder):
    edit_config(folder, method="PicassoNet", module=None)
    with pytest.raises(InputError, match=r"config.json: there is no method 'PicassoNet'; this version knows .*IODINE"):
        unscene.load(folder)


METHOD = """
import toy_scenes

class OwnModel(toy_scenes.ToyModel):
    pass
"""


def test_a_method_of_ones_own_is_imported(folder, tmp_path, monkeypatch):
    edit_config(folder, method="OwnModel", module="own_method")
    with pytest.raises(InputError, match=r"OwnModel needs the module own_method: No module .*; is it on PYTHONPATH\?"):
        unscene.load(folder)
    (tmp_path / "own_method.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    assert type(unscene.load(folder)).__name__ == "OwnModel"
    edit_config(folder, method="PicassoNet")
    with pytest.raises(InputError, match=r"no method 'PicassoNet'; own_method has no such SceneModel"):
        unscene.load(folder)


def test_weights_of_another_method_than_expected(folder):
    with pytest.raises(InputError, match=r"holds weights of ToyModel, not of IODINE; use unscene.load or ToyModel"):
        pretrained.load(folder, unscene.IODINE)


def test_a_broken_config(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is no valid JSON"):
        unscene.load(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match="config.json holds no hyper-parameters"):
        unscene.load(folder)


def test_hyper_parameters_of_another_version(folder):
    edit_config(folder, colour="red")
    with pytest.raises(InputError, match=r"hyper-parameters that ToyModel does not know: colour; .* another version"):
        unscene.load(folder)


@pytest.mark.parametrize("num_slots", ["many", -1])
def test_hyper_parameters_edited_to_nonsense(folder, num_slots):
    edit_config(folder, num_slots=num_slots)
    with pytest.raises(InputError, match=r"config.json does not describe a ToyModel: .*"):
        unscene.load(folder)


@pytest.mark.parametrize("content", [b"", b"garbage" * 10, "truncated"])
def test_a_damaged_weights_file(folder, content):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10] if content == "truncated" else content)
    with pytest.raises(InputError, match=r"model.safetensors is damaged \(.*\); get the weights again"):
        unscene.load(folder)


def test_a_missing_weights_file(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="model.safetensors does not exist"):
        unscene.load(folder)


def test_weights_that_do_not_fit(folder):
    edit_config(folder, num_slots=4)
    with pytest.raises(
        InputError, match=r"does not fit config.json: .* is \(15,\) in the file and \(12,\) in ToyModel"
    ):
        unscene.load(folder)
    edit_config(folder, num_slots=5)
    tensors = load_file(folder / "model.safetensors")
    del tensors["logit"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"logit is missing in the file and \(5,\) in ToyModel"):
        unscene.load(folder)


def test_a_video_model_starts_from_the_weights_of_the_image_model_that_it_extends(tmp_path):
    sizes = {"num_slots": 2, "latent_size": 3, "decoder_channels": [4], "refinement_channels": [4]}
    static, video = unscene.IODINE(**sizes), unscene.SequentialIODINE(**sizes)
    static.save_pretrained(tmp_path / "static")
    pretrained.initialise(video, tmp_path / "static")
    assert torch.equal(video.initial_posterior, static.initial_posterior)
    video.save_pretrained(tmp_path / "video")
    with pytest.raises(InputError, match="video holds weights of SequentialIODINE; they cannot initialise a IODINE"):
        pretrained.initialise(static, tmp_path / "video")


def test_initialising_takes_weights_of_the_same_method_and_shapes(folder):
    model = ToyModel(num_slots=5)
    pretrained.initialise(model, folder)
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match=r"toy.model.safetensors does not fit the model to initialise: .*\(15,\) in"):
        pretrained.initialise(ToyModel(num_slots=4), folder)
    with pytest.raises(InputError, match=r"toy holds weights of ToyModel; they cannot initialise a IODINE"):
        pretrained.initialise(unscene.IODINE(), folder)
