"""OPT, but not its 350M, whose norms come after and whose embedding is narrower."""

from ebbtide.scoring.families.architecture import Architecture, Names, layer_norms
from ebbtide.scoring.families.keys import Keys

EPS = 1e-5  # of all norms; the configuration has no key for it
NAMES = Names(
    prefixes=("model.decoder.", "decoder.", ""),
    positions="embed_positions",
    out="self_attn.out_proj",
    gate=None,
    up="fc1",
    down="fc2",
    norms={"attention": "self_attn_layer_norm", "feed_forward": "final_layer_norm"},
    final_norm="final_layer_norm",
)


def opt(keys: Keys) -> Architecture:
    """Learned positions, of which the table's first two rows are none."""
    sizes = keys.sizes(inner="ffn_dim")
    keys.must_be("do_layer_norm_before", True)
    keys.must_be("_remove_final_layer_norm", False)
    keys.must_be("word_embed_proj_dim", sizes["width"], None)
    keys.must_be("enable_bias", True)
    keys.must_be("layer_norm_elementwise_affine", True)
    return Architecture(
        **sizes,
        names=NAMES,
        tied=keys("tie_word_embeddings", default=True),
        activation=keys.activation("activation_function", default="relu"),
        norm=layer_norms(EPS),
        positions=keys("max_position_embeddings"),
        skipped_positions=2,
        project_bias=True,
        out_bias=True,
        feed_forward_bias=True,
    )
