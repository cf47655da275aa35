"""The tokenizer: one token per word, in Hugging Face layout."""

import json
from pathlib import Path

from ebbtide.corpus.words import END_OF_TEXT, VOCABULARY


def write_tokenizer(directory: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` into `directory`, for `AutoTokenizer`.

    Words are split at whitespace, and each is one token with or without a leading space. The tokenizer itself
    prepends the end-of-text token (id 0: bos, eos and pad), so prompts begin like documents. There is no
    unknown token: encoding a word outside the vocabulary raises an error.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(VOCABULARY))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A $B",
        special_tokens=[(END_OF_TEXT, VOCABULARY[END_OF_TEXT])],
    )
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": 128,
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
