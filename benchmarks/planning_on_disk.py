"""Planning a study of large checkpoints on disk: seconds and bytes read, cold and warm.

    python benchmarks/planning_on_disk.py                   100 checkpoints of 13.5 GB, sparse files
    python benchmarks/planning_on_disk.py --checkpoints 10
    python benchmarks/planning_on_disk.py --load            a checkpoint of 2.5 GB: loading, hashing, both

The files are sparse: they have the sizes and headers of a Llama of 6.7 billion parameters and take no room.
`cold` is the first `snakemake -n`, without records; `warm` is the second, which finds them. Bytes are what
the process asked the system for (`rchar` in /proc), its own modules included.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ebbtide.checkpoints.verification import check_weights
from ebbtide.corpus import write_tokenizer

ROOT = Path(__file__).parents[1]
Shapes = Mapping[str, tuple[int, ...]]
LARGE = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
SMALL = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32}
STUDY = """
study: planning
models: [{{name: large, path: "{path}", steps: {steps}, tokens_per_step: 1}}]
tasks: [memo_trap_proverbs]
"""


def shapes(config: Mapping[str, int], vocabulary: int = 32000) -> dict[str, tuple[int, ...]]:
    """Tensors of a Llama with as many heads for keys as for queries."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, width)}
    for layer in range(config["num_hidden_layers"]):
        place = f"model.layers.{layer}"
        found |= {f"{place}.self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        found |= {f"{place}.mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        found[f"{place}.mlp.down_proj.weight"] = (width, inner)
        found |= {f"{place}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    return found | {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}


def write_sparse(path: Path, tensors: Shapes, first: int = 0) -> int:
    """A safetensors file (bfloat16) of zeros that takes no room, but for `first` in its first eight bytes.

    Returns its size in bytes.
    """
    header, end = {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + first.to_bytes(8, "little"))
        file.truncate(8 + len(text) + end)
    return 8 + len(text) + end


def write_checkpoint(
    directory: Path, config: Mapping[str, int], *, first: int = 0, shards: int = 3, vocabulary: int = 32000
) -> int:
    """A checkpoint directory of sparse files; returns the size of its weights in bytes."""
    directory.mkdir(parents=True)
    tensors = shapes(config, vocabulary)
    names = [f"model-{shard + 1:05}-of-{shards:05}.safetensors" for shard in range(shards)]
    where = {name: names[i * shards // len(tensors)] for i, name in enumerate(tensors)}
    sizes = [
        write_sparse(directory / file, {t: shape for t, shape in tensors.items() if where[t] == file}, first)
        for file in names
    ]
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    more = {"vocab_size": vocabulary, "max_position_embeddings": 2048, "dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", **config, **more}))
    write_tokenizer(directory)
    return sum(sizes)


@dataclass(frozen=True)
class DryRun:
    """A dry run: seconds on the clock, CPU seconds (user and system), and bytes read."""

    seconds: float
    cpu: float
    read: int


def dry_run(directory: Path) -> DryRun:
    """Plan the study `study.yaml` in a directory."""
    command = [sys.executable, "-m", "snakemake", "--dry-run"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(directory)]
    command += ["--configfile", str(directory / "study.yaml")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (directory / "output.txt").open("w") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # keeps its counters
        seconds = time.perf_counter() - started
        counters = Path(f"/proc/{process.pid}/io").read_text()
    if process.wait() != 0:
        sys.exit((directory / "output.txt").read_text()[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return DryRun(seconds, cpu, int(dict(line.split(": ") for line in counters.splitlines())["rchar"]))


def write_study(directory: Path, checkpoints: int) -> int:
    """A study of sparse checkpoints in a directory; returns the size of all weights in bytes."""
    steps = [1000 * (i + 1) for i in range(checkpoints)]
    size = sum(write_checkpoint(directory / f"step{step}", LARGE, first=step) for step in steps)
    (directory / "study.yaml").write_text(STUDY.format(path=directory / "step{step}", steps=steps))
    return size


def planning(checkpoints: int) -> Iterator[str]:
    """Lines about a cold and a warm dry run."""
    with tempfile.TemporaryDirectory() as folder:
        size = write_study(Path(folder), checkpoints)
        yield f"{checkpoints} checkpoints, {size / 1e9:,.0f} GB"
        for kind in ("cold", "warm"):
            run = dry_run(Path(folder))
            yield f"{kind}: {run.seconds:.1f} s, {run.cpu:.1f} s of CPU, {run.read / 1e6:,.0f} MB read"


def loading() -> Iterator[str]:
    """Lines about loading, hashing, and both side by side; the files are in the page cache."""
    from ebbtide.checkpoints.weight_files import weight_files
    from ebbtide.scoring.engine import load_scorer

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, "checkpoint")
        size = write_checkpoint(directory, SMALL, shards=2)
        for path in weight_files(directory):  # bytes on disk, not a sparse file's zeros
            content = path.read_bytes()
            path.write_bytes(content)
        yield f"{size / 1e9:.1f} GB, bfloat16, {os.cpu_count()} cores"
        weights = "sampled:0"

        def load() -> None:
            load_scorer(directory, "bfloat16")

        def hash_all() -> None:
            check_weights(directory, weights, "files:0", Path(folder, "store"))

        def both() -> None:
            with ThreadPoolExecutor(1) as pool:
                hashing = pool.submit(hash_all)
                load()
                hashing.result()

        for _ in range(5):
            for name, work in (("load", load), ("hash", hash_all), ("both", both)):
                started, cpu = time.perf_counter(), time.process_time()
                work()
                seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
                yield f"{name}: {seconds:.1f} s, {cpu:.1f} s of CPU"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--load", action="store_true", help="measure hashing beside loading instead")
    options = parser.parse_args()
    for line in loading() if options.load else planning(options.checkpoints):
        print(line, flush=True)


if __name__ == "__main__":
    main()
