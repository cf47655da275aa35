"""Toxicity of generated texts: regressions on size, training and kind of prompt."""
