"""The catalogue of published series: its files are whole, and its numbers are those that were published."""

import re
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from ebbtide.checkpoints.hub.catalogue import PRETRAINING
from ebbtide.checkpoints.series import CATALOGUE as FOLDER
from ebbtide.checkpoints.series import read_series
from ebbtide.parameters import Parameters, count

FILES = sorted(path.stem for path in FOLDER.glob("*.yaml") if not read_series(path)[1])


@cache
def series(name: str) -> dict[str, Any]:
    return read_series(FOLDER / f"{name}.yaml")[0]


@cache
def models() -> dict[str, dict[str, Any]]:
    """Every model of the catalogue, with what its series says of all."""
    shared = ("revisions", "steps", "tokens_per_step", "unit", "formats", "bos")
    return {
        model: {key: series(name)[key] for key in shared if key in series(name)}
        | own
        | {"series": name, "stages": series(name).get("stages", {}) | own.get("stages", {})}
        for name in FILES
        for model, own in series(name)["models"].items()
    }


def expanded(entries: list[Any]) -> list[int]:
    """Steps in the order in which they are written."""
    steps = []
    for entry in entries:
        one = isinstance(entry, int)
        steps += [entry] if one else range(entry["from"], entry["to"] + 1, entry["every"])
    return steps


def steps(model: dict[str, Any], stage: str = PRETRAINING) -> list[int] | None:
    """The stated steps of a stage; None where the hub's list is taken."""
    if "repos" in model:
        return list(model["repos"])
    entries = (model if stage == PRETRAINING else model["stages"][stage]).get("steps")
    return None if entries is None else expanded(entries)


def tokens(model: dict[str, Any], step: int, stage: str = PRETRAINING) -> int:
    """Training tokens seen at a step: before the stage, and in it."""
    part = model if stage == PRETRAINING else model["stages"][stage]
    rate = part.get("tokens_per_step", model.get("tokens_per_step"))
    return rate[step] if isinstance(rate, dict) else part.get("tokens_before", 0) + step * rate


def test_the_series_that_users_expect_are_there():
    assert set(FILES) >= {
        *("pythia", "pythia_seeds", "olmo", "olmo2", "olmo3", "olmoe", "smollm2", "smollm3"),
        *("amber", "bloom", "tinyllama", "crfm_gpt2", "datadecide", "parc"),
    }


@pytest.mark.parametrize("name", FILES)
def test_a_series_is_whole(name):
    content = series(name)
    facts = [*content["confirmed"], *content["unconfirmed"]]
    assert len(facts) == len(set(facts)), "a fact is confirmed or it is not"
    for needed in ("repositories", "architectures", "parameters", "formats", "bos"):
        assert needed in facts, f"{name} does not say whether {needed} were confirmed"
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("# ") and "# What to know:" in text


def test_names_are_unique_over_the_catalogue():
    names = Counter(model for name in FILES for model in series(name)["models"])
    assert [name for name, times in names.items() if times > 1] == []
    # A run is a repository with a pattern of branches; no two models are the same run.
    runs = Counter((m["repo"], *m["revisions"]) for m in models().values() if "repo" in m)
    assert [run for run, times in runs.items() if times > 1] == []


@pytest.mark.parametrize("name", models())
def test_a_model_is_whole(name):
    model = models()[name]
    assert ("repo" in model) != ("repos" in model)
    assert "repos" in model or model["revisions"]
    assert count(model["architecture"]) is not None
    listed = steps(model)
    for gap in model["gaps"]:
        assert listed is not None and gap in listed
    rate = model.get("tokens_per_step")
    if isinstance(rate, dict):
        assert listed is None or set(listed) <= set(rate)
        assert all(a < b for a, b in pairwise(rate.values()))
    for stage in (PRETRAINING, *model["stages"]):
        stated = steps(model, stage)
        if stated is not None:
            assert all(a < b for a, b in pairwise(stated)), f"steps of {stage} do not rise"


@pytest.mark.parametrize("name", models())
def test_a_later_stage_goes_on_where_the_one_before_it_ended(name):
    """Of two stages with stated steps, the later one has seen more tokens."""
    model = models()[name]
    ends = [
        (tokens(model, stated[0], stage), tokens(model, stated[-1], stage))
        for stage in (PRETRAINING, *model["stages"])
        if (stated := steps(model, stage)) and "tokens_per_step" in model
    ]
    assert all(last <= first for (_, last), (first, _) in pairwise(ends))


