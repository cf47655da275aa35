"""Checkpoints that libraries of trainers write themselves, in processes of their own, and conversions."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HELPERS = Path(__file__).parent
TOLERANCE = 1e-4  # of logits with a standard deviation of about 1, in float32


def run_library(script: str, to: Path, processes: int, *names: str) -> Path:
    """Let so many processes of a script of this directory write checkpoints and their logits into `to`.

    `names` are those of the script's cases; by default, all of them.
    """
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, str(HELPERS / script), str(to), *names],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return to


def save_expected(to: Path, tokens: Any, logits: Any, config: dict[str, Any]) -> None:
    """Save the logits of a library, and the configuration that transformers takes for the same model."""
    import torch

    torch.save({"tokens": tokens, "logits": logits}, to / "expected.pt")
    (to / "config.json").write_text(json.dumps(config))


def check_logits(of: Path, checkpoint: Path, of_map: str) -> Path:
    """Convert a checkpoint and compare its logits with those in `of`; return the converted directory."""
    import torch
    from transformers import AutoModelForCausalLM

    import formats
    from ebbtide.corpus import write_tokenizer

    write_tokenizer(of)
    reading = formats.reading("dcp", of_map, config=str(of), tokenizer=str(of))
    to = formats.converted(checkpoint, reading, of / "converted/source.json")
    expected = torch.load(of / "expected.pt")
    model = AutoModelForCausalLM.from_pretrained(to, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        found = model.eval()(expected["tokens"]).logits
    assert expected["logits"].std() > 0.5
    torch.testing.assert_close(found, expected["logits"], rtol=0, atol=TOLERANCE)
    return to
