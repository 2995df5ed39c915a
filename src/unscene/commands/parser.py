"""A command-line parser from typed functions, whose complaints are InputErrors of one sentence."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NoReturn, get_origin, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from unscene.errors import InputError

Verbs = dict[str, "Callable | Verbs"]


class Parser(ArgumentParser):
    """jsonargparse's parser; options must be spelt out, and errors are raised, not printed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(one_sentence(message)) from ex


REWORDED = {  # in this order
    r"Given value type: .*?\n\s*Given value: ": "found ",
    r"Does not validate against any of the Union subtypes\n\s*Subtypes: .*\n\s*Errors:": "",
    r"\n\s*- Expected a <class 'NoneType'>": "",
    r"(- )?Expected a dot import path string: (\S+)": r"there is no class \2 (name your own as module.Class)",
    r"(- )?Expected a <class '(\w+)'>": r"expected \2",
    r'^Parser key "([^"]+)":': r"\1:",
    r"\s+": " ",
}


def one_sentence(message: str) -> str:
    """jsonargparse's indented report on one line, without how it went through the alternatives of a type."""
    for pattern, replacement in REWORDED.items():
        message = re.sub(pattern, replacement, message)
    return message.strip()


def add_verbs(parser: Parser, verbs: Verbs) -> None:
    """Add functions as subcommands, and mappings of functions as subcommands with subcommands."""
    subcommands = parser.add_subcommands(dest="verb", title="commands", metavar="COMMAND")
    for name, verb in verbs.items():
        nested = isinstance(verb, dict)
        summary = f"{', '.join(verb).capitalize()}." if nested else inspect.getdoc(verb).split("\n\n")[0]
        subparser = Parser(description=summary)
        subcommands.add_subcommand(name, subparser, help=summary)
        (add_verbs if nested else add_parameters)(subparser, verb)


def add_parameters(parser: Parser, function: Callable) -> None:
    """Parameters without default are positional, the others are options."""
    lists = [name for name, hint in get_type_hints(function).items() if get_origin(hint) is list]
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=set(lists))
    for name in lists:  # jsonargparse would want them written as [one,two]
        parser.add_argument(name, nargs="+", type=str, help="one or more (required)")


def call_verb(verbs: Verbs, arguments: Namespace) -> None:
    """Call the function that the parsed arguments name."""
    verb, given = verbs[arguments.verb], arguments[arguments.verb]
    if isinstance(verb, dict):
        call_verb(verb, given)
    else:
        verb(**given.as_dict())