@pytest.mark.parametrize("name", FILES)
def test_allowances_and_defects_name_models_and_steps_that_exist(name):
    from fnmatch import fnmatchcase

    content = series(name)
    for entry in [*content["allow"], *content["defects"]]:
        for pattern in entry["models"]:
            hit = [model for model in content["models"] if fnmatchcase(model, pattern)]
            assert hit, f"{pattern} is no model of {name}"
            for model in hit:
                listed = steps(models()[model])
                assert listed is None or set(entry.get("steps", [])) <= set(listed)
        assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", entry["thread"])


# Total and non-embedding parameters as published: by the README of EleutherAI/pythia, and by the sizes that
# the hub states for weights, less the tables. Of BLOOM, the norm of what it looks up (2d) is no embedding.
PUBLISHED = {
    "pythia-14m": (14_067_712, 1_189_888),
    "pythia-31m": (30_494_720, 4_739_072),
    "pythia-70m": (70_426_624, 18_915_328),
    "pythia-160m": (162_322_944, 85_056_000),
    "pythia-410m": (405_334_016, 302_311_424),
    "pythia-1b": (1_011_781_632, 805_736_448),
    "pythia-1.4b": (1_414_647_808, 1_208_602_624),
    "pythia-2.8b": (2_775_208_960, 2_517_652_480),
    "pythia-6.9b": (6_857_302_016, 6_444_163_072),
    "pythia-12b": (11_846_072_320, 11_327_027_200),
    "olmo-1b": (1_176_764_416, 1_073_741_824),
    "olmo-7b": (6_888_095_744, 6_476_005_376),
    "olmo-7b-0424": (6_888_095_744, 6_476_005_376),
    "olmo-1b-0724": (1_279_787_008, 1_073_741_824),
    "olmo-7b-0724": (6_888_095_744, 6_476_005_376),
    "olmo2-1b": (1_484_916_736, 1_073_874_944),
    "olmo2-7b": (7_298_617_344, 6_476_533_760),
    "olmo2-13b": (13_716_198_400, 12_688_593_920),
    "olmo2-32b": (32_234_279_936, 31_206_675_456),
    "olmo3-7b": (7_298_011_136, 6_476_533_760),
    "olmo3-32b": (32_233_522_176, 31_206_675_456),
    "olmoe-1b-7b": (6_919_161_856, 6_713_116_672),
    "smollm2-135m": (134_515_008, 106_203_456),
    "smollm2-360m": (361_821_120, 314_635_200),
    "smollm2-1.7b": (1_711_376_384, 1_610_713_088),
    "smollm3-3b": (3_075_098_624, 2_812_430_336),
    "amber-7b": (6_738_415_616, 6_476_271_616),
    "bloom-560m": (559_214_592, 302_311_424 + 2 * 1024),
    "bloom-1b1": (1_065_314_304, 679_959_552 + 2 * 1536),
    "bloom-1b7": (1_722_408_960, 1_208_602_624 + 2 * 2048),
    "bloom-3b": (3_002_557_440, 2_360_299_520 + 2 * 2560),
    "bloom-7b1": (7_069_016_064, 6_041_403_392 + 2 * 4096),
    "bloom-176b": (176_247_271_424, 172_650_655_744),
    "tinyllama-1.1b": (1_100_048_384, 968_976_384),
    "tinyllama-1.1b-v1.1": (1_100_048_384, 968_976_384),
    "alias-gpt2-small-x21": (124_439_808, 85_056_000),
    "arwen-gpt2-medium-x21": (354_823_168, 302_311_424),
    "parc-pythia-seed0": (162_322_944, 85_056_000),
    "parc-mamba-seed0": (129_135_360, 90_520_320),
    "parc-rwkv-seed0": (169_342_464, 92_116_992),
}
# Of DataDecide (width, parameters without the table of tokens, which its paper calls non-embedding).
DATADECIDE = {
    "4M": (64, 3_744_832),
    "6M": (96, 6_010_464),
    "8M": (128, 8_538_240),
    "10M": (144, 9_900_432),
    "14M": (192, 14_380_224),
    "16M": (208, 16_004_560),
    "20M": (192, 19_101_888),
    "60M": (384, 57_078_144),
    "90M": (528, 97_946_640),
    "150M": (768, 151_898_880),
    "300M": (1024, 319_980_544),
    "530M": (1344, 530_074_944),
    "750M": (1536, 681_297_408),
    "1B": (2048, 1_176_832_000),
}
# Models that differ from one above by seed or data alone.
SAME = {
    r"(pythia-[\d.]+[mb])-(deduped|((data|weight)-)?seed\d)": r"\1",
    r"\w+-gpt2-small-x\d+": "alias-gpt2-small-x21",
    r"\w+-gpt2-medium-x\d+": "arwen-gpt2-medium-x21",
    r"(parc-\w+)-seed\d": r"\1-seed0",
}


