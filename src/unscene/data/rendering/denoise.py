"""Open Image Denoise, which turns 16 samples per pixel into what hundreds would show."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from unscene.errors import InputError


def denoise(light: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """Linear light, as rendered with a box filter, without its noise; InputError without pyoidn."""
    oidn, device = _device(os.getpid())
    noisy, clean = np.ascontiguousarray(light, np.float32), np.empty(light.shape, np.float32)
    with oidn.Filter(device, oidn.OIDN_FILTER_TYPE_RT) as task:
        task.set_image(oidn.OIDN_IMAGE_COLOR, noisy, oidn.OIDN_FORMAT_FLOAT3)
        task.set_image(oidn.OIDN_IMAGE_OUTPUT, clean, oidn.OIDN_FORMAT_FLOAT3)
        task.set_bool("hdr", True)
        task.commit()
        task.execute()
    if error := device.get_error():
        raise RuntimeError(f"Open Image Denoise: {error}")
    return clean


def denoiser_name() -> str:
    """With its version; InputError without pyoidn."""
    version = _device(os.getpid())[1].get_int("version")
    return f"oidn {version // 10000}.{version // 100 % 100}.{version % 100}"


@lru_cache
def _device(process: int) -> tuple[Any, Any]:
    """The package and its device, one for each process: threads do not survive a fork."""
    try:
        import pyoidn
    except ImportError:
        raise InputError('the denoiser is missing: pip install "unscene[render]", or set denoise to false') from None
    device = pyoidn.Device(pyoidn.OIDN_DEVICE_TYPE_CPU)
    device.set_bool("setAffinity", False)  # pinned threads of two processes would share one core
    device.commit()
    return pyoidn, device
