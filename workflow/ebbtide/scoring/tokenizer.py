"""The tokenizer of a checkpoint: texts to token ids, and nothing else.

transformers costs seconds of start-up, so it is asked only where it may give other tokens than the plain
`tokenizer.json`. And because requests repeat each other's contexts, a text is cut between words where
the tokenizer itself would cut it, and each piece is encoded once.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from ebbtide.checkpoints.hub.fetched import runs_code
from ebbtide.errors import CheckpointError
from ebbtide.scoring.tokenizer_json import count_special_tokens, read_tokenizer_json, settings_of, unreadable

BATCH = 256  # texts whose pieces are held at once

# Between a letter and a space before a letter. Pre-tokenizers of the GPT families always cut there: none of
# their alternatives matches a letter and then a space, and none that matches before it looks beyond.
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
        Without truncation, padding and post-processor: what is encoded is the text and nothing else.
    bos, eos
        Ids of the tokens that begin and end a text, where the checkpoint names them.
    beginning
        Ids that the tokenizer's own post-processor puts before a text (often none, or one).
    by_words
        Whether a text's tokens are those of its pieces between words.
    """

    backend: Backend
    bos: int | None
    eos: int | None
    beginning: tuple[int, ...]
    by_words: bool = False

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens; fast where texts repeat words.

        Raises what the backend raises for a text it cannot encode (a plain `Exception` when a word-level
        vocabulary has no unknown token).
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
        """As `ids`, with each token's place in the text (`tokenizers.Encoding`); slower."""
        return self.backend.encode_batch(texts, add_special_tokens=False)  # type: ignore[no-any-return]

    def cut(self, text: str, end: int) -> int:
        """The last place up to `end` (characters) where `text` may be cut and keep its tokens; 0: none."""
        place = text.rfind(" ", 0, end + 1) if self.by_words else 0
        while place > 0 and not BETWEEN_WORDS.match(text, place):
            place = text.rfind(" ", 0, place)
        return max(place, 0)


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """The fast tokenizer of a checkpoint directory, from local files only.

    Its tokens are those of `transformers.AutoTokenizer`, which is imported only where it may differ from the
    plain `tokenizer.json`.

    Raises
    ------
    CheckpointError
        A file that cannot be read; a tokenizer that only exists in Python.
    """
    directory = Path(directory)
    backend, bos, eos = read_tokenizer_json(directory) or _by_transformers(directory)
    backend.no_truncation()
    backend.no_padding()
    beginning = _beginning(backend)
    backend.post_processor = None  # it may trim the places of tokens
    return Tokenizer(backend, bos, eos, beginning, _cuts_between_words(backend))


def check_vocabulary(tokenizer: Tokenizer, rows: int, directory: str | Path) -> None:
    """Raise `CheckpointError` for a tokenizer with more words than the model's embedding has rows.

    Added tokens are left aside: some tokenizers have one for pictures that the model of text alone lacks.
    One that a text holds is met when it is encoded.
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


def _by_transformers(directory: Path) -> tuple[Backend, int | None, int | None]:
    from transformers import AutoTokenizer

    trusted = runs_code(directory)
    try:
        made = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=trusted)
    except Exception as error:  # transformers raises many kinds for an unreadable directory
        raise unreadable(directory, error) from error
    backend = getattr(made, "backend_tokenizer", None)
    if not isinstance(backend, Backend):
        raise CheckpointError(
            f"{directory}: {type(made).__name__} is a tokenizer in Python; a checkpoint needs one that "
            "tokenizer.json holds."
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
        if 0 in encoding.special_tokens_mask:  # 1: put there by the post-processor
            return tuple(encoding.ids[: encoding.special_tokens_mask.index(0)])
    return ()


def _candidate_words(backend: Backend) -> Iterator[str]:
    yield "a"
    yield from backend.get_vocab()


def _cuts_between_words(backend: Backend) -> bool:
    """Whether the pipeline is one of those that `BETWEEN_WORDS` is true of."""
    if not isinstance(backend.model, models.BPE) or backend.model.dropout:
        return False
    if backend.normalizer is not None and not isinstance(backend.normalizer, normalizers.NFC):
        return False
    for token in backend.get_added_tokens_decoder().values():
        beyond = token.lstrip or token.rstrip or token.single_word  # looks at its neighbours
        if beyond or re.search("[A-Za-z] ", token.content):
            return False
    return settings_of(backend.pre_tokenizer) in [settings_of(known) for known in _known_pre_tokenizers()]


def _known_pre_tokenizers() -> Iterator[Any]:
    """The pre-tokenizers that are known to cut there."""
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    yield gpt2
    for single in (False, True):
        yield pre_tokenizers.Sequence([pre_tokenizers.Digits(single), gpt2])
    for digits in DIGITS:
        words = pre_tokenizers.Split(Regex(digits.join(GPT4_WORDS)), "isolated")
        alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        yield pre_tokenizers.Sequence([words, alone])