def published(name: str) -> tuple[int, int]:
    if match := re.fullmatch(r"datadecide-.*?-(\d+[MB])(-\w+-aux-\d)?", name):
        width, one_table = DATADECIDE[match[1]]
        return one_table + 50_304 * width, one_table - 50_304 * width
    for pattern, model in SAME.items():
        name = re.sub(f"^{pattern}$", model, name)
    return PUBLISHED[name]


@pytest.mark.parametrize("name", models())
def test_shapes_give_the_published_number_of_parameters(name):
    found = count(models()[name]["architecture"])
    assert found is not None
    assert (found.total, found.non_embedding) == published(name)
    if name != "olmoe-1b-7b":
        assert (found.active, found.active_non_embedding) == published(name)


# Widths of heads, which the number of parameters does not show.
HEADS = {
    r"pythia-(14|31)m.*": 32,
    r"pythia-(70|160|410)m.*": 64,
    r"pythia-1b.*": 256,
    r"pythia-(1.4|6.9|12)b.*": 128,
    r"pythia-2.8b.*": 80,
    r"(olmo|amber|smollm3).*": 128,
    r"(smollm2|tinyllama|\w+-gpt2|parc-pythia).*": 64,
    r"datadecide.*-4M": 8,
    r"datadecide.*-6M": 12,
    r"datadecide.*-8M": 16,
    r"datadecide.*-10M": 18,
    r"datadecide.*-(14|20)M": 24,
    r"datadecide.*-16M": 26,
    r"datadecide.*-60M": 32,
    r"datadecide.*-90M": 44,
    r"datadecide.*-(150M|300M)(-.*aux.*)?": 64,
    r"datadecide.*-530M": 84,
    r"datadecide.*-750M": 96,
    r"datadecide.*-1B(-.*aux.*)?": 128,
}


@pytest.mark.parametrize("name", models())
def test_heads_have_the_published_width(name):
    shape = models()[name]["architecture"]
    width = next(shape[key] for key in ("hidden_size", "n_embd", "d_model") if key in shape)
    heads = next((shape[key] for key in ("num_attention_heads", "n_head", "n_heads") if key in shape), None)
    expected = [value for pattern, value in HEADS.items() if re.fullmatch(pattern, name)]
    if heads is None:
        assert shape["model_type"] in ("bloom", "mamba", "rwkv") and expected == []
    else:
        assert expected == [width / heads]


def test_a_token_uses_a_fifth_of_olmoe():
    assert count(models()["olmoe-1b-7b"]["architecture"]) == Parameters(
        6_919_161_856, 6_713_116_672, active=1_282_017_280, active_non_embedding=1_075_972_096
    )


@pytest.mark.parametrize("name", models())
def test_the_nominal_size_is_that_of_the_name_and_near_the_true_one(name):
    model = models()[name]
    found = count(model["architecture"])
    assert found is not None
    size = re.search(r"(?<![a-z\d.])(\d+(?:[.]\d+)?)([mb])(\d?)(?![a-z\d])", name.lower())
    if size and name != "olmoe-1b-7b":
        number = float(f"{size[1]}.{size[3]}" if size[3] else size[1])
        assert model["nominal"] == round(number * {"m": 10**6, "b": 10**9}[size[2]])
    assert 0.5 < model["nominal"] / found.total < 1.3


