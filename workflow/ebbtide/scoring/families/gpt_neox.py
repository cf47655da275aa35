"""GPT-NeoX: Pythia and the ladders trained here."""

from ebbtide.scoring.families.architecture import Architecture, Names, layer_norms
from ebbtide.scoring.families.keys import Keys

NAMES = Names(
    prefixes=("gpt_neox.", ""),
    embedding="embed_in",
    project=("attention.query_key_value",),
    out="attention.dense",
    gate=None,
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
    final_norm="final_layer_norm",
    head=("embed_out", "lm_head"),  # the second since transformers 5
)


def gpt_neox(keys: Keys) -> Architecture:
    """Attention and feed-forward side by side; a part of each head turns."""
    older = {
        "rope_theta": keys("rotary_emb_base", default=10000.0),
        "partial_rotary_factor": keys("rotary_pct", default=0.25),
    }
    bias = keys("attention_bias", default=True)
    return Architecture(
        **keys.sizes(),
        names=NAMES,
        tied=keys("tie_word_embeddings", default=False),
        activation=keys.activation("hidden_act", default="gelu"),
        norm=layer_norms(keys("layer_norm_eps", default=1e-5)),
        rope={**older, **keys("rope_parameters", default={})},
        project_bias=bias,
        out_bias=bias,
        feed_forward_bias=True,
        parallel=keys("use_parallel_residual", default=True),
    )
