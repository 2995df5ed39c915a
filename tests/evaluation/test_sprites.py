"""Scores of sprites with a model that tells them by their brightness, so that every score is known."""

import json

import pytest
import torch
from torch import nn

from toy_scenes import ToyModel, ToyVideos
from unscene import metrics
from unscene.cli import main
from unscene.data import MultiDSprites, Signs
from unscene.data.dataset import SceneDataset
from unscene.errors import InputError
from unscene.evaluation.sprites import (
    class_scores,
    class_table,
    cluster_scores,
    cosegmentation_scores,
    semantic_scores,
)
from unscene.models.base import Losses, SceneModel
from unscene.scenes import Decomposition

SPRITE_OF = torch.tensor([[0, 2], [1, 3], [4, 5]])  # of shapes 10, 20, 30 in materials 7, 8
LEVELS = 10  # of brightness; 0 is the background, 1 + k sprite k


class Tiles(SceneDataset):
    """Images of four columns, each background or one of three objects, as bright as the sprite of its class."""

    def __init__(self, num_scenes=7, num_objects=3, materials=2):
        g = torch.Generator().manual_seed(num_objects)
        self.shape, self.material = torch.zeros(2, num_scenes, num_objects + 1, dtype=torch.int64)
        self.shape[:, 1:] = torch.randint(0, 3, (num_scenes, num_objects), generator=g)
        self.material[:, 1:] = torch.randint(0, materials, (num_scenes, num_objects), generator=g)
        self.column = torch.arange(4).clamp(max=num_objects)  # of one object: 0, 1, 1, 1

    def __len__(self):
        return len(self.shape)

    def batch(self, indices):
        shape, material = self.shape[list(indices)], self.material[list(indices)]
        mask = self.column.expand(len(indices), 5, 4)
        level = torch.where(self.column > 0, 1 + SPRITE_OF[shape, material][:, self.column], 0)
        image = (level / LEVELS)[:, None, None, :].expand(-1, 3, 5, -1).contiguous()
        factors = {"shape": 10.0 * (1 + shape), "material": 7 + material, "x": torch.rand(*shape.shape, 2)}
        for factor in factors.values():
            factor[:, 0] = 0
        return {"image": image, "mask": mask.contiguous(), "factors": factors}


class Clusters(SceneModel):
    """Sprite k is what has brightness (k + 1) / 10; an image is the sprite that is brightest in it.

    Args:
        num_sprites: K.
        num_layers: L.
    """

    def __init__(self, num_sprites: int = 6, num_layers: int = 1):
        super().__init__()
        self.sprites = nn.Parameter(torch.zeros(num_sprites, 3, 2, 2))
        self.num_layers = num_layers

    def cluster(self, image):
        assert not self.training and not torch.is_grad_enabled()
        return (image[:, 0].flatten(1).amax(1) * LEVELS).round().long() - 1

    def decompose(self, image, *, num_slots=None):
        masks = torch.ones(len(image), 1, *image.shape[-2:])
        return Decomposition(masks, image[:, None], masks.mean((2, 3))[..., None])

    def loss(self, batch, step):
        return Losses(self.sprites.sum(), {})


class Brightness(Clusters):
    """Tells the sprite of every pixel; one that it does not have is background."""

    def semantic(self, image):
        assert not self.training and not torch.is_grad_enabled()
        level = (image[:, 0] * LEVELS).round().long()
        return torch.where(level <= len(self.sprites), level, 0)


def test_sprites_that_stand_for_pairs_of_factors():
    scores = semantic_scores(Brightness(), Tiles(), ["shape", "material"], batch_size=3)
    assert scores == {
        **dict.fromkeys(("accuracy", "class_accuracy", "miou", "accuracy_fg", "class_accuracy_fg", "miou_fg"), 1.0),
        "num_classes": 7,
        "num_clusters": 7,
    }