# Tokens at the end of training (or of what is published), in billions, as papers, cards and the names of
# branches tell; steps × batch must be within half a percent.
ENDS = {
    "pythia-70m": (143_000, 299.9),
    "pythia-410m-seed1": (143_000, 299.9),
    "olmo-1b": (738_020, 3_095),
    "olmo-7b": (556_000, 2_460),
    "olmo-7b-0424": (651_581, 2_731),
    "olmo-1b-0724": (1_454_000, 3_048),
    "olmo2-1b": (1_907_359, 4_001),
    "olmo2-7b": (928_646, 3_896),
    "olmo2-13b": (596_057, 5_001),
    "olmo2-32b": (721_901, 6_056),
    "olmo3-7b": (1_413_814, 5_930),
    "olmo3-32b": (656_000, 5_500),
    "olmoe-1b-7b": (1_220_000, 5_117),
    "smollm2-135m": (240_000, 251),
    "smollm2-360m": (2_560_000, 4_026),
    "smollm2-1.7b": (125_000, 262),
    "smollm3-3b": (40_000, 94.4),
    "amber-7b": (358, 1_259 * 359 / 360),
    "bloom-560m": (600_000, 310.7),
    "bloom-1b1": (600_000, 310.7),
    "bloom-1b7": (300_000, 302.3),
    "bloom-3b": (300_000, 301.5),
    "bloom-7b1": (300_000, 301.5),
    "tinyllama-1.1b": (1_431_000, 3_000),
    "alias-gpt2-small-x21": (400_000, 209.7),
    "arwen-gpt2-medium-x21": (400_000, 209.7),
    "parc-pythia-seed0": (4_000, 2.1),
    "datadecide-dolma1_7-1B": (69_369, 100),
}
WITHOUT_TOKENS = {"bloom-176b", "tinyllama-1.1b-v1.1"}
ALIKE = {"olmo-7b-0724": "olmo-7b-0424"}  # trained with the same configuration


@pytest.mark.parametrize("name", ENDS)
def test_tokens_of_the_last_step_are_those_published(name):
    step, billions = ENDS[name]
    assert tokens(models()[name], step) == pytest.approx(billions * 1e9, rel=0.005)


def test_every_rate_is_known():
    """A rate that no row above checks is that of a model alike, or the only one of its series."""
    for name, model in models().items():
        if name in WITHOUT_TOKENS:
            assert "tokens_per_step" not in model
        elif name.startswith("datadecide"):
            size = re.search(r"-(\d+[MB])(?:-|$)", name)
            assert size is not None
            assert model["tokens_per_step"] == DATADECIDE_BATCH[size[1]] * 2048
            assert model["architecture"]["vocab_size"] == 50_280  # of 50,304 rows
        elif name not in ENDS:
            ends = [ALIKE[name]] if name in ALIKE else ENDS
            known = [models()[end] for end in ends if models()[end]["series"] == model["series"]]
            assert {model["tokens_per_step"]} == {other["tokens_per_step"] for other in known}


DATADECIDE_BATCH = dict.fromkeys(("4M", "6M", "8M", "10M", "14M", "16M"), 32) | {
    "20M": 64,
    "60M": 96,
    "90M": 160,
    "150M": 192,
    "300M": 320,
    "530M": 448,
    "750M": 576,
    "1B": 704,
}


@pytest.mark.parametrize(
    ("size", "last", "billions"),
    [
        ("4M", 5725, 0.374),
        ("10M", 15117, 0.99),
        ("20M", 14584, 1.91),
        ("60M", 29042, 5.71),
        ("150M", 38750, 15.19),
        ("300M", 45787, 30.0),
    ],
)
def test_datadecide_ends_near_a_hundred_tokens_per_parameter(size, last, billions):
    """Its last steps, as branches name them, and the parameters that its paper counts."""
    model = models()[f"datadecide-dolma1_7-{size}"]
    assert tokens(model, last) == pytest.approx(billions * 1e9, rel=0.005)


def test_pythia_has_its_154_checkpoints_and_ends_at_300_billion_tokens():
    for name, model in models().items():
        if name.startswith("pythia"):
            listed = steps(model)
            assert listed is not None and len(listed) == 154
            assert listed[:12] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
            assert tokens(model, listed[-1]) == 299_892_736_000
            assert model["unit"] == 1000


