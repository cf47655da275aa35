"""GPT-2."""

from ebbtide.scoring.decoder import Decoder, Fused, Layer, Linear, Norms
from ebbtide.scoring.families.keys import Keys
from ebbtide.scoring.families.pieces import biased_norm, output_head, token_embedding
from ebbtide.scoring.weights import Weights


def gpt2(keys: Keys, weights: Weights) -> Decoder:
    """Learned positions; matrices are stored (in, out)."""
    width, count, heads = keys("n_embd", "hidden_size"), keys("n_layer"), keys("n_head")
    vocabulary, eps = keys("vocab_size"), keys("layer_norm_epsilon", default=1e-5)
    positions, inner = keys("n_positions"), keys("n_inner", default=4 * width)
    activation = keys.activation("activation_function", default="gelu_new")
    keys.must_be("scale_attn_weights", True)
    keys.must_be("scale_attn_by_inverse_layer_idx", False)
    keys.must_be("reorder_and_upcast_attn", False)
    tied = keys("tie_word_embeddings", default=True)
    keys.done()

    weights.prefixes = ("transformer.", "")
    embedding = token_embedding(weights, "wte.weight", vocabulary, width)

    def linear(name: str, out: int, into: int) -> Linear:
        weight = weights.take(f"{name}.weight", (into, out)).t()
        return Linear(weight, weights.take(f"{name}.bias", (out,)))

    layers = [
        Layer(
            norms=Norms(
                attention=biased_norm(weights, f"h.{i}.ln_1", width, eps),
                feed_forward=biased_norm(weights, f"h.{i}.ln_2", width, eps),
            ),
            project=Fused(linear(f"h.{i}.attn.c_attn", 3 * width, width), heads, by_head=False),
            out=linear(f"h.{i}.attn.c_proj", width, width),
            up=linear(f"h.{i}.mlp.c_fc", inner, width),
            down=linear(f"h.{i}.mlp.c_proj", width, inner),
        )
        for i in range(count)
    ]
    return Decoder(
        embedding=embedding,
        positions=weights.take("wpe.weight", (positions, width), embedding=True),
        layers=layers,
        final_norm=biased_norm(weights, "ln_f", width, eps),
        head=output_head(weights, "lm_head.weight", embedding, tied=tied),
        heads=heads,
        key_value_heads=heads,
        head_dim=width // heads,
        scale=(width // heads) ** -0.5,
        activation=activation,
    )
