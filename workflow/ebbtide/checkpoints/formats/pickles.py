"""What pickled files describe, without making any of their objects: no code of a file runs. A lean module.

A pickle names functions and classes, and calls them. Here, every name stands for a record of the calls. So
the names and shapes of tensors are read without torch, and without trusting the file.
"""

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebbtide.errors import CheckpointError, type_and_reason

MOST_BYTES = 256 << 20  # of a pickle that describes tensors; the values of tensors are outside


@dataclass(eq=False)  # hashed by identity: such objects are keys of dictionaries
class Described:
    """An object of a pickle: the name of what makes it, the arguments, and its state."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)

    def __setstate__(self, state: Any) -> None:
        """Take the state of a pickle, whatever it is."""
        self.state = state if isinstance(state, dict) else {"state": state}


def describe(data: bytes, path: Path, allowed: tuple[str, ...]) -> Any:
    """Return what a pickle contains: builtin values, and a `Described` for every other object.

    Parameters
    ----------
    allowed
        Prefixes of the names that the format needs; `collections.OrderedDict` becomes a dictionary.

    Raises
    ------
    CheckpointError
        Not a complete pickle, or one that names anything else.
    """
    if len(data) > MOST_BYTES:
        raise CheckpointError(f"{path} has a pickle of {len(data):,} bytes, allowed: {MOST_BYTES:,}.")
    try:
        return _Describing(io.BytesIO(data), path, allowed).load()
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle raises many types
        raise CheckpointError(
            f"{path} is not a complete pickle ({type_and_reason(error)}); copy the file again."
        ) from error


class _Describing(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, path: Path, allowed: tuple[str, ...]) -> None:
        super().__init__(file)
        self._path, self._allowed = path, allowed

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; nothing is imported."""
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return OrderedDict
        if not full.startswith(self._allowed):
            raise CheckpointError(
                f"{self._path} contains a Python object ({full:.100}), which could run code; save a "
                "dictionary of tensors and plain values, without it."
            )
        return type(name, (Named,), {"full": full})

    def persistent_load(self, pid: Any) -> Any:
        """Return the description of values that are stored elsewhere in the file."""
        return pid


class Named(Described):
    """What stands for a class or a function of a pickle; calling it describes the call."""

    full = ""

    def __new__(cls, *arguments: Any) -> Any:
        """Return the description of a call."""
        made = object.__new__(Described)
        made.name, made.arguments, made.state = cls.full, arguments, {}
        return made
