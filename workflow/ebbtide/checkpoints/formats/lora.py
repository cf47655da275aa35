"""LoRA and DoRA adapters: what an `adapter_config.json` of PEFT says, and the arithmetic of merging.

Only what changes the merged weights is read. Variants of LoRA whose result is not W + s·BA (or its DoRA form)
are refused by the name of their key.

Sources: Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rank-stabilised LoRA), Liu et al. 2024 (DoRA).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.errors import CheckpointError
from ebbtide.notices import listed

if TYPE_CHECKING:
    from torch import Tensor

# Keys that do not change the merge: about training, or about where adapters were put, which the tensors show.
_WITHOUT_EFFECT = frozenset(
    (
        *("auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying"),
        *(
            "eva_config",
            "exclude_modules",
            "fan_in_fan_out",
            "inference_mode",
            "layers_pattern",
            "layers_to_transform",
            "lora_dropout",
        ),
        *("megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config"),
    )
)
_READ = frozenset(
    (
        *("alpha_pattern", "init_lora_weights", "lora_alpha", "lora_bias"),
        *("modules_to_save", "peft_type", "r", "rank_pattern", "target_modules", "task_type"),
        *("trainable_token_indices", "use_dora", "use_rslora"),
    )
)
_BASE_KEPT = (
    True,
    False,
    "gaussian",
    "eva",
    "orthogonal",
    "mica",
)  # initialisations that leave the base as it is
_LONGEST_PATTERN = 500  # characters of a regular expression in a file from anywhere


@dataclass(frozen=True)
class Lora:
    """The settings of an adapter.

    Attributes
    ----------
    ranks, alphas
        Regular expressions of module names, and the ranks and alphas of those modules.
    targets
        Names of modules with an adapter, if the file lists names and no other key selects among them; else
        empty.
    saved
        Names of modules that the adapter contains as a whole.
    rows
        Embedding module → token ids whose rows the adapter contains; the name is empty for "the embedding".
    """

    where: Path
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    rank_stabilised: bool
    dora: bool
    targets: tuple[str, ...]
    saved: tuple[str, ...]
    rows: Mapping[str, tuple[int, ...]]

    def rank_of(self, module: str) -> int:
        """The rank of a module's adapter."""
        return self.ranks.get(_pattern_of(self.ranks, module), self.rank)

    def scale_of(self, module: str) -> float:
        """The factor s of W + s·BA: alpha / rank, or alpha / √rank if rank-stabilised."""
        alpha, rank = self.alphas.get(_pattern_of(self.alphas, module), self.alpha), self.rank_of(module)
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank

    def rows_of(self, module: str) -> tuple[int, ...]:
        """The token ids whose rows of an embedding module the adapter contains."""
        found = (ids for name, ids in self.rows.items() if not name or is_at(module, name))
        return next(found, ())


def read_lora(config: Mapping[str, Any], where: Path) -> Lora:
    """The settings of an adapter from its `adapter_config.json`, which is the file `where`.

    Raises `CheckpointError` for another kind of adapter, and for keys of variants that merge differently.
    """
    _check_kind(config, where)
    _check_variant(config, where)
    names = config.get("target_modules")
    selected = config.get("layers_to_transform") is not None or config.get("exclude_modules")
    try:
        return Lora(
            where,
            rank=_positive(config["r"]),
            alpha=float(config["lora_alpha"]),
            ranks={_pattern(k): _positive(v) for k, v in (config.get("rank_pattern") or {}).items()},
            alphas={_pattern(k): float(v) for k, v in (config.get("alpha_pattern") or {}).items()},
            rank_stabilised=bool(config.get("use_rslora")),
            dora=bool(config.get("use_dora")),
            targets=tuple(map(str, names)) if isinstance(names, list) and not selected else (),
            saved=tuple(map(str, config.get("modules_to_save") or ())),
            rows=_rows(config.get("trainable_token_indices")),
        )
    except KeyError as error:
        raise CheckpointError(f"{where}: no key {error}; copy the adapter again.") from None
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise CheckpointError(f"{where}: it has a value of the wrong type ({error}).") from None


def _check_kind(config: Mapping[str, Any], where: Path) -> None:
    kind, task = config.get("peft_type"), config.get("task_type")
    if kind != "LORA":
        raise CheckpointError(
            f"{where}: peft_type: found {kind!r}; allowed: 'LORA' (with or without DoRA). Merge this adapter "
            "with PEFT (merge_and_unload), if its kind can be merged, and save the model."
        )
    if task not in (None, "CAUSAL_LM"):
        raise CheckpointError(
            f"{where}: task_type: found {task!r}; allowed: 'CAUSAL_LM' or null, because only language models "
            "are scored."
        )


def _check_variant(config: Mapping[str, Any], where: Path) -> None:
    start = config.get("init_lora_weights", True)
    if not any(start is kept or (isinstance(kept, str) and start == kept) for kept in _BASE_KEPT):
        raise CheckpointError(
            f"{where}: init_lora_weights: found {start!r}, which changes the weights of the base before "
            "training; save the adapter with path_initial_model_for_weight_conversion, which makes it an "
            "adapter of the original base."
        )
    others = [
        key for key, value in config.items() if value and key not in _READ and key not in _WITHOUT_EFFECT
    ]
    if others:
        raise CheckpointError(
            f"{where}: {listed(sorted(others), 3)}: found a variant of LoRA that is not merged here; merge "
            "the adapter with PEFT (merge_and_unload), if it can be merged, and save the model."
        )


def _rows(value: Any) -> dict[str, tuple[int, ...]]:
    named = value if isinstance(value, Mapping) else {"": value} if value else {}
    return {str(name): tuple(map(int, ids)) for name, ids in named.items()}


def _positive(value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"found the rank {value!r}, allowed: 1 or more")
    return value


def _pattern(text: str) -> str:
    if len(text) > _LONGEST_PATTERN:
        raise ValueError(f"found a pattern of {len(text):,} characters, allowed: {_LONGEST_PATTERN}")
    re.compile(text)
    return text


def _pattern_of(patterns: Mapping[str, Any], module: str) -> str:
    """The first pattern that matches the end of a module's name, as PEFT matches it; empty if none does."""
    return next((p for p in patterns if re.match(rf"(.*\.)?({p})$", module)), "")


def is_at(module: str, name: str) -> bool:
    """Whether a name is that of a module, or its end."""
    return module == name or module.endswith(f".{name}")


def merged(
    weight: "Tensor", a: "Tensor", b: "Tensor", scale: float, *, transposed: bool, magnitude: "Tensor | None"
) -> "Tensor":
    """The weight W + s·BA, in the precision of W; for DoRA m·(W + s·BA) / ‖W + s·BA‖, by output.

    Parameters
    ----------
    weight
        W, of shape (out, in); (in, out) if `transposed`.
    a, b
        Float32, of shapes (rank, in) and (out, rank).
    scale
        s.
    magnitude
        m of DoRA, of shape (out,); None for LoRA.
    """
    import torch

    change = b @ a
    whole: Tensor = weight + (change.t() if transposed else change) * scale
    if magnitude is None:
        return whole
    by_output = torch.linalg.norm(whole, dim=0 if transposed else 1)
    factor = magnitude / by_output
    scaled: Tensor = (factor if transposed else factor.unsqueeze(1)) * whole
    return scaled
