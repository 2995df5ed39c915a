"""The denoiser takes noise away, and nothing else."""

import sys

import numpy as np
import pytest

pytest.importorskip("pyoidn")

from unscene.data.rendering.denoise import _device, denoise, denoiser_name
from unscene.errors import InputError


def test_noise_goes_and_edges_stay():
    clean = np.zeros((48, 64, 3), np.float32)
    clean[:, 32:] = (0.9, 0.5, 0.1)
    clean[:, :32] = 0.2
    noisy = clean * np.random.default_rng(0).gamma(16, 1 / 16, clean.shape).astype(np.float32)
    found = denoise(noisy)
    before, after = np.abs(noisy - clean), np.abs(found - clean)
    assert after.mean() < before.mean() / 4
    assert after[:, 31:33].mean() < 0.7 * before[:, 31:33].mean()


def test_the_same_every_time():
    noisy = np.random.default_rng(0).random((20, 30, 3), np.float32)
    assert np.array_equal(denoise(noisy), denoise(noisy))


def test_name():
    name, version = denoiser_name().split()
    assert name == "oidn" and len(version.split(".")) == 3 and int(version.split(".")[0]) >= 2


def test_without_pyoidn(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyoidn", None)
    _device.cache_clear()
    with pytest.raises(InputError, match=r'the denoiser is missing: pip install "unscene\[render\]", or set denoise'):
        denoiser_name()