@pytest.mark.parametrize("batch_size", [2, 32])
@pytest.mark.parametrize("factors", [["shape"], ["material"], ["material", "shape"]])
@pytest.mark.parametrize("num_sprites", [2, 4, 6])
def test_scores_are_those_of_the_confusion_of_sorted_classes(num_sprites, factors, batch_size):
    model, data = Brightness(num_sprites), Tiles(9)
    scene = data.batch(range(9))
    rows = [
        tuple(row)
        for row in torch.stack([scene["factors"][name].double() for name in factors], -1)[:, 1:].flatten(0, 1).tolist()
    ]
    classes = sorted(set(rows))
    of_object = torch.tensor([classes.index(row) + 1 for row in rows]).view(9, 3)
    true = torch.cat([torch.zeros(9, 1, dtype=torch.int64), of_object], 1)[:, None, :].expand(-1, 5, -1)
    with torch.no_grad():
        confusion = metrics.confusion_matrix(
            true, model.eval().semantic(scene["image"]), len(classes) + 1, num_sprites + 1
        )
    whole, foreground = (metrics.segmentation_scores(confusion, background=on) for on in (True, False))
    found = semantic_scores(model, data, factors, batch_size=batch_size)
    assert found == {
        **whole._asdict(),
        **{f"{name}_fg": value for name, value in foreground._asdict().items()},
        "num_classes": len(classes) + 1,
        "num_clusters": num_sprites + 1,
    }
    if num_sprites < 6:
        assert whole.accuracy < 1


def test_foreground_against_background():
    data = Tiles(8)
    missed = (data.batch(range(8))["image"][:, 0] * LEVELS).round() > 3
    right = 1 - missed.double().mean().item()
    assert 0.5 < right < 1
    assert cosegmentation_scores(Brightness(), data) == {"accuracy": 1, "class_accuracy": 1, "miou": 1}
    scores = cosegmentation_scores(Brightness(3), data, batch_size=3)
    assert scores["accuracy"] == pytest.approx(right)
    without_factors = [{name: scene[name] for name in ("image", "mask")} for scene in data]
    assert class_scores(Brightness(3), without_factors, ["foreground"]) == {"cosegmentation": scores}


def test_clusters_of_images():
    data = Tiles(40, num_objects=1)
    scores = cluster_scores(Brightness(), data, ["shape", "material"], batch_size=7)
    assert scores == {"accuracy": 1, "nmi": pytest.approx(1), "num_classes": 6, "num_clusters": 6}
    of_shape = cluster_scores(Clusters(), data, ["shape"], batch_size=7)  # six clusters, three classes: majority
    assert of_shape["accuracy"] == 1 and of_shape["num_classes"] == 3
    scene = data.batch(range(40))
    sprite = SPRITE_OF[data.shape[:, 1], data.material[:, 1]]
    assert of_shape["nmi"] == metrics.nmi(scene["factors"]["shape"][:, 1].long(), sprite)


def test_an_empty_sprite_is_a_cluster_if_it_wins():
    class Empty(Clusters):
        def cluster(self, image):
            found = super().cluster(image)
            return torch.where(found > 2, 3, found)

    data = Tiles(40, num_objects=1, materials=1)  # sprites 0, 1 and 4
    scores = cluster_scores(Empty(3), data, ["shape"])
    assert scores["num_clusters"] == 4 and scores["num_classes"] == 3 and scores["accuracy"] == 1


def test_the_class_of_images_without_masks():
    sprite = torch.tensor([0, 1, 1, 0, 1])
    images = ((1 + sprite) / LEVELS)[:, None, None, None].expand(-1, 3, 4, 4)
    classes = torch.tensor([1, 2, 2, 1, 1])
    scenes = [{"image": i, "factors": {"class": torch.tensor([0, c])}} for i, c in zip(images, classes, strict=True)]
    assert cluster_scores(Brightness(2), scenes)["accuracy"] == pytest.approx(0.8)
    assert class_scores(Brightness(2), scenes, ["class"]).keys() == {"clustering"}  # without masks nothing else
    several = [scene | {"visibility": torch.tensor([True, True])} for scene in scenes]
    assert cluster_scores(Brightness(2), several) == cluster_scores(Brightness(2), scenes)


