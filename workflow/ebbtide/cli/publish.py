"""The verb `publish`: the results of a study in experiment trackers."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs

TRACKERS = ("wandb", "mlflow", "tensorboard", "trackio")
EXAMPLES = """\
directories, if --dir is not given:
  wandb        WANDB_DIR, or this directory: ./wandb
  mlflow       MLFLOW_TRACKING_URI, a server or a file, or ./mlflow
  tensorboard  ./tensorboard
  trackio      TRACKIO_DIR, or Trackio's own"""


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    publish = verbs.add_parser(
        "publish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Publish the results of a study in an experiment tracker: one run per model, metrics\n"
        "with their 95 % intervals at the training step, and alarms. Only what is new is added.",
        epilog=EXAMPLES,
    )
    publish.add_argument(
        "study",
        nargs="*",
        default=["config.yaml"],
        metavar="STUDY",
        help="configuration files of the study, as for snakemake --configfile (default: config.yaml)",
    )
    publish.add_argument("--to", required=True, choices=TRACKERS, metavar="|".join(TRACKERS), help="tracker")
    publish.add_argument("--dir", metavar="DIR", help="directory of the tracker's files (default: see below)")
    publish.add_argument(
        "--project",
        default="ebbtide",
        metavar="NAME",
        help="project, in MLflow the experiment; tensorboard has none (default: ebbtide)",
    )
    publish.add_argument(
        "--replace",
        action="store_true",
        help="if published values have changed or are gone, publish the run anew",
    )
    publish.set_defaults(verb=_publish)


def _publish(options: argparse.Namespace) -> None:
    from ebbtide.exchange.trackers.publish import open_tracker, publish
    from ebbtide.locks import node_lock
    from ebbtide.notices import counted
    from ebbtide.study.load import read_study
    from ebbtide.study.tracked_runs import tracked_runs

    study = read_study(*options.study)
    runs, sentences = tracked_runs(study)
    print(*sentences, sep="\n", end="\n" if sentences else "", file=sys.stderr)
    tracker = open_tracker(options.to, Path(options.dir) if options.dir else None, options.project)
    with node_lock(f"results/{study.name}", "publish"):
        for line in publish(runs, tracker, replace=options.replace):
            print(*(f"{note}." for note in dict.fromkeys(tracker.notes)), line, sep="\n", flush=True)
            tracker.notes.clear()
    print(f"{tracker.place}: {counted(runs, 'run')}.")
