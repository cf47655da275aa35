"""Kinds of tasks, one module each: how an example becomes requests, and what they mean.

kind        requests of an example                                      fields
choice      one per choice; gold marks the right ones, or weighs them   prompt, question, choices, gold, mc1
sequence    one: the text after the prompt                              prompt, completion
log_odds    two after the prompt, two after the other prompt            prompt, other_prompt, choices, gold
rating      one per choice; each has a value                            prompt, choices, values, target
binary      two: the negative answer, then the positive                 prompt, question, choices, gold
rolling     one: the document                                           text
generation  one: the prompt, after which the model writes               prompt, target

A new kind is a module here that registers it, imported below, and a module of `ebbtide.metrics`.
"""

# Imported for the kinds that they register, the default one first.
from ebbtide.tasks.kinds import choice, sequence, log_odds, rating, binary, rolling, generation  # noqa: F401, I001
from ebbtide.tasks.kinds.kind import KINDS, Example, Kind, Request, kind_of, register, with_kinds

__all__ = ["KINDS", "Example", "Kind", "Request", "kind_of", "register", "with_kinds"]
