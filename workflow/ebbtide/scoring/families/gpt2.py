"""GPT-2."""

from ebbtide.scoring.families.architecture import Architecture, Names, layer_norms
from ebbtide.scoring.families.keys import Keys

NAMES = Names(
    prefixes=("transformer.", ""),
    embedding="wte",
    positions="wpe",
    layer="h",
    project=("attn.c_attn",),
    out="attn.c_proj",
    gate=None,
    up="mlp.c_fc",
    down="mlp.c_proj",
    norms={"attention": "ln_1", "feed_forward": "ln_2"},
    final_norm="ln_f",
)


def gpt2(keys: Keys) -> Architecture:
    """Learned positions; matrices are stored (in, out)."""
    keys.must_be("scale_attn_weights", True)
    keys.must_be("scale_attn_by_inverse_layer_idx", False)
    keys.must_be("reorder_and_upcast_attn", False)
    width = keys("n_embd", "hidden_size")
    return Architecture(
        names=NAMES,
        vocabulary=keys("vocab_size"),
        width=width,
        inner=keys("n_inner", default=4 * width),
        layers=keys("n_layer"),
        heads=keys("n_head"),
        positions=keys("n_positions"),
        tied=keys("tie_word_embeddings", default=True),
        activation=keys.activation("activation_function", default="gelu_new"),
        norm=layer_norms(keys("layer_norm_epsilon", default=1e-5)),
        transposed=True,
        fused="by_kind",
        project_bias=True,
        out_bias=True,
        feed_forward_bias=True,
    )
