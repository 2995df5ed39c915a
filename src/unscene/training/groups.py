"""Parameter groups: parts of a model, told by the names of their parameters, with rates and decays of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from unscene.errors import InputError


@dataclass(frozen=True)
class ParameterGroup:
    """What the optimiser does differently for some parameters.

    Args:
        match: regular expression, searched for in the names of the parameters.
        lr_scale: factor on the optimiser's learning rate; with 0 they do not learn, and take no time for gradients.
        weight_decay: in place of the optimiser's.
        scheduled: whether the learning rate follows the schedule; if not, it stays what it is.
    """

    match: str
    lr_scale: float = 1.0
    weight_decay: float | None = None
    scheduled: bool = True

    def __post_init__(self) -> None:
        try:
            re.compile(self.match)
        except re.error as error:
            raise InputError(f"groups: match {self.match!r} is no regular expression: {error}") from error
        if self.lr_scale < 0 or (self.weight_decay or 0) < 0:
            raise InputError(f"groups: lr_scale and weight_decay of {self.match!r} must not be negative")


REST = ParameterGroup("")
Arranged = list[tuple[ParameterGroup, list[tuple[str, nn.Parameter]]]]


def arrange(model: nn.Module, groups: Sequence[ParameterGroup]) -> Arranged:
    """Each parameter of ``model`` in the first group that matches its name; those that none matches lead, as REST.

    Raises InputError for a group that gets no parameter.
    """
    named = dict(model.named_parameters())
    first = {name: next((i for i, g in enumerate(groups) if re.search(g.match, name)), -1) for name in named}
    for i, group in enumerate(groups):
        if i not in first.values():
            some = ", ".join(list(named)[:5])
            taken = any(re.search(group.match, name) for name in named)
            problem = "matches only parameters of earlier groups" if taken else "matches no parameter"
            raise InputError(f"groups: {group.match!r} {problem}; {type(model).__name__} has, among others, {some}")
    members = [(g, [(n, named[n]) for n in named if first[n] == i]) for i, g in enumerate((REST, *groups), start=-1)]
    return [(group, parameters) for group, parameters in members if parameters]


def options(arranged: Arranged) -> list[dict[str, Any]]:
    """The groups as torch's optimisers take them; the parameters' names go into their state."""
    return [
        {"params": parameters} | ({} if group.weight_decay is None else {"weight_decay": group.weight_decay})
        for group, parameters in arranged
    ]


def regroup(saved: dict[str, Any], asked: Optimizer, names: list[str]) -> None:
    """Turn ``saved``, the state of an optimiser, into one for ``asked``, whose groups may be others.

    Moments stay with their parameters; rates, betas and so on become those of ``asked``. ``names`` are those of all
    parameters in the order of the model, in which an optimiser without groups has them.
    """
    before, now = (
        [name for group in groups for name in group.get("param_names", names)]
        for groups in (saved["param_groups"], asked.param_groups)
    )
    moments = {before[index]: state for index, state in saved["state"].items()}
    saved["state"] = {index: moments[name] for index, name in enumerate(now) if name in moments}
    saved["param_groups"] = asked.state_dict()["param_groups"]
