"""Checkpoints in formats of trainers: read, mapped to names of a Hugging Face model, and converted once.

source      what every format offers: names, shapes, precisions and files, and one tensor at a time
pickles     what pickled files describe, read without making any of their objects
dcp, pt     torch.distributed.checkpoint directories, and state dictionaries
gguf        files of llama.cpp; gguf_header, gguf_config: their header, and the configuration in it
peft        LoRA adapters, merged into their base; lora, peft_plan: what they are, and what they change
sources     the format of a row → its source
targets     the tensors of a model, from its configuration
mapping     a declarative map (workflow/formats/NAME.yaml): which tensors become which
operations  the tensors of a step of a map: transposed, joined, split
planning    what is known of a checkpoint before it is converted: identity, precision, size
conversion  the job: safetensors in Hugging Face layout; partial: its directory, which survives a kill
record      what a conversion was made of, and whether it can be made again
"""