def test_everything_in_one_pass():
    calls = []

    class Counting(Tiles):
        def batch(self, indices):
            calls.append(list(indices))
            return super().batch(indices)

    data, seen = Counting(7, num_objects=1), []
    model = Brightness().train()
    options = {"limit": 5, "batch_size": 2, "progress": lambda *state: seen.append(state)}
    scores = class_scores(model, data, ["shape"], **options)
    assert calls == [[0], [0, 1], [2, 3], [4]] and seen == [(2, 5), (4, 5), (5, 5)]  # the first to see what there is
    assert model.training
    del options["progress"]
    assert scores == {
        "semantic": semantic_scores(model, data, ["shape"], **options),
        "clustering": cluster_scores(model, data, ["shape"], **options),
    }
    assert class_scores(Brightness(num_layers=2), data, ["shape"]).keys() == {"semantic"}
    assert class_scores(Clusters(), data, ["shape"]).keys() == {"clustering"}


@pytest.mark.parametrize(("data", "name"), [(MultiDSprites(4), "shape"), (Signs(4, num_classes=3), "class")])
def test_generators_have_classes(data, name):
    scores = semantic_scores(Brightness(), data, [name])
    assert 0 <= scores["accuracy"] <= 1 and 2 <= scores["num_classes"] <= 4


def test_table():
    table = class_table({"semantic": {"accuracy": 0.5, "miou_fg": None}, "clustering": {"num_classes": 3}})
    assert table.splitlines() == [
        "semantic accuracy       0.5",
        "semantic miou_fg          -",
        "clustering num_classes    3",
    ]


def test_evaluate_with_classes(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("unscene.pretrained.load", lambda *_: Brightness())
    monkeypatch.setattr("unscene.data.open_dataset", lambda *_: Tiles(5, num_objects=1), raising=False)
    out = tmp_path / "scores.json"
    options = ["--classes", "shape", "material", "--limit", "4", "--json", str(out), "--device", "cpu"]
    assert main(["evaluate", "w", "d", *options]) == 0
    printed = capsys.readouterr().out
    assert "\nfg_ari " in printed and "\nsemantic miou " in printed and "\nclustering nmi " in printed
    meta = json.loads(out.read_text())["meta"]
    assert meta["semantic"]["accuracy"] == meta["clustering"]["accuracy"] == 1
    monkeypatch.setattr("unscene.pretrained.load", lambda *_: ToyModel())
    assert main(["evaluate", "w", "d", *options]) == 2
    assert "error: ToyModel does not give label maps of its sprites, so that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: semantic_scores(ToyModel(), Tiles(), ["shape"]), "ToyModel does not give label maps .* leave classes"),
        (lambda: cluster_scores(ToyModel(), Tiles()), "ToyModel does not give a sprite for each image"),
        (
            lambda: cluster_scores(Brightness(), Tiles()),
            "no factor 'class' to take classes from; it has material, shape",
        ),
        (
            lambda: cluster_scores(Brightness(), Tiles(), ["shape"]),
            "an image shows 3 objects, but clustering is scored",
        ),
        (lambda: semantic_scores(Brightness(), Tiles(), ["x"]), "factor 'x' has several numbers per object, but a cl"),
        (lambda: semantic_scores(Brightness(), [{"image": torch.ones(3, 4, 4)}], ["x"]), "semantic scores need masks"),
        (lambda: class_scores(Clusters(), [{"image": torch.ones(3, 4, 4)}], ["x"]), "no factor 'x' .* it has none"),
        (lambda: semantic_scores(Brightness(), ToyVideos(), ["x"]), "sprites are scored on images, but the dataset ho"),
        (lambda: cluster_scores(Brightness(), Tiles(), []), "no factor is named; name those whose values are the cla"),
        (lambda: semantic_scores(Brightness(), Tiles(), ["shape"], limit=0), "nothing to evaluate"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_factors_that_are_no_classes_or_describe_too_little():
    scene = Tiles()[0]
    few = scene | {"factors": {"shape": scene["factors"]["shape"][:3]}}
    with pytest.raises(InputError, match="mask has the id 3, but the factors describe only the ids below 3"):
        semantic_scores(Brightness(), [few], ["shape"])
    mask = torch.arange(1600).view(1, 40, 40).clone()
    many = [{"image": torch.zeros(3, 40, 40), "mask": mask[0], "factors": {"x": torch.linspace(0, 1, 1600)}}]
    with pytest.raises(InputError, match="x takes more than 1000 values; choose factors with few"):
        semantic_scores(Brightness(), many, ["x"])
