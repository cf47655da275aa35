"""OPT, but not its 350M, whose norms come after and whose embedding is narrower."""

from ebbtide.scoring.decoder import Decoder, Layer, Norms
from ebbtide.scoring.families.keys import Keys
from ebbtide.scoring.families.pieces import biased_norm, linear, output_head, separate, token_embedding
from ebbtide.scoring.weights import Weights

EPS = 1e-5  # of all norms; the configuration has no key for it
FIRST = 2  # row of the first position


def opt(keys: Keys, weights: Weights) -> Decoder:
    """Learned positions."""
    width, inner, count = keys("hidden_size"), keys("ffn_dim"), keys("num_hidden_layers")
    heads, vocabulary = keys("num_attention_heads"), keys("vocab_size")
    positions = keys("max_position_embeddings")
    activation = keys.activation("activation_function", default="relu")
    keys.must_be("do_layer_norm_before", True)
    keys.must_be("_remove_final_layer_norm", False)
    keys.must_be("word_embed_proj_dim", width, None)
    keys.must_be("enable_bias", True)
    keys.must_be("layer_norm_elementwise_affine", True)
    tied = keys("tie_word_embeddings", default=True)
    keys.done()

    weights.prefixes = ("model.decoder.", "decoder.", "")
    embedding = token_embedding(weights, "embed_tokens.weight", vocabulary, width)
    sizes = {"heads": heads, "groups": heads, "size": width // heads, "width": width}
    layers = []
    for i in range(count):
        at = f"layers.{i}."
        layers.append(
            Layer(
                norms=Norms(
                    attention=biased_norm(weights, at + "self_attn_layer_norm", width, EPS),
                    feed_forward=biased_norm(weights, at + "final_layer_norm", width, EPS),
                ),
                project=separate(weights, at + "self_attn.", **sizes, bias=True),
                out=linear(weights, at + "self_attn.out_proj", width, width, bias=True),
                up=linear(weights, at + "fc1", inner, width, bias=True),
                down=linear(weights, at + "fc2", width, inner, bias=True),
            )
        )
    table = weights.take("embed_positions.weight", (FIRST + positions, width), embedding=True)
    return Decoder(
        embedding=embedding,
        positions=table[FIRST:],
        layers=layers,
        final_norm=biased_norm(weights, "final_layer_norm", width, EPS),
        head=output_head(weights, "lm_head.weight", embedding, tied=tied),
        heads=heads,
        key_value_heads=heads,
        head_dim=width // heads,
        scale=(width // heads) ** -0.5,
        activation=activation,
    )
