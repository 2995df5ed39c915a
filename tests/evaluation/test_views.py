"""evaluate() on scenes of several views, with a toy model that knows which colour is which object."""

import numpy as np
import pytest
import torch

from toy_scenes import ToyModel, ToyScenes, ToyVideoModel
from toy_views import ToyMultiView, ToyViews
from unscene import MulMON, metrics
from unscene.errors import InputError
from unscene.evaluation import evaluate


def means(evaluation):
    return {name: row["mean"] for name, row in evaluation.summary().items()}


def test_a_model_that_knows_every_view():
    evaluation = evaluate(ToyMultiView(), ToyViews(), batch_size=2)
    found = means(evaluation)
    for name in ("ari", "fg_ari", "miou", "query_ari", "query_miou", "scene_ari", "scene_fg_ari", "scene_miou"):
        assert found[name] == 1
    for name in ("mse", "rmse", "query_mse", "query_mse_rgb", "query_rmse"):
        assert found[name] == 0
    assert evaluation.meta["views"] == 5 and evaluation.meta["num_slots"] == 3
    assert {row["n"] for row in evaluation.summary().values()} == {3}


@pytest.mark.parametrize(("observe", "seen"), [(None, 2), (1, 1), (5, 5)])
def test_some_views_are_seen_and_the_others_are_asked_for(observe, seen):
    model = ToyMultiView()
    evaluation = evaluate(model, ToyViews(8), observe=observe)
    assert model.seen.shape == (8, seen)
    assert ("query_rmse" in evaluation.values) == (seen < 5)
    assert evaluation.meta.get("observe") == observe
    assert len(set(map(tuple, model.seen.tolist()))) > 1  # not the same ones in every scene
    first = model.seen
    evaluate(model, ToyViews(8), observe=observe)
    assert (model.seen == first).all()


def test_objects_that_change_their_slot_cost_score_in_the_whole_scene_only():
    found = means(evaluate(ToyMultiView(swap_from=3), ToyViews()))
    assert found["fg_ari"] == found["query_fg_ari"] == 1 and found["miou"] == 1
    assert found["scene_fg_ari"] < 0.6 and found["scene_miou"] < 0.8


def test_errors_are_those_of_the_metrics():
    model, scenes = ToyMultiView(blind_from=2), ToyViews(2).batch(range(2))
    evaluation = evaluate(model, ToyViews(2), observe=2)
    errors = torch.stack([metrics.mse_rgb(view, view * (v < 2)) for v, view in enumerate(scenes["image"].unbind(1))], 1)
    observed = torch.zeros(2, 5, dtype=torch.bool).scatter(1, model.seen.long(), True)
    for name, chosen in (("", observed), ("query_", ~observed)):
        expected = (errors * chosen).sum(1) / chosen.sum(1)
        np.testing.assert_allclose(evaluation.values[f"{name}mse_rgb"], expected)
        np.testing.assert_allclose(evaluation.values[f"{name}rmse"], expected.sqrt())


def test_without_masks_only_the_pictures_are_scored():
    found = evaluate(ToyMultiView(), ToyViews(labels=False)).values
    assert found.keys() >= {"mse", "rmse", "query_mse", "query_rmse"}
    assert not [name for name in found if name.endswith(("_ari", "miou")) or name == "ari"]


def test_a_model_of_images_gets_every_view():
    model, data = ToyModel(), ToyViews()
    evaluation = evaluate(model, data, batch_size=2)
    views = data.batch(range(3))["image"].unbind(1)
    errors = torch.stack([metrics.mse(view, model.decompose(view).reconstruction) for view in views])
    np.testing.assert_allclose(evaluation.values["mse"], errors.mean(0))
    assert "rmse" in evaluation.values and "scene_ari" not in evaluation.values


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        (ToyMultiView(), ToyViews(), {"observe": 6}, "observe is 6, but the scenes have only 5 views; lower observe"),
        (ToyMultiView(), ToyViews(), {"observe": 0}, "observe is 0; the model needs at least 1 view to start from"),
        (ToyMultiView(), ToyViews(), {"horizon": 1}, "horizon is an option for videos, but the model takes views"),
        (ToyModel(), ToyViews(), {"frames": 2}, "frames is an option for videos, but the dataset holds images"),
        (ToyVideoModel(), ToyViews(), {}, r"video must be a float tensor \(B, T, C, H, W\)"),
    ],
)
def test_bad_input(model, data, options, message):
    with pytest.raises(InputError, match=message):
        evaluate(model, data, **options)


def test_a_model_of_views_refuses_images():
    with pytest.raises(InputError, match="MulMON needs the viewpoint of every view of a scene"):
        evaluate(MulMON(), ToyScenes())
