"""Load a checkpoint's tokenizer.json without transformers if both would give the same tokens.

For most checkpoints, the tokenizer of transformers 5 is exactly `tokenizer.json`. For some, it adds tokens
that other files name. For others, a class takes only the vocabulary and builds its own pipeline. This module
compares the files with the pipelines of those classes, and returns None if they differ.

The extra code is worth its start-up time: loading the tokenizers of SmolLM2 135M and Gemma 3 270M takes 0.1
and 1.0 s of CPU time here, but 1.5 and 2.9 s with AutoTokenizer. The limit for the whole start-up is 2.5 s
(`python benchmarks/scoring.py --rows startup`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from ebbtide.checkpoints.configuration import configuration
from ebbtide.errors import CheckpointError, first_line
from ebbtide.files import read_json

PLAIN_CLASS = "TokenizersBackend"  # the transformers class that uses tokenizer.json as it is
PLAIN_CLASSES = (PLAIN_CLASS, "PreTrainedTokenizer", "BloomTokenizer")  # without the suffix Fast

# Tokenizer class that transformers registers for a model type. None: no class, so the class named in the
# checkpoint is used. Only types that our decoder supports are listed; for others, transformers is imported
# anyway. A test compares this table with the installed transformers.
REGISTERED: Mapping[str, str | None] = {
    "bloom": None,
    "llama": None,
    "olmo2": PLAIN_CLASS,
    "gpt_neox": "GPTNeoXTokenizer",
    "olmo": "GPTNeoXTokenizer",
    "gpt2": "GPT2Tokenizer",
    "opt": "GPT2Tokenizer",
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), "GemmaTokenizer"),
}

# Keys of tokenizer_config.json with effects that are not implemented here.
UNSUPPORTED_SETTINGS = (
    "auto_map",
    "fast_tokenizer_files",
    "fix_mistral_regex",
    "init_inputs",
    "model_specific_special_tokens",
    "split_special_tokens",
)

ADDED_TOKENS_LIMIT = (
    2**22
)  # characters of tokenizer.json to search for the added tokens, which precede the vocabulary


@dataclass(frozen=True)
class Pipeline:
    """The pipeline that a transformers class builds from the vocabulary and merges of a tokenizer.json.

    Using tokenizer.json as it is gives the same tokens only if its own pipeline is exactly this one.
    """

    normalizer: Any
    pre_tokenizer: Any
    model: Mapping[str, Any]  # settings of the BPE model
    special: Mapping[str, str]  # special tokens if the checkpoint defines none
    keeps_post_processor: bool = True  # False: the class drops the post-processor of the file


BYTE_LEVEL = {"unk_token": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
SENTENCE_PIECE = {"fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
END_OF_TEXT = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")


def _pipeline_of(name: str | None, settings: Mapping[str, Any]) -> Pipeline | None:
    space = settings.get("add_prefix_space", False)
    if name == "GPTNeoXTokenizer" and isinstance(space, bool):
        special = {**END_OF_TEXT, "pad_token": "<|padding|>"}
        return Pipeline(normalizers.NFC(), pre_tokenizers.ByteLevel(space), BYTE_LEVEL, special, False)
    if name == "GPT2Tokenizer" and isinstance(space, bool):
        return Pipeline(None, pre_tokenizers.ByteLevel(space), BYTE_LEVEL, END_OF_TEXT)
    if name == "GemmaTokenizer":
        special = {f"{key}_token": f"<{key}>" for key in ("unk", "bos", "eos", "pad", "mask")}
        pieces = {**SENTENCE_PIECE, "unk_token": _content(settings.get("unk_token", "<unk>"))}
        split = pre_tokenizers.Split(" ", "merged_with_previous")
        return Pipeline(normalizers.Replace(" ", "▁"), split, pieces, special)
    return None


def read_tokenizer_json(directory: Path, model: Path) -> tuple[Tokenizer, int | None, int | None] | None:
    """The tokenizer of a directory with the ids of its beginning and end tokens.

    `model` is the directory with the `config.json`, usually the same. None if transformers' AutoTokenizer
    might give other tokens. Raises `CheckpointError` for an unreadable file.
    """
    description = _describe(directory, model)
    if description is None:
        return None
    try:
        backend = Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception as error:  # tokenizers raises a plain Exception
        raise unreadable(directory, error) from error
    held = backend.get_added_tokens_decoder()
    if not _holds_all_tokens(backend, held, description):
        return None
    if description.pipeline and not (
        _has_pipeline(description.pipeline, backend) and _same_ids(held, description.listed, directory)
    ):
        return None
    bos, eos = (_content(description.special.get(key)) for key in ("bos_token", "eos_token"))
    if not all(token is None or isinstance(token, str) for token in (bos, eos)):
        return None  # transformers reports the error
    return (
        backend,
        None if bos is None else backend.token_to_id(bos),
        None if eos is None else backend.token_to_id(eos),
    )


def unreadable(directory: Path, error: Exception) -> CheckpointError:
    """The error for a tokenizer that a library cannot load."""
    return CheckpointError(f"{directory}: the tokenizer cannot be loaded: {first_line(error)}.")


def count_special_tokens(backend: Tokenizer) -> int:
    """Number of tokens that the post-processor adds before and after a text."""
    return backend.num_special_tokens_to_add(False)  # type: ignore[no-any-return]


def settings_of(part: Any) -> Any:
    """The settings of a normalizer or pre-tokenizer, without those that affect only token positions."""
    return _without_positions(json.loads(part.__getstate__())) if part is not None else None


def _without_positions(settings: Any) -> Any:
    if isinstance(settings, list):
        return [_without_positions(one) for one in settings]
    if isinstance(settings, dict):
        return {key: _without_positions(value) for key, value in settings.items() if key != "trim_offsets"}
    return settings


@dataclass(frozen=True)
class _Description:
    """Settings of a tokenizer from the small files of a checkpoint."""

    pipeline: Pipeline | None  # None: tokenizer.json is used as it is
    special: Mapping[str, Any]  # special tokens, among other settings
    settings: Mapping[str, Any]  # tokenizer_config.json
    listed: Mapping[int, AddedToken] | None  # its added tokens by id


def _describe(directory: Path, model: Path) -> _Description | None:
    """None if transformers might change the tokenizer in ways that are not implemented here."""
    settings = _read(directory / "tokenizer_config.json")
    unsupported = (
        any(settings.get(key) for key in UNSUPPORTED_SETTINGS) or not (directory / "tokenizer.json").exists()
    )
    listed, older = settings.get("added_tokens_decoder"), {}
    if listed is None:  # otherwise the two older files are ignored
        older = _read(directory / "special_tokens_map.json")
        unsupported = unsupported or (directory / "added_tokens.json").exists()
    config = configuration(model) if (model / "config.json").exists() else {}
    name = None if unsupported else _class_name(config, settings, directory)
    special = {**settings, **older}
    pipeline = _pipeline_of(name, special)
    if pipeline is None and name != PLAIN_CLASS:
        return None
    try:
        tokens = None if listed is None else {int(i): AddedToken(**token) for i, token in listed.items()}
    except (TypeError, ValueError, AttributeError):  # transformers reports the error
        return None
    return _Description(pipeline, {**(pipeline.special if pipeline else {}), **special}, settings, tokens)


def _class_name(config: Mapping[str, Any], settings: Mapping[str, Any], directory: Path) -> str | None:
    """The class that AutoTokenizer selects; None if unknown here."""
    kind = str(config.get("model_type"))
    if kind not in REGISTERED or "model_name" in config:
        return None
    registered = REGISTERED[kind]
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if named is None or registered == PLAIN_CLASS:
        return registered or PLAIN_CLASS
    if not isinstance(named, str):
        return None
    named = named.removesuffix("Fast")
    if named in PLAIN_CLASSES:
        return PLAIN_CLASS
    if named == "LlamaTokenizer" and _contains(
        directory, b'"ByteLevel"'
    ):  # a known mistake, which transformers corrects
        return PLAIN_CLASS
    return named


def _contains(directory: Path, words: bytes) -> bool:
    return words in (directory / "tokenizer.json").read_bytes()


def _holds_all_tokens(backend: Tokenizer, held: Mapping[int, AddedToken], description: _Description) -> bool:
    """Whether tokenizer.json already contains every token that transformers would add."""
    wanted = {backend.padding["pad_token"]} if backend.padding else set()
    for named in (description.special, description.settings):
        wanted |= {
            _content(token)
            for key, token in named.items()
            if key.endswith("_token") and isinstance(token, str | dict)
        }
        for key in ("extra_special_tokens", "additional_special_tokens"):
            more = named.get(key) or ()
            wanted |= {_content(token) for token in (more.values() if isinstance(more, dict) else more)}
    listed = set(_texts(description.listed or {}).values())
    return wanted <= {token.content for token in held.values()} and listed <= set(_texts(held).values())


def _has_pipeline(pipeline: Pipeline, backend: Tokenizer) -> bool:
    """Whether the pipeline of a class equals that of tokenizer.json."""
    model = backend.model
    wanted = {"dropout": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", **pipeline.model}
    return (
        isinstance(model, models.BPE)
        and all((getattr(model, key) or None) == (value or None) for key, value in wanted.items())
        and settings_of(backend.normalizer) == settings_of(pipeline.normalizer)
        and settings_of(backend.pre_tokenizer) == settings_of(pipeline.pre_tokenizer)
        and (pipeline.keeps_post_processor or not count_special_tokens(backend))
    )


def _same_ids(
    held: Mapping[int, AddedToken], listed: Mapping[int, AddedToken] | None, directory: Path
) -> bool:
    """Whether added tokens get the same ids in both libraries.

    `tokenizers` assigns ids in the order of the file, transformers in the order of the ids in the file.
    """
    with (directory / "tokenizer.json").open(encoding="utf-8") as file:
        text = file.read(ADDED_TOKENS_LIMIT)
    start = text.find("[", text.find('"added_tokens"'))
    try:
        written = json.JSONDecoder().raw_decode(text, start)[0]
        same = [(token["id"], token["content"]) for token in written] == [
            (i, token.content) for i, token in sorted(held.items())
        ]
    except (ValueError, TypeError, KeyError):  # too long, or another list
        return False
    return same and (listed is None or _texts(listed) == _texts(held))


def _texts(tokens: Mapping[int, AddedToken]) -> dict[int, str]:
    return {i: repr(token) for i, token in tokens.items()}


def _content(token: Any) -> Any:
    """The text of a token that is given as a string or as an object."""
    return token.get("content") if isinstance(token, dict) else token


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file is missing."""
    if not path.exists():
        return {}
    return read_json(path, CheckpointError)
