"""The load proof of a checkpoint: its loss on short fixed texts, and a sketch of every tensor.

A checkpoint can be loaded without an error and still be wrong: a head in the place of the embedding, a
transposed matrix, rotary halves in another order, layers of another step. Its scores are then near chance,
like those of a poor model. The proof is what such checkpoints cannot have: a loss and tensors that continue
those of their neighbours in training.

texts → losses (through the engine) ┐
weight files → sketch               ┴→ proof_file, in the cell store → faults (of a pair) → series (verdicts)

A proof is made once per load identity and is no part of the identity of a cell.
"""
