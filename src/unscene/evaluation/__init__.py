"""Evaluate a model on a dataset of images or videos."""

from unscene.evaluation.loop import evaluate
from unscene.evaluation.result import Evaluation

__all__ = ["Evaluation", "evaluate"]
