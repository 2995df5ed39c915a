import numpy as np
import pytest

from unscene.errors import InputError
from unscene.figures import loss_curves

STEPS = 40
TABLE = {
    "step": np.arange(STEPS) * 10.0,
    "epoch": np.zeros(STEPS),
    "kl": np.linspace(5, 3, STEPS),
    "val/fg_ari": np.where(np.arange(STEPS) % 10 == 0, 0.5, np.nan),
    "train/loss": np.linspace(9, 1, STEPS),
    "val/loss": np.where(np.arange(STEPS) % 10 == 0, 2.0, np.nan),
    "never": np.full(STEPS, np.nan),
}


def plots(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.lines}


def test_one_plot_per_quantity_loss_first_then_scores():
    figure = loss_curves(TABLE)
    assert list(plots(figure)) == ["loss", "fg ari", "kl"]
    assert all(not axes.axison for axes in figure.axes if not axes.lines)


def test_splits_share_a_plot_with_a_legend():
    axes = plots(loss_curves(TABLE))["loss"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "val"]
    np.testing.assert_array_equal(axes.lines[1].get_xdata(), [0, 100, 200, 300])


def test_scores_span_zero_to_one():
    assert plots(loss_curves(TABLE))["fg ari"].get_ylim() == (-0.06, 1.02)


def test_long_curves_get_a_running_mean_without_edge_bias():
    table = {"step": np.arange(500.0), "loss": np.full(500, 3.0)}
    raw, mean = plots(loss_curves(table))["loss"].lines
    np.testing.assert_allclose(mean.get_ydata(), 3.0)
    assert len(raw.get_ydata()) == 500


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"loss": np.ones(3)}, "no column 'step'"),
        ({"step": np.ones(3), "loss": np.full(3, np.nan)}, "no values yet; train for some steps first"),
    ],
)
def test_tables_without_curves_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        loss_curves(table)
