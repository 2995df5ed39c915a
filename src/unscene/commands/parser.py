"""A command-line parser from typed functions, whose complaints are InputErrors of one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from docstring_parser import parse
from jsonargparse import ArgumentParser, Namespace

from unscene.errors import InputError

Verbs = dict[str, "Callable | Group"]


@dataclass(frozen=True)
class Group:
    """Verbs behind a common word: `unscene data generate`."""

    summary: str
    verbs: Verbs


class Parser(ArgumentParser):
    """jsonargparse's parser; options must be spelt out, and errors are raised, not printed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(one_sentence(message)) from ex

    def instantiate(self, *args: Any, **kwargs: Any) -> Namespace:
        """Build the classes; what one of them refuses comes as its own InputError also where None is possible."""
        try:
            return super().instantiate(*args, **kwargs)
        except ValueError as error:  # a report on all alternatives of the type
            if isinstance(error.__cause__, InputError):
                raise error.__cause__ from error
            raise

    def format_help(self) -> str:
        return re.sub(r"<class\s+'(\w+)'>", r"\1", super().format_help())


REWORDED = {  # in this order
    r"Given value type: .*?\n\s*Given value: ": "found ",
    r"Does not validate against any of the Union subtypes\n\s*Subtypes: .*\n\s*Errors:": "",
    r"\n\s*- Expected a <class 'NoneType'>": "",
    r"(- )?Expected a dot import path string: (\S+)": r"there is no class \2 (name your own as module.Class)",
    r"(- )?Expected a <class '(\w+)'>": r"expected \2",
    r"(?<=arguments are required: ).*": lambda names: re.sub(r"[\w.]+\.", "", names[0]),  # without the verb
    r'^Parser key "([^"]+)"( element \d+)?:': r"\1:",
    r"\s+": " ",
}


def one_sentence(message: str) -> str:
    """jsonargparse's indented report on one line, without how it went through the alternatives of a type."""
    for pattern, replacement in REWORDED.items():
        message = re.sub(pattern, replacement, message)
    return message.strip()


def add_verbs(parser: Parser, verbs: Verbs) -> None:
    """Add functions as subcommands, and groups of functions as subcommands with subcommands."""
    subcommands = parser.add_subcommands(dest="verb", title="commands", metavar="COMMAND")
    for name, verb in verbs.items():
        summary = verb.summary if isinstance(verb, Group) else parse(verb.__doc__).short_description
        subparser = Parser(description=summary)
        subcommands.add_subcommand(name, subparser, help=summary)
        if isinstance(verb, Group):
            add_verbs(subparser, verb.verbs)
        else:
            add_parameters(subparser, verb)


def add_parameters(parser: Parser, function: Callable) -> None:
    """Parameters without default are positional, the others are options."""
    hints = {name: (hint, *get_args(hint)) for name, hint in get_type_hints(function).items()}
    lists = {name: get_args(kind)[0] for name, kinds in hints.items() for kind in kinds if get_origin(kind) is list}
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=set(lists))
    described = {parameter.arg_name: parameter.description for parameter in parse(function.__doc__).params}
    for name, kind in lists.items():  # jsonargparse would want them written as [one,two]
        positional = signature(function).parameters[name].default is Parameter.empty
        parser.add_argument(name if positional else f"--{name}", nargs="+", type=kind, help=described[name])


def call_verb(verbs: Verbs, arguments: Namespace) -> None:
    """Call the function that the parsed arguments name."""
    verb, given = verbs[arguments.verb], arguments[arguments.verb]
    if isinstance(verb, Group):
        call_verb(verb.verbs, given)
    else:
        verb(**given.as_dict())
