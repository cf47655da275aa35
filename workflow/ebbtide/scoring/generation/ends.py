"""What ends a sample: an end token, a stop string, or its length."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.checkpoints.configuration import configuration
from ebbtide.errors import CheckpointError
from ebbtide.files import read_json
from ebbtide.scoring.generation.decoding import EOS, LENGTH, STOP, Decoding, Sample

if TYPE_CHECKING:
    from ebbtide.scoring.tokenizer import Tokenizer

KEY = "eos_token_id"


def end_tokens(directory: str | Path, tokenizer: "Tokenizer") -> frozenset[int]:
    """Ids that end a text: those of `generation_config.json`, else of `config.json`; and the tokenizer's.

    Raises `CheckpointError` for a file that cannot be read, and for an entry that is not a token id.
    """
    path = Path(directory) / "generation_config.json"
    listed = read_json(path, CheckpointError).get(KEY) if path.exists() else None
    if listed is None:
        path = Path(directory) / "config.json"
        listed = configuration(directory).get(KEY)
    own = [tokenizer.eos] if listed is None else listed if isinstance(listed, list) else [listed]
    if not all(type(token) is int and token >= 0 for token in own if token is not None):
        raise CheckpointError(f"{path}: {KEY}: found {listed!r}, allowed: a token id or a list of them.")
    return frozenset(token for token in [*own, tokenizer.eos] if token is not None)


class Ends:
    """Decides after each token whether a sample ends."""

    def __init__(self, tokenizer: "Tokenizer", decoding: Decoding, eos: frozenset[int]) -> None:
        self._backend = tokenizer.backend
        self._decoding, self._eos = decoding, eos

    def reasons(self, samples: Sequence[Sequence[int]]) -> list[str | None]:
        """Why each sample, given by its tokens so far, ends with its last token; None if it goes on."""
        found: list[str | None] = [
            EOS if tokens[-1] in self._eos else LENGTH if len(tokens) >= self._decoding.max_tokens else None
            for tokens in samples
        ]
        if self._decoding.stop:
            for i, text in enumerate(self._texts(samples)):
                if found[i] != EOS and any(stop in text for stop in self._decoding.stop):
                    found[i] = STOP
        return found

    def sample(self, tokens: Sequence[int], loglikelihood: Sequence[float], ended: str) -> Sample:
        """A sample that has ended, with its text."""
        [text] = self._texts([tokens[:-1] if ended == EOS else tokens])
        if ended == STOP:
            text = text[: min(at for stop in self._decoding.stop if (at := text.find(stop)) >= 0)]
        return Sample(tuple(tokens), tuple(loglikelihood), ended, text)

    def _texts(self, samples: Sequence[Sequence[int]]) -> list[str]:
        """Texts of the new tokens alone, without special tokens."""
        found: list[str] = self._backend.decode_batch([list(tokens) for tokens in samples])
        return found