@pytest.mark.parametrize(
    ("name", "stage", "number"),
    [
        ("olmo3-7b", PRETRAINING, 1415),
        ("olmo3-7b", "stage2", 49),
        ("olmo3-7b", "stage3", 13),
        ("olmoe-1b-7b", PRETRAINING, 244),
        ("smollm2-360m", PRETRAINING, 16),
        ("smollm3-3b", PRETRAINING, 86),
        ("smollm3-3b", "stage2", 19),
        ("smollm3-3b", "stage3", 13),
        ("smollm3-3b", "context32k", 5),
        ("smollm3-3b", "context64k", 5),
        ("amber-7b", PRETRAINING, 359),
        ("tinyllama-1.1b", PRETRAINING, 7),
        ("expanse-gpt2-small-x777", PRETRAINING, 609),
    ],
)
def test_a_stage_has_as_many_checkpoints_as_its_authors_say(name, stage, number):
    assert len(steps(models()[name], stage) or []) == number


@pytest.mark.parametrize(
    ("name", "stage", "step", "billions"),
    [
        ("olmo2-1b", "ingredient3", 23_852, 4_000 + 50),
        ("olmo2-7b", "ingredient1", 11_931, 3_895 + 50),
        ("olmo2-13b", "ingredient1", 11_931, 5_000 + 100),
        ("olmo2-13b", "ingredient4", 35_773, 5_000 + 300),
        ("olmo2-32b", "ingredient2", 11_921, 6_056 + 100),
        ("olmo3-7b", "stage2", 47_684, 5_930 + 100),
        ("olmo3-7b", "stage3", 11_921, 5_930 + 100 + 50),
        ("olmo3-32b", "ingredient1", 23_842, 5_503 + 100),
        ("olmo3-32b", "stage3", 11_921, 5_503 + 100 + 100),
        ("smollm3-3b", "stage3", 4_720_000, 11_136),
        ("smollm3-3b", "context32k", 20_000, 11_136 + 47.2),
        ("smollm3-3b", "context64k", 20_000, 11_136 + 94.4),
    ],
)
def test_later_stages_count_tokens_from_the_start(name, stage, step, billions):
    assert tokens(models()[name], step, stage) == pytest.approx(billions * 1e9, rel=5e-4)


def rising(full: int, by: int, last: int) -> int:
    """Sequences after `last` steps, if the batch rises from 192 to `full` over 9,765,625 sequences."""
    each = 9_765_625 / ((full - 192) // by)
    seen = 0
    for done in range(last):
        if seen > 9_765_625:
            return seen + (last - done) * full
        seen += min(192 + int(seen / each) * by, full)
    return seen


@pytest.mark.parametrize(
    ("name", "full", "by"),
    [("560m", 256, 16), ("1b1", 256, 16), ("1b7", 512, 16), ("3b", 512, 32), ("7b1", 512, 32)],
)
def test_tokens_of_bloom_follow_its_rising_batch(name, full, by):
    table = models()[f"bloom-{name}"]["tokens_per_step"]
    assert table == {step: rising(full, by, step) * 2048 for step in table}


def test_amber_counts_parts_of_its_data_not_steps():
    model = models()["amber-7b"]
    assert [tokens(model, part) for part in (0, 1, 358)] == [3_500_000_000 * n for n in (1, 2, 359)]


def test_branches_of_ablations_are_no_checkpoints():
    """Patterns of OLMo 2 and 3 keep their stages apart."""

    def matches(model: str, stage: str, branch: str) -> bool:
        own = models()[model]
        patterns = (own if stage == PRETRAINING else own["stages"][stage])["revisions"]
        asked = (re.escape(p).replace(r"\{step\}", r"\d+").replace(r"\{any\}", ".*") for p in patterns)
        return any(re.fullmatch(pattern, branch) for pattern in asked)

    assert matches("olmo2-7b", PRETRAINING, "stage1-step928646-tokens3896B")
    assert matches("olmo2-7b", PRETRAINING, "step1000-tokens5B")
    assert not matches("olmo2-7b", PRETRAINING, "stage2-ingredient1-step11931-tokens50B")
    assert matches("olmo2-7b", "ingredient1", "stage2-ingredient1-step11931-tokens50B")
    assert not matches("olmo2-7b", "ingredient2", "stage2-ingredient1-step11931-tokens50B")
    assert matches("olmo3-7b", "stage2", "stage2-step47684")
    assert not matches("olmo3-7b", "stage2", "stage2-step47684-mix-code-from-2T-ckpt")
    assert matches("datadecide-c4-1B", PRETRAINING, "step69369-seed-default")
    assert not matches("datadecide-c4-1B", PRETRAINING, "step69369-seed-large-aux-2")
