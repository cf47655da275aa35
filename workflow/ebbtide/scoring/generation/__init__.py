"""Generation: prompts → samples, each of which depends on its cell, prompt and number alone.

settings and results   decoding
text to tokens         prompts (encode), ends (end tokens, stop strings)
logits to tokens       noise (counter-based), choice (temperature, top-k, top-p, argmax)
sequences to logits    loop (protocol `Rows`, batches), prefill + attention + native (our decoder),
                       hugging_face (transformers)
"""
