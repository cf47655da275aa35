"""A training run in a process of its own: it copies a checkpoint with other weights, step by step.

    python trainer.py BASE RUN LOG

It writes step 100 and 200, and half of 300. When the watcher's LOG says that 300 waits, it writes the rest,
then step 400 with weights that are not numbers, and step 500.
"""

import shutil
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

WEIGHTS = "model.safetensors"


def weights(base: Path, step: int, *, broken: bool = False) -> bytes:
    """The weights of a step: those of the base, scaled; if broken, with NaN in each tensor."""
    tensors = load_file(base / WEIGHTS)
    scaled = {name: tensor * np.float32(1 + step / 1000) for name, tensor in tensors.items()}
    if broken:
        for tensor in scaled.values():
            tensor.flat[0] = np.nan
    return save(scaled, {"format": "pt"})


def write(base: Path, directory: Path, content: bytes) -> None:
    """Write a checkpoint as trainers do: the weights first, then the small files."""
    directory.mkdir(parents=True)
    (directory / WEIGHTS).write_bytes(content)
    for file in base.iterdir():
        if file.name != WEIGHTS:
            shutil.copyfile(file, directory / file.name)


def main(base: Path, run: Path, log: Path) -> None:
    for step in (100, 200):
        write(base, run / f"step{step}", weights(base, step))
    whole = weights(base, 300)
    write(base, run / "step300", whole[: len(whole) // 2])
    deadline = time.monotonic() + 300
    while "run/step300: waits" not in log.read_text():
        if time.monotonic() > deadline:
            sys.exit("the watcher has not seen step 300")
        time.sleep(0.1)
    with (run / "step300" / WEIGHTS).open("ab") as file:
        file.write(whole[len(whole) // 2 :])
    write(base, run / "step400", weights(base, 400, broken=True))
    write(base, run / "step500", weights(base, 500))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
