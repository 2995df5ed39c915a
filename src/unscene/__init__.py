"""unscene: unsupervised scene decomposition. Images and videos in, objects out.

Names are imported when they are first used, so that ``import unscene`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unscene import data, metrics
    from unscene.errors import InputError
    from unscene.models.base import SceneModel
    from unscene.models.dti_clustering import DTIClustering
    from unscene.models.dti_sprites import DTISprites
    from unscene.models.efficient_morl import EfficientMORL
    from unscene.models.genesis import Genesis
    from unscene.models.genesis_v2 import GenesisV2
    from unscene.models.iodine import IODINE
    from unscene.models.monet import MONet
    from unscene.models.mulmon import MulMON
    from unscene.models.provide import PROVIDE
    from unscene.models.rnem import NEM, RNEM
    from unscene.models.sequential_iodine import SequentialIODINE, SequentialPROVIDE
    from unscene.models.slot_attention import SlotAttention
    from unscene.pretrained import load
    from unscene.scenes import Decomposition

__all__ = [
    "DTIClustering",
    "DTISprites",
    "Genesis",
    "GenesisV2",
    "IODINE",
    "MONet",
    "NEM",
    "MulMON",
    "PROVIDE",
    "RNEM",
    "Decomposition",
    "EfficientMORL",
    "InputError",
    "SceneModel",
    "SequentialIODINE",
    "SequentialPROVIDE",
    "SlotAttention",
    "data",
    "load",
    "metrics",
]

_HOME = {
    "DTIClustering": "unscene.models.dti_clustering",
    "DTISprites": "unscene.models.dti_sprites",
    "EfficientMORL": "unscene.models.efficient_morl",
    "Genesis": "unscene.models.genesis",
    "GenesisV2": "unscene.models.genesis_v2",
    "IODINE": "unscene.models.iodine",
    "MONet": "unscene.models.monet",
    "MulMON": "unscene.models.mulmon",
    "PROVIDE": "unscene.models.provide",
    "NEM": "unscene.models.rnem",
    "RNEM": "unscene.models.rnem",
    "Decomposition": "unscene.scenes",
    "InputError": "unscene.errors",
    "SceneModel": "unscene.models.base",
    "SequentialIODINE": "unscene.models.sequential_iodine",
    "SequentialPROVIDE": "unscene.models.sequential_iodine",
    "SlotAttention": "unscene.models.slot_attention",
    "load": "unscene.pretrained",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in __all__:
        return import_module(f"unscene.{name}")
    raise AttributeError(f"module 'unscene' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
