"""How often is a sound checkpoint suspicious, and a planted fault named? Load proofs of toy models.

    python benchmarks/simulate_load_proofs.py
    python benchmarks/simulate_load_proofs.py --seeds 1 --models ladder-d16

Sound: runs of the ladder with many early steps, trained normally, or with a spike of the learning rate, which
is multiplied for 4 steps. Every checkpoint is judged with all others, with powers of two alone, and with one
neighbour. Faults: a tiny Llama (tests/helpers/trained_series.py), each fault at each step in turn, with all
other steps as neighbours, or one.
"""

import argparse
import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd

from ebbtide.checkpoints.series import CATALOGUE, read_series
from ebbtide.logs import Progress
from ebbtide.scoring.engine import load_scorer
from ebbtide.scoring.proof.losses import losses_of
from ebbtide.scoring.proof.proof_file import Proof
from ebbtide.scoring.proof.series import LOSS, TENSORS, Step, judge
from ebbtide.scoring.proof.sketch import sketches_of
from ebbtide.tables import write_tsv
from ebbtide.training import run as training
from ebbtide.training.train import train

STEPS, SPIKE = 512, 300
KEPT = (*(0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 288), *range(300, 324, 4), 352, 384, 448, 512)
SPIKES = (1, 5, 20)  # factors of the learning rate; 1 is none
FAULTS = ("swapped_head", "transposed", "interleaved", "layers_swapped", "shifted", "stale", "unrelated")


def step_of(directory: Path, tokens: int) -> Step:
    """A checkpoint with its proof; `tokens` are those of a step."""
    number = int(directory.name.removeprefix("step"))
    proof = Proof(losses_of(load_scorer(directory)), sketches_of(directory, "float32"))
    return Step(directory.name, number, number * tokens, proof)


def series(name: str, seed: int, factor: float, place: Path) -> list[Step]:
    """The checkpoints of a run of the ladder."""
    ladder, _ = read_series(CATALOGUE / "ladder.yaml")
    recipe = {**ladder["recipe"], "seed": seed, "steps": STEPS}
    spec = {"corpus": {**ladder["corpus"], "seed": seed}, "recipe": recipe, "model": ladder["models"][name]}
    rate = training._rate

    def spiked(recipe: Any, step: int) -> float:
        return rate(recipe, step) * (factor if SPIKE <= step < SPIKE + 4 else 1)

    with patch.object(training, "_rate", spiked):
        train({**spec, "checkpoints": list(KEPT)}, place, Progress())
    return [step_of(place / f"step{step}", recipe["batch"] * recipe["length"]) for step in KEPT]


def views(steps: Sequence[Step]) -> Iterator[tuple[str, list[Step]]]:
    """Which checkpoints a study has: all, powers of two, or two of them."""
    yield "all", list(steps)
    yield "powers of two", [step for step in steps if step.step & (step.step - 1) == 0]
    for pair in itertools.pairwise(steps):
        yield "two", list(pair)


def sound_rows(name: str, seed: int, factor: float, place: Path) -> Iterator[dict[str, Any]]:
    """A row per judgement of a sound checkpoint."""
    for view, steps in views(series(name, seed, factor, place)):
        for index, step in enumerate(steps):
            found = Counter(finding.finding for finding in judge(name, steps, index).findings)
            yield {
                **{"spike": factor, "view": view, "model": name, "seed": seed, "checkpoint": step.name},
                **{"loss": step.loss, "load_loss": found[LOSS], "load_tensors": found[TENSORS]},
            }


def fault_rows(seed: int, place: Path) -> Iterator[dict[str, Any]]:
    """A row per planted fault: whether it is named, and whether the loss is suspicious."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/helpers"))
    import trained_series as llama

    llama.train(place, seed=seed)
    tokens = llama.BATCH * llama.LENGTH
    steps = [step_of(place / f"step{step}", tokens) for step in llama.STEPS]
    for fault in FAULTS:
        for index in range(1, len(steps)):
            source, older = place / steps[index].name, place / steps[index - 1].name
            to = llama.with_fault(source, place / fault / source.name, getattr(llama, fault), older)
            planted = [*steps[:index], step_of(to, tokens), *steps[index + 1 :]]
            for view, seen, at in (("all", planted, index), ("two", planted[index - 1 : index + 1], 1)):
                found = {finding.finding for finding in judge("llama", seen, at).findings}
                others = sum(
                    bool(judge("llama", seen, other).findings) for other in range(len(seen)) if other != at
                )
                yield {
                    **{"fault": fault, "view": view, "seed": seed, "checkpoint": source.name},
                    **{"load_loss": LOSS in found, "load_tensors": TENSORS in found, "others": others},
                }


def main() -> None:
    """Print both tables, and write all judgements."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["ladder-d16", "ladder-d32"])
    parser.add_argument("--to", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sound = pd.DataFrame(
            row
            for name in options.models
            for seed in range(options.seeds)
            for factor in SPIKES
            for row in sound_rows(name, seed, factor, Path(folder, f"{name}-{seed}-{factor}"))
        )
        faults = pd.DataFrame(
            row for seed in range(options.seeds) for row in fault_rows(seed, Path(folder, f"llama-{seed}"))
        )
    options.to.mkdir(parents=True, exist_ok=True)
    for table, name in ((sound, "load_proofs_sound"), (faults, "load_proofs_faults")):
        write_tsv(table, options.to / f"{name}.tsv")
    peak = sound[sound["checkpoint"].str[4:].astype(int).between(SPIKE, SPIKE + 20)]
    print(sound.groupby(["spike", "view"])[["load_loss", "load_tensors"]].agg(["sum", "count"]).to_string())
    print(peak.groupby("spike")["loss"].max().to_string())
    named = faults.groupby(["fault", "view"])[["load_tensors", "load_loss", "others"]].mean()
    print(named.to_string())


if __name__ == "__main__":
    main()
