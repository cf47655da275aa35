"""The verb that prints a completion script for a shell: `completion`."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs

SHELLS = ("bash", "zsh", "tcsh", "fish")
EXAMPLES = """\
examples:
  eval "$(ebbtide completion bash)"                 this shell; add the line to ~/.bashrc for all
  ebbtide completion zsh > ~/.zfunc/_ebbtide        with ~/.zfunc in $fpath before compinit
  ebbtide completion fish > ~/.config/fish/completions/ebbtide.fish"""


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    completion = verbs.add_parser(
        "completion",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Print a script that completes verbs, options and files.",
        epilog=EXAMPLES,
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell that reads the script")
    completion.set_defaults(verb=_completion)


def _completion(options: argparse.Namespace) -> None:
    import shtab

    from ebbtide.cli import parser_of

    parser = parser_of()
    for action in _actions(parser):
        names = set(str(action.metavar or "").split("|"))
        if names & {"FILE", "STUDY", "TASK", "REQUESTS", "OLD", "NEW"}:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif names & {"DIR", "STORE"}:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell=options.shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a parser and its verbs. The list of verbs is made visible, to be completed too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.help = "verb"
            for verb in action.choices.values():
                yield from _actions(verb)
        yield action
