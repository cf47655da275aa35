"""The generated toy language: a corpus small enough to train a ladder of models on a laptop, and its tasks.

`words` (vocabulary) → `world` (facts and proverbs), `ratings` (of things by people) → `documents` (training
text), `items` (tasks), `held_out` (text for the loss) and `tokenizer`. `entropy` and `likelihood` compute
exact properties of the language. Everything is determined by integer seeds. Importing this package loads
neither pandas nor tokenizers.
"""

from ebbtide.corpus.documents import DOCUMENTS, token_stream
from ebbtide.corpus.held_out import HELD_OUT, held_out_requests
from ebbtide.corpus.items import TOY_TASKS, toy_requests
from ebbtide.corpus.tokenizer import write_tokenizer
from ebbtide.corpus.world import World

__all__ = [
    "DOCUMENTS",
    "HELD_OUT",
    "TOY_TASKS",
    "World",
    "held_out_requests",
    "token_stream",
    "toy_requests",
    "write_tokenizer",
]
