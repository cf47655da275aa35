"""Which tests may be skipped where every skip counts (CI=true): the one list of reasons.

A skip elsewhere is shown, and fails nothing: a laptop may lack the reference data or Slurm.
"""

import re

# Pattern of the reason → why CI cannot run the test.
ALLOWED = {
    r"needs a GPU": "CI has none",
    r"Slurm is not installed|Slurm .* only": "Slurm can be installed on Debian as root only",
    r"trackio is not installed": "it needs an older Pillow than the tested one",
    r"vllm is not installed": "it needs an older transformers than the tested one",
    r"(olmo_core|megatron-core) is not installed": "trainers: the peers of maps are installed by hand",
    r"no Chromium": "Chromium can be installed on Debian as root only",
    r"no reference data|no copy of the testbed": "reference data may lie beside a checkout",
    r"pip cannot download": "the packages with the real models are on a registry that may be out of reach",
    r"lm-eval 0\.5 only": "a pre-release, for which the tests of lm-eval's tasks also run by hand",
    r"needs /proc": "counts bytes and threads of a process on Linux only",
}


def unexpected(skipped: list[tuple[str, str]]) -> list[str]:
    """Lines about the skips that no reason allows, of (test, reason)."""
    return [
        f"{test}: {reason}"
        for test, reason in skipped
        if not any(re.search(pattern, reason) for pattern in ALLOWED)
    ]
