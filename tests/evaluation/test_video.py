"""evaluate() on videos of two blocks, with toy models that know which block is which."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from toy_scenes import ToyModel, ToyScenes, ToyVideoModel, ToyVideos
from unscene import metrics
from unscene.errors import InputError
from unscene.evaluation import Evaluation, evaluate
from unscene.models.base import Losses, SceneModel

WHOLE = {"fg_ari", "slot_stability", "mota", "id_switch", "mostly_tracked"}
PER_FRAME = ["frame_ari", "frame_fg_ari", "frame_fg_ari_legacy", "last_frame_fg_ari", "undefined_frames", "mse"]


class StillModel(SceneModel):
    """ToyVideoModel's segmentation of single images."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def decompose(self, image, *, num_slots=None):
        assert image.ndim == 4 and not self.training
        return ToyVideoModel().explain(image, num_slots or 3, swapped=False)

    def loss(self, batch, step):
        return Losses(self.unused.sum(), {})


def means(evaluation):
    return {name: row["mean"] for name, row in evaluation.summary().items()}


def test_a_model_that_follows_perfectly():
    evaluation = evaluate(ToyVideoModel(), ToyVideos(), batch_size=2)
    found = means(evaluation)
    for name in ("frame_ari", "frame_fg_ari", "fg_ari", "slot_stability", "mota", "motp", "match", "mostly_tracked"):
        assert found[name] == 1
    for name in ("mse", "undefined_frames", "miss", "id_switch", "false_positive"):
        assert found[name] == 0
    assert {row["n"] for row in evaluation.summary().values()} == {3}
    assert evaluation.meta["frames"] == 6 and evaluation.meta["num_slots"] == 3
    assert evaluation.meta["mot_pooled"]["mota"] == 1


def test_slots_that_change_their_object_cost_score_in_the_whole_video_only():
    found = means(evaluate(ToyVideoModel(swap_at=3), ToyVideos()))
    assert found["frame_fg_ari"] == 1 and found["fg_ari"] < 0.5
    assert found["slot_stability"] == pytest.approx(4 / 5)
    assert found["id_switch"] == pytest.approx(1 / 6) and found["mota"] == pytest.approx(5 / 6)


def test_values_are_those_of_the_metrics():
    scenes = ToyVideos(3).batch(range(3))
    model = ToyVideoModel(swap_at=2)
    segmentation = model.decompose(scenes["image"], num_slots=5).segmentation
    evaluation = evaluate(model, ToyVideos(3), num_slots=5, batch_size=2)
    assert evaluation.meta["num_slots"] == 5
    for name, function in {"frame_ari": metrics.frame_ari, "fg_ari": metrics.fg_ari}.items():
        np.testing.assert_array_equal(evaluation.values[name], function(scenes["mask"], segmentation))
    last = metrics.fg_ari(scenes["mask"][:, -1], segmentation[:, -1])
    np.testing.assert_array_equal(evaluation.values["last_frame_fg_ari"], last)
    expected = metrics.mot(scenes["mask"], segmentation)
    np.testing.assert_array_equal(evaluation.values["id_switch"], expected["id_switch"])


def test_the_first_frames_only():
    evaluation = evaluate(ToyVideoModel(swap_at=3), ToyVideos(), frames=3)
    assert means(evaluation)["fg_ari"] == 1 and evaluation.meta["frames"] == 3


def test_a_static_model_gets_every_frame_and_no_score_of_the_whole():
    evaluation = evaluate(StillModel(), ToyVideos(), batch_size=2)
    assert list(evaluation.values) == PER_FRAME
    assert means(evaluation)["frame_fg_ari"] == 1
    assert "mot_pooled" not in evaluation.meta


def test_without_masks_only_the_reconstruction_is_scored():
    scenes = [{"image": scene["image"]} for scene in ToyVideos()]
    evaluation = evaluate(ToyVideoModel(), scenes, observe=2, horizon=2)
    assert list(evaluation.values) == ["mse"] and list(evaluation.prediction) == ["mse", "mse_repeat"]


