"""GPT-NeoX: Pythia and the ladders trained here."""

from ebbtide.scoring.decoder import Decoder, Fused, Layer, Norms
from ebbtide.scoring.families.keys import Keys
from ebbtide.scoring.families.pieces import (
    biased_norm,
    linear,
    output_head,
    rotary_frequencies,
    token_embedding,
)
from ebbtide.scoring.weights import Weights


def gpt_neox(keys: Keys, weights: Weights) -> Decoder:
    """Attention and feed-forward side by side; a part of each head turns."""
    width, inner, count = keys("hidden_size"), keys("intermediate_size"), keys("num_hidden_layers")
    heads, vocabulary = keys("num_attention_heads"), keys("vocab_size")
    eps = keys("layer_norm_eps", default=1e-5)
    older = {
        "rope_theta": keys("rotary_emb_base", default=10000.0),
        "partial_rotary_factor": keys("rotary_pct", default=0.25),
    }
    rope = {**older, **keys("rope_parameters", default={})}
    bias, tied = keys("attention_bias", default=True), keys("tie_word_embeddings", default=False)
    parallel = keys("use_parallel_residual", default=True)
    activation = keys.activation("hidden_act", default="gelu")
    keys("max_position_embeddings")
    keys.done()

    weights.prefixes = ("gpt_neox.", "")
    embedding = token_embedding(weights, "embed_in.weight", vocabulary, width)
    frequencies = rotary_frequencies(rope, width // heads, embedding.device)
    layers = []
    for i in range(count):
        at = f"layers.{i}."
        fused = linear(weights, at + "attention.query_key_value", 3 * width, width, bias=bias)
        layers.append(
            Layer(
                norms=Norms(
                    attention=biased_norm(weights, at + "input_layernorm", width, eps),
                    feed_forward=biased_norm(weights, at + "post_attention_layernorm", width, eps),
                ),
                project=Fused(fused, heads, by_head=True),
                out=linear(weights, at + "attention.dense", width, width, bias=bias),
                up=linear(weights, at + "mlp.dense_h_to_4h", inner, width, bias=True),
                down=linear(weights, at + "mlp.dense_4h_to_h", width, inner, bias=True),
                frequencies=frequencies,
            )
        )
    head = "embed_out.weight" if weights.has("embed_out.weight") else "lm_head.weight"  # transformers 5
    return Decoder(
        embedding=embedding,
        layers=layers,
        final_norm=biased_norm(weights, "final_layer_norm", width, eps),
        head=output_head(weights, head, embedding, tied=tied),
        heads=heads,
        key_value_heads=heads,
        head_dim=width // heads,
        scale=(width // heads) ** -0.5,
        activation=activation,
        parallel=parallel,
    )
