"""Whether the back end of generated texts can be used, as far as it is known before anything is scored."""

from typing import TYPE_CHECKING

from ebbtide.errors import ConfigError
from ebbtide.scoring.scorer import FAKE, VLLM
from ebbtide.scoring.vllm_backend.package import check_package

if TYPE_CHECKING:
    from ebbtide.study.study import Study


def check_generation_backend(study: "Study") -> None:
    """Raise `ConfigError` for settings that exclude vLLM."""
    scoring = study.config["scoring"]
    if VLLM not in study.backends():
        return
    where = f"{study.file}: scoring.generation_backend: found '{VLLM}', but"
    remedy = "or set it to same"
    if scoring["backend"] == FAKE:
        raise ConfigError(
            f"{where} scoring.backend: fake has no model to generate with; set another, {remedy}."
        )
    if scoring["offload"]:
        raise ConfigError(
            f"{where} with scoring.offload: true a part of a model can be in CPU memory, which vLLM does not "
            f"support; set it to false, {remedy}."
        )
    precisions = [(scoring["dtype"], "scoring.dtype is")]
    if scoring["dtype"] == "checkpoint":
        precisions = [(c.dtype, f"{c.model}/{c.name} has the precision") for c in study.checkpoints()]
    for dtype, what in precisions:
        if dtype == "float64":
            raise ConfigError(
                f"{where} {what} float64, which vLLM does not support; set scoring.dtype to float32, "
                f"bfloat16 or float16, {remedy}."
            )


def check_package_of(study: "Study", task: str) -> None:
    """Raise `ConfigError` if the back end of a task needs a package that is not installed."""
    if study.backend(task) == VLLM:
        check_package(f"{study.file}: scoring.generation_backend: {VLLM}")