def test_frames_at_the_start_can_be_left_out_of_the_scores():
    whole = evaluate(ToyVideoModel(), ToyVideos())
    later = evaluate(ToyVideoModel(), ToyVideos(), skip=2)
    both = evaluate(ToyVideoModel(), ToyVideos(), frames=2)
    assert later.meta["skip"] == 2 and later.meta["frames"] == 6
    assert means(whole)["mse"] == pytest.approx((4 * means(later)["mse"] + 2 * means(both)["mse"]) / 6)


def test_predictions_are_scored_on_predicted_frames_by_their_horizon():
    evaluation = evaluate(ToyVideoModel(), ToyVideos(num_frames=8), observe=5, horizon=3, batch_size=2)
    assert {name: values.shape for name, values in evaluation.prediction.items()} == dict.fromkeys(
        ("mse", "mse_repeat", "ari", "fg_ari"), (3, 3)
    )
    assert (evaluation.prediction["mse_repeat"] > 0).all()
    assert evaluation.meta["observe"] == 5 and evaluation.meta["horizon"] == 3
    assert evaluation.to_json()["prediction"]["mse"] == {"at": [0.0] * 3, "mean": [0.0] * 3}  # it knows the motion
    assert (evaluation.prediction["fg_ari"] == 1).all()


def test_json_and_table_of_predictions():
    nan = np.nan
    prediction = {"mse": np.array([[0.0, 0.2], [0.2, 0.4]]), "ari": np.array([[nan, 1.0], [nan, 0.5]])}
    evaluation = Evaluation({"frame_fg_ari_legacy": np.ones(2)}, {"note": "Note."}, prediction)
    assert evaluation.table().splitlines() == [
        "metric               mean  std  n",
        "frame_fg_ari_legacy     1    0  2",
        "",
        "horizon  mse  mse 1..h   ari  ari 1..h",
        "1        0.1       0.1     -         -",
        "2        0.3       0.2  0.75      0.75",
        "Note.",
    ]
    table = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))["prediction"]
    assert table["ari"] == {"at": [None, 0.75], "mean": [None, 0.75]}
    assert table["mse"]["mean"] == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        (
            StillModel(),
            ToyVideos(),
            {"observe": 2, "horizon": 1},
            "StillModel .* cannot predict; use a video model",
        ),
        (ToyVideoModel(), ToyVideos(), {"observe": 2, "horizon": 0}, "horizon is 0; there must be at least 1 frame"),
        (ToyVideoModel(), ToyVideos(), {"observe": 0, "horizon": 2}, "observe is 0; the model needs at least 1 frame"),
        (ToyVideoModel(), ToyVideos(), {"observe": 2}, "observe and horizon go together"),
        (
            ToyVideoModel(),
            ToyVideos(),
            {"observe": 5, "horizon": 2},
            "6 frames, too few to observe 5 and predict 2",
        ),
        (ToyVideoModel(), ToyVideos(), {"frames": 7}, "frames is 7, but the videos have only 6; lower frames"),
        (ToyVideoModel(), ToyVideos(), {"skip": 6}, "skip is 6, which leaves none of 6 frames to score; lower it"),
        (ToyVideoModel(), ToyVideos(), {"skip": -1}, "skip is -1; it must not be negative"),
        (ToyVideoModel(), ToyVideos(), {"frames": 0}, "frames is 0; there must be at least 1 frame to decompose"),
        (ToyModel(), ToyScenes(), {"frames": 2}, "frames is an option for videos, but the dataset holds images"),
        (ToyVideoModel(), ToyScenes(), {}, r"video must be a float tensor \(B, T, C, H, W\)"),
    ],
)
def test_bad_input(model, data, options, message):
    with pytest.raises(InputError, match=message):
        evaluate(model, data, **options)
