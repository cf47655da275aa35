"""The lean tokenizer gives what transformers' AutoTokenizer gives, or steps aside for it."""

import json
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

import tiny
from ebbtide.errors import CheckpointError
from ebbtide.scoring.families import FAMILIES
from ebbtide.scoring.tokenizer import Tokenizer, load_tokenizer
from ebbtide.scoring.tokenizer_json import REGISTERED, read_tokenizer_json
from real_models import gemma3, smollm2

ODD = [
    "",
    " ",
    "ab cd abcd",
    "  two  spaces \n\n\t and\r\nlines   ",
    "Übung, 東京 and 🤯🤯; e\u0301 is not é\u00a0",
    "a <s>text</s> with <|endoftext|> in it<|im_start|>, <bos>and <pad> <eos>",
    "<s>begins so",
    "<bos>begins so",
    "12345 x=1;  --> don't",
    "\u200bzero\ufeff width",
]
REPAIRED = pytest.mark.skipif(
    Version(version("transformers")) < Version("5.23"), reason="transformers reads byte-level files wrongly"
)
WORDS = ["", "the old child", "a <|endoftext|> a", "<|endoftext|>", "the  short\nchild ."]


def compare(directory: Path, texts: list[str]) -> Tokenizer:
    """Load both ways; tokens, beginning, and special tokens are the same."""
    from transformers import AutoTokenizer

    found = load_tokenizer(directory)
    expected = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    assert found.ids(texts) == [expected(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert [e.ids for e in found.encodings(texts)] == found.ids(texts)
    assert (found.bos, found.eos) == (expected.bos_token_id, expected.eos_token_id)
    for text, bare in zip(texts, found.ids(texts), strict=True):
        full = expected(text)["input_ids"]
        assert tuple(full[: len(found.beginning) + len(bare)]) == (*found.beginning, *bare)
    return found


def is_lean(directory: Path) -> bool:
    return read_tokenizer_json(directory, directory) is not None


def saved(directory: Path, tokenizer: Any, family: str | None = "llama", **settings: Any) -> Path:
    """A directory with a tokenizer, the type of its model and settings of tokenizer_config.json."""
    directory.mkdir(exist_ok=True)
    getattr(tokenizer, "backend_tokenizer", tokenizer).save(str(directory / "tokenizer.json"))
    if family:
        (directory / "config.json").write_text(json.dumps({"model_type": family}))
    settings = {"bos_token": "<s>", "eos_token": "</s>", **settings}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


def neox(*, beginning: bool = False) -> Backend:
    """A tokenizer.json as GPTNeoXTokenizer builds it, with a token of spaces beyond the vocabulary."""
    backend = tiny.bpe(beginning=beginning).backend_tokenizer
    backend.normalizer = normalizers.NFC()
    if not beginning:
        backend.post_processor = processors.ByteLevel(trim_offsets=True)
    backend.add_special_tokens(["<|endoftext|>", "<|padding|>"])
    backend.add_tokens(["   "])
    return backend


def test_the_tokenizer_of_the_toy_language(tmp_path: Path) -> None:
    directory = tiny.checkpoint(tmp_path)
    assert is_lean(directory)
    assert compare(directory, WORDS).beginning == (0,)


@pytest.mark.parametrize("added", [None, True, False])
@pytest.mark.parametrize("beginning", [False, True])
@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize(
    "kind",  # of model and tokenizer
    [
        ("llama", "PreTrainedTokenizerFast"),
        pytest.param(("llama", "LlamaTokenizer"), marks=REPAIRED),
        ("llama", None),
        ("gpt_neox", "TokenizersBackend"),
        ("olmo2", "GPT2Tokenizer"),
        ("bloom", "BloomTokenizerFast"),
    ],
)
def test_a_tokenizer_json_that_transformers_reads_as_it_is(
    tmp_path: Path, kind: tuple[str, str | None], beginning: bool, end: bool, added: bool | None
) -> None:
    family, name = kind
    settings = {"tokenizer_class": name, "add_bos_token": added, "add_eos_token": added}
    made = tiny.bpe(beginning=beginning, end=end)
    directory = saved(tmp_path, made, family, **{k: v for k, v in settings.items() if v is not None})
    assert is_lean(directory)
    assert compare(directory, ODD).beginning == ((0,) if beginning else ())


@pytest.mark.parametrize("space", [False, True])
@pytest.mark.parametrize("name", ["GPTNeoXTokenizer", "GPTNeoXTokenizerFast", None])
def test_a_pipeline_that_transformers_rebuilds_alike(tmp_path: Path, name: str | None, space: bool) -> None:
    backend = neox()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space, trim_offsets=False)
    directory = saved(tmp_path, backend, "gpt_neox", tokenizer_class=name, add_prefix_space=space)
    assert is_lean(directory)
    assert compare(directory, ODD).beginning == ()


@pytest.mark.parametrize("beginning", [False, True])
def test_gpt2_keeps_its_post_processor(tmp_path: Path, beginning: bool) -> None:
    backend = tiny.bpe(beginning=beginning).backend_tokenizer
    settings = {"unk_token": "<s>", "tokenizer_class": "GPT2Tokenizer"}
    assert is_lean(saved(tmp_path, backend, "gpt2", **settings))
    assert compare(tmp_path, ODD).beginning == ((0,) if beginning else ())


def changed(**parts: Any) -> Backend:
    backend = neox()
    for part, value in parts.items():
        setattr(backend, part, value)
    return backend


def with_model(**settings: Any) -> Backend:
    state = json.loads(neox().to_str())
    state["model"] |= settings
    return Backend.from_str(json.dumps(state))


@pytest.mark.parametrize(
    "backend",
    [
        changed(normalizer=normalizers.Lowercase()),
        changed(normalizer=None),
        changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)),
        changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
        neox(beginning=True),
        with_model(ignore_merges=True),
        with_model(fuse_unk=True),
    ],
)
def test_a_pipeline_that_transformers_rebuilds_otherwise(tmp_path: Path, backend: Backend) -> None:
    directory = saved(tmp_path, backend, "gpt_neox", tokenizer_class="GPTNeoXTokenizer")
    assert not is_lean(directory)
    compare(directory, ODD)


