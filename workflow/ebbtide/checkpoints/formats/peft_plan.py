"""What a PEFT adapter does to the tensors of its base, from the names and shapes of both.

Names in the adapter are paths of modules; those in the files of the base may lack the first part of a path.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ebbtide.checkpoints.formats.lora import Lora, is_at
from ebbtide.errors import CheckpointError, nearest

Shapes = Mapping[str, tuple[int, ...]]

_NAME = re.compile(
    r"base_model\.model\.(?P<module>.+?)\.(?P<part>lora_[AB]\.weight|lora_B\.bias|lora_embedding_[AB]"
    r"|lora_magnitude_vector(?:\.weight)?|token_adapter\.trainable_tokens_delta"
    r"|(?:base_layer\.|modules_to_save\.)?(?:weight|bias))"
)
_UNUSED = re.compile(r".+\.original_module\.(weight|bias)")  # a copy of the base's beside a whole tensor
_COPY = "modules_to_save."
_KINDS = {  # part of a name, without `.weight` → what it is
    **{"lora_A": "a", "lora_B": "b", "lora_embedding_A": "a", "lora_embedding_B": "b"},
    **{"lora_B.bias": "added", "lora_magnitude_vector": "magnitude"},
    **{"token_adapter.trainable_tokens_delta": "rows"},
}
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|embed_in|word_embeddings)\.weight$")
_HEADS = ("lm_head.weight", "embed_out.weight")
_CONV1D = re.compile(r"(?:^|\.)(?:c_attn|q_attn|c_proj|c_fc)$")  # modules that store (in, out)
_CONV1D_TYPES = ("gpt2", "openai-gpt")


@dataclass(frozen=True)
class Pair:
    """An adapter and its base: its settings, the shapes of the tensors of both, and the base's configuration.

    `where` is the file of the adapter, for messages.
    """

    lora: Lora
    adapter: Shapes
    base: Shapes
    config: Mapping[str, Any]
    where: str

    def foreign(self, problem: str) -> CheckpointError:
        """The error for an adapter of another model than the base."""
        return CheckpointError(f"{self.where}: {problem}. Set `base:` to the model that was adapted.")


@dataclass
class Edit:
    """How one tensor of the merged checkpoint is made.

    Attributes
    ----------
    base
        Name of the tensor of the base that it begins with.
    module
        Path of its module.
    transposed
        Whether the tensor is stored (in, out), as those of embeddings and of GPT-2's layers are.
    keys
        What the adapter has for it → name of the tensor in the adapter: `replaced` (all of it), `copy` (the
        same again), `a` and `b` (the factors), `magnitude` (of DoRA), `added` (the bias of b), `rows` (of an
        embedding).
    """

    base: str
    module: str
    transposed: bool
    keys: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The tensors that the adapter changes, the shapes of all merged tensors, and their configuration."""

    edits: Mapping[str, Edit]
    shapes: Shapes
    config: Mapping[str, Any]


def plan(pair: Pair) -> Plan:
    """Plan the merge.

    Raises `CheckpointError` for tensors of another kind of adapter, of no tensor of the base or of another
    shape, and for an incomplete adapter.
    """
    edits = _edits(pair)
    for edit in edits.values():
        if "copy" in edit.keys and "replaced" not in edit.keys:
            edit.keys["replaced"] = edit.keys.pop("copy")
    tied = not any(head in pair.base for head in _HEADS)
    untied = tied and _untie(edits, pair)
    for problem in _lacking(edits, pair):
        raise CheckpointError(f"{pair.where} is not complete: {problem}; copy or save the adapter again.")
    shapes = {**pair.base, **{name: _shape_of(name, edit, pair) for name, edit in edits.items()}}
    changed = {"tie_word_embeddings": False} if untied else {}
    return Plan(edits, shapes, {**pair.config, **changed, **_vocabulary(shapes, pair)})


def _edits(pair: Pair) -> dict[str, Edit]:
    edits: dict[str, Edit] = {}
    for key in pair.adapter:
        if _UNUSED.fullmatch(key):
            continue
        match = _NAME.fullmatch(key)
        if match is None:
            raise CheckpointError(
                f"{pair.where}: tensor {key!r} is of no kind that is merged here: factors of LoRA or DoRA, "
                "whole tensors, rows of an embedding."
            )
        module, part = match["module"], match["part"]
        target = f"{module}.{'bias' if part.endswith('bias') else 'weight'}"
        found = _name_in_base(target, pair.base)
        if found is None and target not in _HEADS:
            close = nearest(target, list(pair.base))
            raise pair.foreign(f"{key} belongs to the tensor {target}, which the base does not have{close}")
        transposed = "embedding" in part or _is_conv1d(module, pair.config)
        edit = edits.setdefault(found or target, Edit(found or _embedding(pair), module, transposed))
        kind = _KINDS.get(part.removesuffix(".weight"), "copy" if part.startswith(_COPY) else "replaced")
        if kind in edit.keys:
            raise CheckpointError(f"{pair.where}: {edit.keys[kind]} and {key} change the same tensor.")
        edit.keys[kind] = key
    return edits


