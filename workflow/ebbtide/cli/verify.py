"""The verb `verify`: check every cell of a study or a store."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.cli.options import whole_number
from ebbtide.errors import CellError, ConfigError, EbbtideError

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs
    from ebbtide.jobs.verify import Verified
    from ebbtide.study.study import Study


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    verify = verbs.add_parser(
        "verify", description="Check every cell of a study or a store, and rescore a sample."
    )
    verify.add_argument(
        "what",
        nargs="*",
        default=["config.yaml"],
        metavar="STUDY|STORE",
        help="configuration files of a study, or the directory of a store (default: config.yaml)",
    )
    verify.add_argument(
        "--rescore",
        type=whole_number(1),
        metavar="N",
        help="also rescore examples of N random cells of the study in float64, from the weights on disk",
    )
    verify.add_argument(
        "--seed", type=whole_number(0), default=0, help="seed of the random sample (default: 0)"
    )
    verify.add_argument(
        "--move",
        action="store_true",
        help="rename damaged files to NAME.damaged, so that they are made again",
    )
    verify.set_defaults(verb=_verify)


def _verify(options: argparse.Namespace) -> None:
    from ebbtide.jobs.verify import move, verify_store, verify_study
    from ebbtide.study.load import read_study

    study: Study | None = None
    not_rescored: EbbtideError | None = None
    if Path(options.what[0]).is_dir():
        if options.rescore or len(options.what) > 1:
            raise ConfigError(
                f"verify: found the store {options.what[0]}; allowed: one store without --rescore, or a "
                "study."
            )
        result = verify_store(options.what[0])
        if not result.checked:
            raise ConfigError(
                f"verify: {options.what[0]} has no cell; expected a cell store (scoring.store of a study), "
                "or the YAML file of a study."
            )
    else:
        study = read_study(*options.what)
        result = verify_study(study)
        if options.rescore:
            try:
                _rescore(study, options, result)
            except EbbtideError as error:
                not_rescored = error  # after the damage that was found before
    print(*result.lines(), sep="\n")
    if result.damages and options.move:
        print(*move(result.damages), sep="\n")
    if not_rescored:
        raise not_rescored
    if not result.damages:
        if result.others:
            raise CellError(_others(result, options))
        return
    count = f"{len({damage.path for damage in result.damages})} of {result.checked} files are damaged"
    raise CellError(f"{count}. {_remedy(options, is_store=study is None)}")


def _others(result: "Verified", options: argparse.Namespace) -> str:
    """The error about cells in the results that are not those of the study, with the command that helps."""
    stored, total = result.stored, len(result.others)
    made = f"copies {stored} of them from the store and scores {total - stored}"
    if stored in (0, total):
        made = "copies them from the store" if stored else "scores them"
    command = shlex.join(["snakemake", "--cores", "all", "--configfile", *options.what])
    return (
        f"{total} of {result.checked} files are cells of another definition; none is damaged. To have those "
        f"of this study in the results, run it again, which {made}: {command}"
    )


def _remedy(options: argparse.Namespace, *, is_store: bool) -> str:
    """What to run next, as a command that can be copied."""
    if not options.move:
        sample = ["--rescore", str(options.rescore), "--seed", str(options.seed)] if options.rescore else []
        command = shlex.join(["ebbtide", "verify", *options.what, *sample, "--move"])
        return f"Rename them with: {command}"
    if is_store:
        return "The next run of each study of this store scores or copies the cells that its results lack."
    command = shlex.join(["snakemake", "--cores", "all", "--configfile", *options.what])
    return f"To score or copy the cells that the results lack, run: {command}"


def _rescore(study: "Study", options: argparse.Namespace, result: "Verified") -> None:
    from ebbtide.cells.inspection import Damage
    from ebbtide.jobs.verify import rescore

    result.rescored.append(f"Sample of {options.rescore} cells with seed {options.seed}:")
    for found in rescore(study, options.rescore, options.seed, result.damages):
        if isinstance(found, Damage):
            result.damages.append(found)
        else:
            result.rescored.append(found)