@pytest.mark.parametrize("change", ["hole", "order", "swap"])
def test_added_tokens_whose_ids_the_two_libraries_read_otherwise(tmp_path: Path, change: str) -> None:
    directory = saved(tmp_path, neox(), "gpt_neox", tokenizer_class="GPTNeoXTokenizer")
    state = json.loads((directory / "tokenizer.json").read_text())
    tokens = state["added_tokens"]
    if change == "hole":
        tokens[-1]["id"] += 7
    elif change == "order":
        tokens[-2:] = tokens[:-3:-1]
    else:
        tokens[-1]["id"], tokens[-2]["id"] = tokens[-2]["id"], tokens[-1]["id"]
    (directory / "tokenizer.json").write_text(json.dumps(state))
    assert not is_lean(directory)
    compare(directory, [*ODD, "ab   <|padding|>"])


NEW = {"content": "cd", "lstrip": False, "rstrip": False, "single_word": False, "special": True}


@pytest.mark.parametrize(
    "settings",
    [
        {"pad_token": "cd"},  # in the text, but no special token until transformers adds it
        {"additional_special_tokens": ["cd"]},
        {"extra_special_tokens": {"image_token": "cd"}},
        {"added_tokens_decoder": {"300": {**NEW, "normalized": False}}},
        {"split_special_tokens": True},
        {"sep_token": {"__type": "AddedToken", **NEW, "normalized": False}},
    ],
)
def test_tokens_that_transformers_adds(tmp_path: Path, settings: dict[str, Any]) -> None:
    directory = saved(tmp_path, tiny.bpe(), tokenizer_class="PreTrainedTokenizerFast", **settings)
    assert not is_lean(directory)
    plain = load_tokenizer(saved(tmp_path / "plain", tiny.bpe()))
    text = "ab cd <s>abcd"
    assert compare(directory, [*ODD, text]).ids([text]) != plain.ids([text])


def test_a_padding_token_that_transformers_adds(tmp_path: Path) -> None:
    made = tiny.bpe().backend_tokenizer
    made.enable_padding(pad_token="cd", pad_id=258)
    assert not is_lean(saved(tmp_path, made))
    compare(tmp_path, [*ODD, "abcd"])


@pytest.mark.parametrize("key", ["bos_token", "eos_token"])
@pytest.mark.parametrize("value", ["</s>", {"content": "</s>", "lstrip": False}])
def test_the_older_file_of_special_tokens_counts(tmp_path: Path, key: str, value: Any) -> None:
    directory = saved(tmp_path, tiny.bpe(), bos_token="<s>", eos_token="<s>")
    (directory / "special_tokens_map.json").write_text(json.dumps({key: value}))
    assert is_lean(directory)
    found = compare(directory, ODD)
    assert {"bos_token": found.bos, "eos_token": found.eos}[key] == 1
    # ... but not beside a list of added tokens.
    held = tiny.bpe().backend_tokenizer.get_added_tokens_decoder()
    listed = {
        str(i): {
            k: getattr(t, k) for k in ("content", "lstrip", "rstrip", "single_word", "normalized", "special")
        }
        for i, t in held.items()
    }
    saved(directory, tiny.bpe(), bos_token="<s>", eos_token="<s>", added_tokens_decoder=listed)
    assert is_lean(directory)
    found = compare(directory, ODD)
    assert (found.bos, found.eos) == (0, 0)


