"""GPT-NeoX: Pythia and the local ladders."""

from functools import partial

from ebbtide.scoring.decoder import layer_norm
from ebbtide.scoring.families.architecture import ALL, LLAMA_NORMS, Architecture
from ebbtide.scoring.families.keys import Keys

NAMES = {
    "embedding": "embed_in",
    "fused": "attention.query_key_value",
    "out": "attention.dense",
    "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
    "final_norm": "final_layer_norm",
}


def gpt_neox(keys: Keys) -> Architecture:
    """Parallel attention and feed-forward; rotary positions in a part of each head."""
    theta, share = keys("rotary_emb_base", default=10000.0), keys("rotary_pct", default=0.25)
    older = {"rope_theta": theta, "partial_rotary_factor": share}
    return Architecture(
        **keys.sizes(),
        prefixes=("gpt_neox.", ""),
        names=NAMES,
        head=("embed_out.weight", "lm_head.weight"),  # the second name since transformers 5
        norms=LLAMA_NORMS,
        norm=partial(layer_norm, eps=keys("layer_norm_eps", default=1e-5)),
        norm_tensors=("weight", "bias"),
        biases=ALL if keys("attention_bias", default=True) else ("feed_forward",),
        rope={**older, **keys("rope_parameters", default={})},
        parallel=keys("use_parallel_residual", default=True),
        activation=keys.activation("hidden_act", default="gelu"),
        tied=keys("tie_word_embeddings", default=False),
    )
