import json
import re
from html.parser import HTMLParser

import pytest
import torch

from unscene.data import SceneDataset
from unscene.errors import InputError
from unscene.models.base import Losses, SceneModel
from unscene.report import write_report
from unscene.scenes import Decomposition

SECTIONS = ["Scores", "Training", "Decompositions", "Refinement", "Slots drawn alone", "Mask logits", "Reproduce"]


class Stripes(SceneDataset):
    """Gray images 20 x 30 with an object in columns 0 to 4."""

    def __init__(self, num_scenes: int = 40) -> None:
        self.num_scenes = num_scenes

    def __len__(self):
        return self.num_scenes

    def batch(self, indices):
        mask = torch.zeros(len(indices), 20, 30, dtype=torch.uint8)
        mask[:, :, :5] = 1
        mask[:, :, 9:12] = 2
        return {"image": mask[:, None] / 2.0, "mask": mask}


class Thresholds(SceneModel):
    """Finds the objects of Stripes by their brightness."""

    def __init__(self, levels: int = 3, refines: bool = True) -> None:
        super().__init__()
        self.levels = torch.nn.Parameter(torch.linspace(0, 1, levels))
        self.refines = refines

    def decompose(self, image, *, num_slots=None, history=False):
        logits = -20 * (image - self.levels[:, None, None]).abs()
        components = self.levels[None, :, None, None, None].expand(*logits.shape[:2], 1, *logits.shape[2:])
        slots = self.levels[None, :, None].expand(*logits.shape[:2], 1)
        steps = tuple(
            Decomposition(masks=(t * logits).softmax(1), components=components, slots=slots, mask_logits=t * logits)
            for t in (0, 1)
        )
        return Decomposition(**vars(steps[-1]) | {"history": steps if history and self.refines else ()})

    def loss(self, batch, step):
        return Losses(self.levels.sum(), {})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a training, complete but for evaluation.json."""
    monkeypatch.setattr("unscene.report.run.NUM_SHOWN", 1)  # smaller pictures are drawn faster
    folder = tmp_path / "run"
    Thresholds().save_pretrained(folder / "model")
    stripes = {"class_path": f"{__name__}.Stripes", "init_args": {"num_scenes": 40}}
    config = {
        "about": {"method": "Thresholds <b>", "dataset": "Stripes", "published": {"fg_ari": 0.992}},
        "seed": 3,
        "data": {"train": stripes, "val": stripes, "batch_size": 8},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # which is YAML
    (folder / "metrics.csv").write_text("step,loss,val/fg_ari,images_per_second\n1,5.0,,10\n1000,4.0,0.5,30\n20")
    return folder


class Page(HTMLParser):
    """What a reader of the file finds: text, headings, and everything a browser would fetch."""

    def __init__(self, path) -> None:
        super().__init__()
        self.text, self.headings, self.sources, self.tag = "", [], [], ""
        self.feed(path.read_text())
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if self.tag != "style":
            self.text += f" {data}"
        if self.tag == "h2" and data.strip():
            self.headings.append(data)


def test_page_is_complete_and_self_contained(run):
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path)
    assert page.headings == SECTIONS
    assert len(page.sources) == 5 and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "url(" not in path.read_text() and "@import" not in path.read_text()
    for words in ("Steps 1,000", "Images per second 20", "Seed 3", "Batch size 8", "--run", '"num_scenes": 40'):
        assert words in page.text
    assert "Thresholds <b> on Stripes" in page.text  # escaped, else the parser would take <b> for a tag


def test_unevaluated_run_is_scored_on_a_few_images_and_says_so(run):
    page = Page(write_report(run))
    assert "was not evaluated; these are the scores of 32 held-out images only." in page.text
    assert re.search(r"FG-ARI 1 0 32 0\.992", page.text)
    assert re.search(r"MSE \S+ \S+ 32 –", page.text)


def test_the_page_says_which_images_it_shows(run):
    assert "Held-out images. The mask" in Page(write_report(run)).text
    config = json.loads((run / "config.yaml").read_text())
    del config["data"]["val"]
    (run / "config.yaml").write_text(json.dumps(config))
    page = Page(write_report(run))
    assert "Training images. The mask" in page.text and "eld-out" not in page.text


def test_evaluation_is_taken_as_it_is(run):
    scores = {"metrics": {"fg_ari": {"mean": 0.87654321, "std": None, "n": 320}}, "meta": {"device": "abacus"}}
    (run / "evaluation.json").write_text(json.dumps(scores))
    page = Page(write_report(run))
    assert re.search(r"FG-ARI 0\.8765 – 320 0\.992", page.text)
    assert "Evaluated on abacus" in page.text and "not evaluated" not in page.text


def remove_weights(run):
    for file in (run / "model").iterdir():
        file.unlink()
    (run / "model").rmdir()


def remove_history(run):
    Thresholds(refines=False).save_pretrained(run / "model")


@pytest.mark.parametrize(
    ("damage", "sentence", "pictures"),
    [
        (remove_weights, "There are no weights in the folder yet, so nothing could be decomposed.", 1),
        (remove_history, "This Decomposition has no history", 4),
        (lambda run: (run / "metrics.csv").unlink(), "There is no metrics.csv in the folder", 4),
        (lambda run: (run / "metrics.csv").write_text(""), "The metrics table has no column 'step'", 4),
        (lambda run: (run / "metrics.csv").write_text("step,loss\n1,many\n"), "metrics.csv is damaged", 4),
        (lambda run: (run / "config.yaml").unlink(), "There is no config.yaml in the folder", 1),
        (lambda run: (run / "config.yaml").write_text("a: [b"), "is not valid YAML", 1),
        (lambda run: (run / "config.yaml").write_text("seed: 1"), "The settings name no images", 1),
        (
            lambda run: (run / "config.yaml").write_text("data: {val: {class_path: gone.Scenes}}"),
            "The held-out images that the settings name cannot be opened",
            1,
        ),
        (lambda run: (run / "model" / "model.safetensors").write_bytes(b"x"), "is damaged", 1),
        (lambda run: (run / "evaluation.json").write_text("{"), "is damaged; evaluate the run again.", 5),
    ],
)
def test_what_is_missing_becomes_a_sentence(run, damage, sentence, pictures):
    damage(run)
    page = Page(write_report(run))
    assert page.headings == SECTIONS
    assert sentence in page.text
    assert len(page.sources) == pictures


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no folder .*gone; name the folder of a training"):
        write_report(tmp_path / "gone")
    with pytest.raises(InputError, match="is not the folder of a training: no config.yaml, metrics.csv or model in it"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_random_state_is_left_alone_and_the_page_is_repeatable(run):
    (run / "evaluation.json").write_text('{"metrics": {}, "meta": {}}')
    before = torch.random.get_rng_state()
    first = write_report(run).read_text()
    assert write_report(run).read_text() == first
    assert torch.equal(before, torch.random.get_rng_state())