def _is_conv1d(module: str, config: Mapping[str, Any]) -> bool:
    """Whether a module stores (in, out). `fan_in_fan_out` is not read: it is that of one module only."""
    return config.get("model_type") in _CONV1D_TYPES and _CONV1D.search(module) is not None


def _name_in_base(target: str, base: Shapes) -> str | None:
    """The name of an adapted tensor in the base, where the output matrix has one of two names."""
    heads = _HEADS if target in _HEADS else ()
    return next((name for name in (target, target.partition(".")[2], *heads) if name in base), None)


def _embedding(pair: Pair) -> str:
    found = [name for name in pair.base if _EMBEDDING.search(name)]
    if len(found) != 1:
        raise CheckpointError(
            f"{pair.where}: it changes the output matrix, which the base does not have; found {len(found)} "
            "embeddings to which it could be tied."
        )
    return found[0]


def _untie(edits: dict[str, Edit], pair: Pair) -> bool:
    """Whether embedding and output matrix, one tensor in the base, become two; adds the second to `edits`.

    In training, a change of one of them does not change the other: adapters that keep them equal have changes
    of both. Only rows of the embedding are those of both.
    """
    head = next((name for name in _HEADS if name in edits), None)
    embeddings = [edit for name, edit in edits.items() if _EMBEDDING.search(name)]
    if head is None:
        if not embeddings or all(edit.keys.keys() == {"rows"} for edit in embeddings):
            return False
        head = _HEADS[pair.config.get("model_type") == "gpt_neox"]
        edits[head] = Edit(_embedding(pair), head.removesuffix(".weight"), transposed=False)
    return True


def _lacking(edits: Mapping[str, Edit], pair: Pair) -> Iterator[str]:
    """Yield what an adapter lacks that its settings or its other tensors imply."""
    lora = pair.lora
    for edit in edits.values():
        for one, other in (("a", "b"), ("b", "a"), ("magnitude", "a")):
            if one in edit.keys and other not in edit.keys:
                yield f"it has {edit.keys[one]}, but not the other factor"
        if lora.dora and "a" in edit.keys and "magnitude" not in edit.keys:
            yield f"use_dora is true, but {edit.module} has no lora_magnitude_vector"
        if not lora.dora and "magnitude" in edit.keys:
            yield f"use_dora is not true, but it has {edit.keys['magnitude']}"
    factors = {edit.base for edit in edits.values() if "a" in edit.keys}
    for name, shape in pair.base.items():
        module = name.removesuffix(".weight")
        if len(shape) == 2 and name not in factors and any(is_at(module, one) for one in lora.targets):
            yield f"target_modules includes {module}, for which it has no factors"
    for name in lora.saved:
        if not any(f".{name}." in f".{edit.module}." for edit in edits.values()):
            yield f"modules_to_save includes {name}, for which it has no tensor"


def _shape_of(name: str, edit: Edit, pair: Pair) -> tuple[int, ...]:
    """The shape of a merged tensor: that of the base, but embeddings may have more or fewer rows."""
    shape, keys = pair.base[edit.base], edit.keys
    if "replaced" in keys and _is_over_vocabulary(name):
        new = pair.adapter[keys["replaced"]]
        shape = new if len(new) == 2 and new[1:] == shape[1:] else shape
    expected = {"replaced": shape, "copy": shape, "added": shape}
    if "a" in keys and len(shape) == 2:
        out, into = shape[::-1] if edit.transposed else shape
        rank = pair.lora.rank_of(edit.module)
        expected |= {"a": (rank, into), "b": (out, rank), "magnitude": (out,)}
    if "rows" in keys:
        ids = pair.lora.rows_of(edit.module)
        expected["rows"] = (len(ids), *shape[1:])
        if outside := [number for number in ids if not 0 <= number < shape[0]]:
            found = f"trainable_token_indices has {outside[0]}"
            raise pair.foreign(f"{found}, but {edit.base} of the base has {shape[0]} rows")
    for kind, key in keys.items():
        if pair.adapter[key] != expected.get(kind):
            implied = f"{edit.base} of the base and adapter_config.json imply {_text(expected.get(kind, ()))}"
            raise pair.foreign(f"{key} has the shape {_text(pair.adapter[key])}, but {implied}")
    return shape


def _vocabulary(shapes: Shapes, pair: Pair) -> dict[str, int]:
    """The number of tokens, if the adapter has more or fewer than the base."""
    now, before = ({one[name][0] for name in one if _is_over_vocabulary(name)} for one in (shapes, pair.base))
    if len(now) > 1 and now != before:
        raise CheckpointError(
            f"{pair.where}: embedding and output matrix have {' and '.join(map(str, sorted(now)))} rows; "
            "save the adapter with save_embedding_layers=True."
        )
    return {"vocab_size": now.pop()} if now != before else {}


def _is_over_vocabulary(name: str) -> bool:
    return name in _HEADS or _EMBEDDING.search(name) is not None


def _text(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "of a single value"
