"""A tiny checkpoint in the shape of Detoxify's, with random weights, and the files of its base model."""

import hashlib
import json
from pathlib import Path
from typing import Any

LABELS = ["toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_hate"]
WORDS = ["the", "a", "calm", "stone", "bell", "river", "thunder", "is", "was", "not", "you", "are", "bad"]


def write_detoxify(directory: Path, labels: list[str] = LABELS, *, base: str = "bert", **changes: Any) -> str:
    """Write checkpoint and base files below `directory`, as they are looked for, and return the sha256."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = AutoConfig.for_model(
        base,
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        pad_token_id=0,
        num_labels=len(labels),
    )
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():  # larger than at the start of training, so that texts differ
            weight.normal_(0, 0.5)
    weights = dict(model.state_dict())
    weights[f"{base}.embeddings.position_ids"] = torch.arange(24)[None]  # as saved by earlier versions
    arguments = {"model_type": "bert-base-uncased", "model_name": type(model).__name__}
    arguments |= {"tokenizer_name": "BertTokenizer", "num_classes": len(labels)}
    training = {"arch": {"type": "BERT", "args": arguments}, "dataset": {"args": {"classes": labels}}}
    content = {"config": training, "state_dict": weights, **changes}
    made = directory / "made.ckpt"
    directory.mkdir(parents=True, exist_ok=True)
    torch.save({name: value for name, value in content.items() if value is not None}, made)
    sha256 = hashlib.sha256(made.read_bytes()).hexdigest()
    place = directory / "resources/sources" / sha256
    place.mkdir(parents=True, exist_ok=True)
    made.rename(place / "toxic_original-0123abcd.ckpt")
    config.save_pretrained(place)
    tokenizer = {"tokenizer_class": "BertTokenizer"}
    (place / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (place / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return sha256