def test_an_unknown_model_or_class_goes_through_transformers(tmp_path: Path) -> None:
    assert not is_lean(saved(tmp_path, tiny.bpe(), "qwen2", tokenizer_class="Qwen2Tokenizer"))
    assert not is_lean(saved(tmp_path, tiny.bpe(), "llama", tokenizer_class="QuaintTokenizer"))
    assert not is_lean(saved(tmp_path, neox(), "gpt_neox", tokenizer_class="CohereTokenizer"))
    saved(tmp_path, tiny.bpe(beginning=True), "qwen3", tokenizer_class="PreTrainedTokenizerFast")
    assert compare(tmp_path, ODD).beginning == (0,)


def differences(table: dict[str, str | None]) -> list[str]:
    """How a copy of transformers' tables of tokenizers differs from the installed version, in sentences."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.tokenization_auto import (
        MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS,
        TOKENIZER_MAPPING_NAMES,
    )

    remedy = (
        f"(transformers {transformers.__version__}). Correct REGISTERED in scoring/tokenizer_json.py, and "
        "compare the tokens of such a checkpoint both ways."
    )
    found = []
    for kind, ours in table.items():
        theirs = TOKENIZER_MAPPING_NAMES.get(kind)
        if kind not in CONFIG_MAPPING_NAMES:
            found.append(f"{kind} is not a type of model {remedy}")
        elif theirs != ours:
            found.append(f"{kind} has the tokenizer class {theirs}, our table says {ours} {remedy}")
        elif kind in MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS:
            found.append(f"the class that checkpoints of {kind} name is overruled {remedy}")
    return found


def test_our_copy_of_the_table_of_tokenizers_is_current() -> None:
    assert not differences(dict(REGISTERED))
    assert set(REGISTERED) <= set(FAMILIES)  # others import transformers anyway


def test_a_table_that_is_out_of_date_is_named() -> None:
    from transformers.models.auto.tokenization_auto import (
        MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS as OVERRULED,
    )

    [changed] = differences({"gpt2": "GPTNeoXTokenizer", "llama": None})
    assert changed.startswith(
        "gpt2 has the tokenizer class GPT2Tokenizer, our table says GPTNeoXTokenizer (trans"
    )
    [gone] = differences({"gpt_1000": None})
    assert gone.startswith("gpt_1000 is not a type of model")
    assert "qwen2" in OVERRULED
    [overruled] = differences({"qwen2": "Qwen2Tokenizer"})
    assert overruled.startswith("the class that checkpoints of qwen2 name is overruled")


def test_saved_truncation_and_padding_are_switched_off(tmp_path: Path) -> None:
    made = tiny.bpe().backend_tokenizer
    made.enable_truncation(3)
    made.enable_padding(length=12, pad_token="</s>", pad_id=1)
    directory = saved(tmp_path, made)
    assert is_lean(directory)
    assert load_tokenizer(directory).ids(["ab cd ab cd xyz", "ab"]) == compare(directory, ODD).ids(
        ["ab cd ab cd xyz", "ab"]
    )
    assert [len(ids) for ids in load_tokenizer(directory).ids(["x y z x y z x y z", "ab"])] == [17, 1]


def test_places_of_tokens_are_not_trimmed(tmp_path: Path) -> None:
    directory = saved(tmp_path, neox(), "gpt_neox", tokenizer_class="GPTNeoXTokenizer")
    [encoding] = load_tokenizer(directory).encodings(["cd ab"])
    assert encoding.offsets[-1] == (2, 5)


def test_the_beginning_is_not_what_is_put_behind(tmp_path: Path) -> None:
    for number, word in enumerate(["a", "the"]):  # with and without the word that is tried first
        backend = Backend(models.WordLevel({"[CLS]": 0, "[SEP]": 1, word: 2}))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        backend.add_special_tokens(["[CLS]", "[SEP]"])
        backend.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
        directory = saved(tmp_path / str(number), backend, bos_token="[CLS]", eos_token="[SEP]")
        assert load_tokenizer(directory).beginning == (0,)


def test_an_unreadable_tokenizer_is_one_sentence(tmp_path: Path) -> None:
    directory = saved(tmp_path, tiny.bpe())
    for content in ("{", '{"version": "1.0"}'):
        (directory / "tokenizer.json").write_text(content)
        with pytest.raises(CheckpointError, match="the tokenizer cannot be loaded: ") as raised:
            load_tokenizer(directory)
        assert str(directory) in str(raised.value)
        assert "\n" not in str(raised.value)
    saved(tmp_path, tiny.bpe())
    (directory / "tokenizer_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"tokenizer_config.json: found JSON of type list"):
        load_tokenizer(directory)
    (directory / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer_config.json is not readable JSON"):
        load_tokenizer(directory)


def test_a_directory_that_transformers_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the tokenizer cannot be loaded"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(("name", "imported"), [("PreTrainedTokenizerFast", False), ("Qwen2Tokenizer", True)])
def test_transformers_is_imported_only_where_it_is_needed(tmp_path: Path, name: str, imported: bool) -> None:
    directory = saved(tmp_path, tiny.bpe(), tokenizer_class=name)
    code = (
        "import sys; from ebbtide.scoring.encoding import encode\n"
        "from ebbtide.scoring.tokenizer import load_tokenizer\n"
        f"tokenizer = load_tokenizer({str(directory)!r})\n"
        "options = dict(encoding='joint', bos='always', truncation='left', window=9, vocabulary=300)\n"
        "encode(tokenizer, ['ab'], [' cd'], ['x'], **options)\n"
        "print('transformers' in sys.modules, 'pandas' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == str(imported)
    if not imported:
        assert done.stdout.split() == ["False"] * 3


def cutting(directory: Path, backend: Backend) -> Tokenizer:
    return load_tokenizer(saved(directory, backend, "llama"))


@cache
def loaded(number: int) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        return cutting(Path(folder), CUTTING[number])


GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
GROUPS = pre_tokenizers.Split(Regex(GPT4), "isolated")
BYTES_ONLY = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
CUTTING = [
    tiny.bpe().backend_tokenizer,
    neox(),
    changed(pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTES])),
    changed(pre_tokenizer=pre_tokenizers.Sequence([GROUPS, BYTES_ONLY])),
]
PIECES = st.sampled_from(
    [
        *"abcd 1'sÜé\n\u0301\u00a0東🤯.,",
        " ab",
        " cd",
        "abcd",
        "  ",
        "   ",
        "<s>",
        "<|endoftext|>",
        " don't",
        "\n\n",
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join), st.integers(0, 60))
@settings(deadline=None, max_examples=300)
@pytest.mark.parametrize("number", range(len(CUTTING)))
def test_pieces_between_words_give_the_tokens_of_the_text(number: int, text: str, end: int) -> None:
    tokenizer = loaded(number)
    assert tokenizer.by_words
    whole = tokenizer.backend.encode(text).ids
    assert tokenizer.ids([text, text]) == [whole, whole]
    place = tokenizer.cut(text, end)
    assert 0 <= place <= end
    before, behind = tokenizer.ids([text[:place], text[place:]])
    assert before + behind == whole


def test_where_a_text_is_cut(tmp_path: Path) -> None:
    tokenizer = cutting(tmp_path, neox())
    text = "ab cd, ab\n cd  ab ab"
    assert [tokenizer.cut(text, end) for end in range(len(text) + 1)] == [0] * 2 + [2] * 15 + [17] * 4
    assert tokenizer.cut("ab ", 3) == tokenizer.cut("ab 1", 3) == tokenizer.cut("", 0) == 0


def test_many_texts_are_put_together_in_order(tmp_path: Path) -> None:
    tokenizer = cutting(tmp_path, neox())
    texts = [f"ab cd {'ab ' * (i % 7)}cd{i}" for i in range(600)]
    assert tokenizer.ids(texts) == [encoding.ids for encoding in tokenizer.encodings(texts)]


def with_added(**flags: Any) -> Backend:
    backend = neox()
    backend.add_tokens([AddedToken(**{"content": "cd", **flags})])
    return backend


@pytest.mark.parametrize(
    "backend",
    [
        changed(normalizer=normalizers.Replace(" ", "_")),
        changed(normalizer=normalizers.Replace("b c", "x")),
        changed(pre_tokenizer=pre_tokenizers.Split(",", "isolated")),
        changed(pre_tokenizer=BYTES_ONLY),
        changed(pre_tokenizer=None),
        with_added(content="b cd"),
        with_added(content="b "),
        with_added(lstrip=True),
        with_added(rstrip=True),
        with_added(single_word=True, content=" cd"),
        with_model(dropout=0.1),
    ],
)
def test_a_pipeline_that_may_look_across_words_is_not_cut(tmp_path: Path, backend: Backend) -> None:
    tokenizer = cutting(tmp_path, backend)
    assert not tokenizer.by_words
    assert tokenizer.cut("ab cd ab", 8) == 0


@pytest.mark.slow
def test_smollm2() -> None:
    assert is_lean(smollm2())
    found = compare(smollm2(), ODD)
    assert found.beginning == ()
    assert found.by_words


@pytest.mark.long
@pytest.mark.slow
def test_gemma3() -> None:
    assert is_lean(gemma3())
    found = compare(gemma3(), ODD)
    assert found.beginning == (2,)
    assert not found.by_words  # a token may hold several words
