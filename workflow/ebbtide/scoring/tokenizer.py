"""The tokenizer of a checkpoint: from texts to token ids.

Importing transformers takes seconds, so it is used only if it might give other tokens than the plain
`tokenizer.json`. Requests often share contexts. Texts are therefore split between words, where the tokenizer
itself would split them, and each distinct piece is encoded once.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from ebbtide.checkpoints.directory import tokenizer_directory
from ebbtide.checkpoints.hub.fetched import allows_remote_code
from ebbtide.checkpoints.weight_files import check_small_files
from ebbtide.errors import CheckpointError
from ebbtide.scoring.tokenizer_json import count_special_tokens, read_tokenizer_json, settings_of, unreadable

BATCH = 256  # texts split at once

# Between a letter and a space before a letter. Pre-tokenizers of the GPT families always split there: no
# alternative of their expressions matches a letter and then a space, and none looks beyond the boundary.
BETWEEN_WORDS = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])")
GPT4_WORDS = (  # the expression of Llama 3, OLMo 2, Qwen 2 …, which differ in how they group digits
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
DIGITS = (r"\p{N}", r"\p{N}{1,3}")


@dataclass(frozen=True)
class Tokenizer:
    """A checkpoint's tokenizer.

    Attributes
    ----------
    backend
        Without truncation, padding and post-processor, so that only the text is encoded.
    bos, eos
        Ids of the beginning and end tokens; None if the checkpoint does not define them.
    beginning
        Ids that the tokenizer's post-processor prepends to a text (often none or one).
    by_words
        Whether a text can be split between words without changing its tokens.
    """

    backend: Backend
    bos: int | None
    eos: int | None
    beginning: tuple[int, ...]
    by_words: bool = False

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens; fast if texts share words.

        Errors of the backend are not caught: it raises a plain `Exception` for a text that it cannot encode,
        such as with a word-level vocabulary without an unknown token.
        """
        if not self.by_words:
            return self._ids(texts)
        known: dict[str, list[int]] = {}
        found: list[list[int]] = []
        for first in range(0, len(texts), BATCH):
            pieces = [BETWEEN_WORDS.split(text) for text in texts[first : first + BATCH]]
            new = list(dict.fromkeys(piece for piece in chain.from_iterable(pieces) if piece not in known))
            known |= zip(new, self._ids(new), strict=True)
            found += (list(chain.from_iterable(map(known.__getitem__, text))) for text in pieces)
        return found

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def encodings(self, texts: Sequence[str]) -> list[Any]:
        """Like `ids`, but with the position of each token in the text (`tokenizers.Encoding`); slower."""
        return self.backend.encode_batch(texts, add_special_tokens=False)  # type: ignore[no-any-return]

    def cut(self, text: str, end: int) -> int:
        """The last character index up to `end` where `text` can be split and keep its tokens, else 0."""
        index = text.rfind(" ", 0, end + 1) if self.by_words else 0
        while index > 0 and not BETWEEN_WORDS.match(text, index):
            index = text.rfind(" ", 0, index)
        return max(index, 0)


def load_tokenizer(directory: str | Path, tokenizer: str | Path | None = None) -> Tokenizer:
    """The fast tokenizer of a checkpoint directory, from local files only.

    `tokenizer` is the directory of its files; None: see `checkpoints.directory.tokenizer_directory`. Its
    tokens are those of `transformers.AutoTokenizer`, which is imported only if it might differ from the plain
    `tokenizer.json`.

    Raises
    ------
    CheckpointError
        A file cannot be read, or the tokenizer exists only in Python.
    """
    model = Path(directory)
    try:
        place = tokenizer_directory(model, tokenizer)
    except CheckpointError as error:
        if error.finding != "no_tokenizer":
            raise
        place = model  # it may have another kind of tokenizer
    backend, bos, eos = read_tokenizer_json(place, model) or _by_transformers(place, model)
    backend.no_truncation()
    backend.no_padding()
    beginning = _beginning(backend)
    backend.post_processor = None  # it may change the positions of tokens
    return Tokenizer(backend, bos, eos, beginning, _cuts_between_words(backend))


def check_vocabulary(tokenizer: Tokenizer, rows: int, directory: str | Path) -> None:
    """Raise `CheckpointError` if the tokenizer has ids beyond the rows of the model's embedding.

    Added tokens are ignored: some tokenizers have one for images that the text model lacks. If a text
    contains it, encoding the request raises an error.
    """
    backend = tokenizer.backend
    if backend.get_vocab_size(with_added_tokens=False) <= rows:
        return
    added = backend.get_added_tokens_decoder()
    largest = max(i for i in backend.get_vocab(with_added_tokens=False).values() if i not in added)
    if largest >= rows:
        raise CheckpointError(
            f"{directory}: the tokenizer has ids up to {largest}, the model's vocabulary has {rows} rows; "
            "the tokenizer does not belong to these weights."
        )


def _by_transformers(directory: Path, model: Path) -> tuple[Backend, int | None, int | None]:
    from transformers import AutoConfig, AutoTokenizer

    check_small_files(directory)
    trusted = allows_remote_code(directory)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trusted}
    try:
        if directory != model:  # the class of the tokenizer may follow from that of the model
            options["config"] = AutoConfig.from_pretrained(str(model), **options)
        made = AutoTokenizer.from_pretrained(str(directory), **options)
    except Exception as error:  # transformers raises many types for an unreadable directory
        raise unreadable(directory, error) from error
    backend = getattr(made, "backend_tokenizer", None)
    if not isinstance(backend, Backend):
        raise CheckpointError(
            f"{directory}: {type(made).__name__} is implemented in Python; a checkpoint needs a tokenizer "
            "in tokenizer.json."
        )
    backend.encode_special_tokens = bool(made.split_special_tokens)
    return backend, made.bos_token_id, made.eos_token_id


def _beginning(backend: Backend) -> tuple[int, ...]:
    if not count_special_tokens(backend):
        return ()
    for word in _candidate_words(backend):
        try:
            encoding = backend.encode(word)
        except Exception:  # a word-level vocabulary without an unknown token
            continue
        if 0 in encoding.special_tokens_mask:  # 1: added by the post-processor
            return tuple(encoding.ids[: encoding.special_tokens_mask.index(0)])
    return ()


def _candidate_words(backend: Backend) -> Iterator[str]:
    yield "a"
    yield from backend.get_vocab()


def _cuts_between_words(backend: Backend) -> bool:
    """Whether the pipeline is one of those that always split at `BETWEEN_WORDS`."""
    if not isinstance(backend.model, models.BPE) or backend.model.dropout:
        return False
    if backend.normalizer is not None and not isinstance(backend.normalizer, normalizers.NFC):
        return False
    for token in backend.get_added_tokens_decoder().values():
        beyond = token.lstrip or token.rstrip or token.single_word  # depends on adjacent characters
        if beyond or re.search("[A-Za-z] ", token.content):
            return False
    return settings_of(backend.pre_tokenizer) in [settings_of(known) for known in _known_pre_tokenizers()]


def _known_pre_tokenizers() -> Iterator[Any]:
    """The pre-tokenizers that are known to split there."""
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    yield gpt2
    for single in (False, True):
        yield pre_tokenizers.Sequence([pre_tokenizers.Digits(single), gpt2])
    for digits in DIGITS:
        words = pre_tokenizers.Split(Regex(digits.join(GPT4_WORDS)), "isolated")
        alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        yield pre_tokenizers.Sequence([words, alone])
