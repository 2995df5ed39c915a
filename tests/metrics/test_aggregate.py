"""The torchmetrics shell: mean and spread over images, however they are shared out."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from unscene.metrics import fg_ari, miou
from unscene.metrics.aggregate import ImageMean


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    true, pred = torch.randint(0, 3, (2, 9, 6, 5), generator=generator)
    true[4] = 0  # no foreground: NaN
    return true, pred


def test_mean_over_images_not_batches(maps):
    metric = ImageMean(fg_ari)
    for true, pred in zip(*(part.split(4) for part in maps), strict=True):
        metric.update(true, pred)
    values = fg_ari(*maps).numpy()
    assert np.isnan(values[4])
    assert metric.compute().dtype == torch.float64
    assert metric.compute().item() == pytest.approx(np.nanmean(values), abs=1e-14)
    assert metric.statistics() == pytest.approx({"mean": np.nanmean(values), "std": np.nanstd(values), "n": 8})


def test_arguments_reach_the_function(maps):
    metric = ImageMean(miou, background=False)
    metric.update(*maps)
    assert metric.compute().item() == pytest.approx(miou(*maps, background=False).nanmean().item(), abs=1e-14)


def test_processes_of_unequal_share(maps):
    """A gather that plays the second process stands in for torch.distributed."""
    everything, here, there = ImageMean(fg_ari), ImageMean(fg_ari), ImageMean(fg_ari)
    everything.update(*maps)
    here.update(*(part[2:] for part in maps))
    there.update(*(part[:2] for part in maps))
    states = iter([there.total, there.squares, there.count] * 2)
    here.distributed_available_fn = lambda: True
    here.dist_sync_fn = lambda state, group: [state, next(states)]
    assert here.statistics() == pytest.approx(everything.statistics())
    assert here.compute().item() == pytest.approx(everything.compute().item())
    assert int(here.count) == 6  # its own share again, ready for the next update


def test_reset_and_empty(maps):
    metric = ImageMean(fg_ari)
    metric.update(*maps)
    metric.reset()
    metric.update(*(part[4:5] for part in maps))
    assert metric.statistics()["n"] == 0
    assert metric.compute().isnan()


def test_import_of_the_functions_is_light():
    code = "import sys, unscene.metrics; print({'torchmetrics', 'scipy', 'sklearn', 'lightning'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
