"""Parameters counted from a configuration equal those of the model that transformers builds from it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.checkpoints.load import count_parameters
from ebbtide.errors import CheckpointError
from ebbtide.parameters import Parameters, count

FLAG = st.booleans()
SIZE = st.integers(1, 40)

# Width, heads and key-value heads that fit together; the last two heads share keys.
HEADS = st.sampled_from([(16, 4, 4), (16, 4, 2), (24, 6, 1), (12, 2, 2)]).map(
    lambda s: {"hidden_size": s[0], "num_attention_heads": s[1], "num_key_value_heads": s[2]}
)
ALONE = HEADS.map(lambda s: {k: v for k, v in s.items() if k != "num_key_value_heads"})
SHORT = ALONE.map(lambda s: {"n_embd": s["hidden_size"], "n_head": s["num_attention_heads"]})


def shapes(base: Any, **more: Any) -> Any:
    """Configurations: shapes of heads, a small vocabulary, and what else a family has."""
    general = {"vocab_size": st.integers(8, 60), "tie_word_embeddings": FLAG, **more}
    return st.tuples(base, st.fixed_dictionaries(general)).map(lambda pair: {**pair[0], **pair[1]})


def deep(base: Any, **more: Any) -> Any:
    return shapes(base, num_hidden_layers=st.integers(1, 3), intermediate_size=SIZE, **more)


def wide(base: Any, **more: Any) -> Any:
    """With a width of heads that does not follow from the others."""
    return deep(base, head_dim=st.sampled_from([2, 6, 8]), **more)


FAMILIES = {
    "gpt_neox": deep(ALONE, attention_bias=FLAG, use_parallel_residual=FLAG),
    "gpt2": shapes(SHORT, n_layer=st.integers(1, 3), n_inner=st.none() | SIZE, n_positions=SIZE),
    "opt": shapes(
        ALONE,
        num_hidden_layers=st.integers(1, 3),
        ffn_dim=SIZE,
        max_position_embeddings=SIZE,
        word_embed_proj_dim=st.sampled_from([None, 4, 16]),
        enable_bias=FLAG,
        layer_norm_elementwise_affine=FLAG,
        do_layer_norm_before=FLAG,
        pad_token_id=st.none(),
    ),
    "bloom": shapes(
        ALONE.map(lambda s: {"hidden_size": s["hidden_size"], "n_head": s["num_attention_heads"]}),
        n_layer=st.integers(1, 3),
    ),
    "llama": wide(HEADS, attention_bias=FLAG, mlp_bias=FLAG),
    "mistral": wide(HEADS),
    "smollm3": deep(HEADS, attention_bias=FLAG, mlp_bias=FLAG, pad_token_id=st.none()),
    "qwen2": deep(HEADS),
    "qwen3": wide(HEADS, attention_bias=FLAG),
    "olmo": deep(HEADS, attention_bias=FLAG, pad_token_id=st.none()),
    "olmo2": deep(HEADS, attention_bias=FLAG, pad_token_id=st.none()),
    "olmo3": deep(HEADS, attention_bias=FLAG, pad_token_id=st.none()),
    "olmoe": deep(
        HEADS,
        attention_bias=FLAG,
        num_experts=st.integers(3, 5),
        num_experts_per_tok=st.integers(1, 3),
        pad_token_id=st.none(),
    ),
    "mamba": shapes(
        st.sampled_from([8, 40]).map(lambda d: {"hidden_size": d}),
        num_hidden_layers=st.integers(1, 3),
        state_size=SIZE,
        expand=st.integers(1, 3),
        conv_kernel=st.integers(1, 5),
        time_step_rank=st.just("auto") | SIZE,
        use_bias=FLAG,
        use_conv_bias=FLAG,
    ),
    "rwkv": shapes(
        st.just({"hidden_size": 12}),
        num_hidden_layers=st.integers(1, 3),
        attention_hidden_size=st.none() | SIZE,
        intermediate_size=st.none() | SIZE,
    ),
}


def built(model_type: str, config: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **config))


def dense(total: int, non_embedding: int) -> Parameters:
    return Parameters(total, non_embedding, total, non_embedding)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_counts_equal_those_of_the_built_model(model_type):
    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(FAMILIES[model_type])
    def agree(config):
        found = count({"model_type": model_type, **config})
        model = built(model_type, config)
        assert found is not None
        assert (found.total, found.non_embedding) == count_parameters(model)
        assert count(json.loads(model.config.to_json_string(use_diff=False))) == found
        if model_type != "olmoe":
            assert found == dense(found.total, found.non_embedding)

    agree()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_keys_left_out_have_the_defaults_of_transformers(model_type):
    found = count({"model_type": model_type})
    assert found is not None
    assert (found.total, found.non_embedding) == count_parameters(built(model_type, {}))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(FAMILIES["olmoe"])
def test_a_token_uses_the_router_and_its_experts(config):
    """With no more experts than a token is sent to, only the router shrinks."""
    found = count({"model_type": "olmoe", **config})
    few = count({"model_type": "olmoe", **config, "num_experts": config["num_experts_per_tok"]})
    assert found is not None and few is not None
    spared = config["num_experts"] - config["num_experts_per_tok"]
    router = spared * config["hidden_size"] * config["num_hidden_layers"]
    assert found.active == few.total + router
    assert found.active_non_embedding == few.non_embedding + router


OLD = {
    "model_type": "hf_olmo",
    "d_model": 16,
    "n_heads": 4,
    "n_layers": 3,
    "mlp_ratio": 6,
    "vocab_size": 40,
    "embedding_size": 48,
    "include_bias": False,
    "layer_norm_with_affine": False,
    "rope": True,
    "weight_tying": False,
}
NEW = {
    "model_type": "olmo",
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 48,
    "vocab_size": 48,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("heads", [None, 2])
def test_the_old_format_of_olmo_counts_like_the_new_one(tied, heads):
    old = OLD | {"weight_tying": tied, "n_kv_heads": heads}
    new = NEW | {"tie_word_embeddings": tied, "num_key_value_heads": heads}
    assert count(old) == count(new)
    assert count(old | {"model_type": "olmo"}) == count(new)
    affine = {"layer_norm_type": "rms", "layer_norm_with_affine": True}
    assert count(old | affine) == count(new | {"model_type": "llama"})
    qk_norm = affine | {"attention_layer_norm": True}
    assert count(old | qk_norm) == count(new | {"model_type": "olmo2"})


def test_the_old_format_of_olmo_has_options_of_its_own():
    def more(**options: Any) -> int:
        plain, changed = count(OLD), count(OLD | options)
        assert plain is not None and changed is not None
        return changed.total - plain.total

    assert more(n_kv_heads=1) == more(multi_query_attention=True) == -3 * 2 * 12 * 16
    assert more(rope=False, max_sequence_length=10) == 10 * 16  # learned positions
    assert more(rope=False, alibi=True) == 0
    assert more(embedding_size=None) == -2 * 8 * 16
    assert more(mlp_hidden_size=64) == 3 * (64 - 96) * 24  # 16 in, half of it out
    assert more(activation_type="gelu") == 3 * 48 * 16  # nothing gates, all of it comes back
    assert more(layer_norm_with_affine=True) == 7 * 16
    assert more(layer_norm_with_affine=True, bias_for_layer_norm=True) == 7 * 32
    biases = 3 * (3 * 16 + 16 + 96 + 16) + 48  # projections, feed-forward, and the output matrix
    assert more(include_bias=True) == biases
    assert more(include_bias=True, layer_norm_with_affine=True) == biases + 7 * 32
    assert more(include_bias=True, weight_tying=True) == biases - 48 - 48 * 16


def test_the_text_of_a_composite_model_is_counted():
    assert count({"model_type": "llava", "text_config": NEW, "vision_config": {"hidden_size": 8}}) == count(
        NEW
    )


@pytest.mark.parametrize("config", [{}, {"model_type": "bert", "hidden_size": 8}, {"text_config": {"d": 1}}])
def test_an_unknown_type_is_not_guessed(config):
    assert count(config) is None


@pytest.mark.parametrize("width", ["16", 0, -16, 16.0, None])
def test_a_shape_that_is_no_number_is_an_error_of_the_checkpoint(width):
    with pytest.raises(CheckpointError, match="type olmo: hidden_size: found"):
        count(NEW | {"hidden_size": width})
