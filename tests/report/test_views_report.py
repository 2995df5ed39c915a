"""The report on a training on scenes of several views."""

import yaml

from unscene import MulMON
from unscene.report import write_report

TINY = {
    **{"image_size": (16, 16), "num_slots": 2, "iterations": 2, "latent_size": 3, "view_hidden": 4, "lstm_size": 5},
    **{"projector_hidden": 4, "decoder_channels": (4,), "refinement_channels": (4, 4), "refinement_mlp": (4,)},
}


def test_views_are_decomposed_with_their_viewpoints(tmp_path):
    MulMON(**TINY).save_pretrained(tmp_path / "model")
    scenes = {"num_scenes": 2, "views": 2, "image_size": 16, "split": "val"}
    data = {"val": {"class_path": "unscene.data.orbit.OrbitScenes", "init_args": scenes}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    page = write_report(tmp_path).read_text()
    assert "needs the viewpoint" not in page
    assert page.count("data:image/png") >= 2  # decompositions, mask logits
