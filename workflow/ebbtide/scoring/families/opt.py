"""OPT, except the 350M model, which has post-norms and a narrower embedding."""

from functools import partial

from ebbtide.scoring.decoder import layer_norm
from ebbtide.scoring.families.architecture import ALL, LLAMA, Architecture
from ebbtide.scoring.families.keys import Keys

EPS = 1e-5  # of all norms; the configuration has no key for it
NAMES = {
    **{part: LLAMA[part] for part in ("embedding", "query", "key", "value")},
    "positions": "embed_positions",
    "out": "self_attn.out_proj",
    "up": "fc1",
    "down": "fc2",
    "final_norm": "final_layer_norm",
}


def opt(keys: Keys) -> Architecture:
    """Learned positions, which start at the third row of their table."""
    keys.must_be("do_layer_norm_before", True)
    keys.must_be("_remove_final_layer_norm", False)
    keys.must_be("word_embed_proj_dim", keys("hidden_size"), None)
    keys.must_be("enable_bias", True)
    keys.must_be("layer_norm_elementwise_affine", True)
    return Architecture(
        **keys.sizes(inner=keys("ffn_dim")),
        prefixes=("model.decoder.", "decoder.", ""),
        names=NAMES,
        norms={"attention": "self_attn_layer_norm", "feed_forward": "final_layer_norm"},
        norm=partial(layer_norm, eps=EPS),
        norm_tensors=("weight", "bias"),
        biases=ALL,
        positions=keys("max_position_embeddings"),
        skipped_positions=2,
        activation=keys.activation("activation_function", default="relu"),
        tied=keys("tie_word_embeddings", default=True),
    )
