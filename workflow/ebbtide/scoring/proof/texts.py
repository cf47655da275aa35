"""The fixed texts of load proofs: 64 English ones, or 64 of the toy language for models that know only that.

The English texts were written for this purpose, so no benchmark has them. Their number and words never
change under one version.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.corpus.held_out import held_out_texts
from ebbtide.corpus.words import END_OF_TEXT, VOCABULARY
from ebbtide.corpus.world import World

if TYPE_CHECKING:
    from ebbtide.scoring.tokenizer import Tokenizer

_FILE = Path(__file__).with_name("texts.json")
# Every ladder is trained on plain sentences. A kind that its mixture lacks it reads worse than a guess.
TOY_MIXTURE = {"plain": 1.0}
COUNT = 64


@dataclass(frozen=True)
class Texts:
    """Texts of one language.

    Attributes
    ----------
    language
        The name in sentences: `English`, or `toy-language`.
    version
        Another version has other texts.
    """

    language: str
    version: int
    texts: tuple[str, ...]


@cache
def english() -> Texts:
    """The English texts."""
    content = json.loads(_FILE.read_text(encoding="utf-8"))
    return Texts("English", content["version"], tuple(content["texts"]))


@cache
def toy() -> Texts:
    """Held-out plain sentences of the toy language, in which ladders are trained, whatever their world."""
    documents = held_out_texts(World(), TOY_MIXTURE, COUNT, seed=64)
    return Texts("toy-language", 1, tuple(text.removesuffix(f" {END_OF_TEXT}") for text in documents))


def texts_for(tokenizer: "Tokenizer") -> Texts:
    """The texts to read with a tokenizer: those of the toy language if it has its words and no others."""
    return toy() if tokenizer.backend.get_vocab() == VOCABULARY else english()
