"""GPT-2."""

from functools import partial

from ebbtide.scoring.decoder import layer_norm
from ebbtide.scoring.families.architecture import ALL, Architecture
from ebbtide.scoring.families.keys import Keys

NAMES = {
    "embedding": "wte",
    "positions": "wpe",
    "fused": "attn.c_attn",
    "out": "attn.c_proj",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
    "final_norm": "ln_f",
}


def gpt2(keys: Keys) -> Architecture:
    """Learned positions; matrices are stored (in, out)."""
    keys.must_be("scale_attn_weights", True)
    keys.must_be("scale_attn_by_inverse_layer_idx", False)
    keys.must_be("reorder_and_upcast_attn", False)
    width = keys("n_embd", "hidden_size")
    inner = keys("n_inner", default=4 * width)
    return Architecture(
        **keys.sizes(width=width, inner=inner, layers=keys("n_layer"), heads=keys("n_head")),
        prefixes=("transformer.", ""),
        layer="h",
        names=NAMES,
        norms={"attention": "ln_1", "feed_forward": "ln_2"},
        norm=partial(layer_norm, eps=keys("layer_norm_epsilon", default=1e-5)),
        norm_tensors=("weight", "bias"),
        biases=ALL,
        transposed=True,
        fused_by_head=False,
        positions=keys("n_positions"),
        activation=keys.activation("activation_function", default="gelu_new"),
        tied=keys("tie_word_embeddings", default=True),
    )
