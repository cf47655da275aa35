"""Put on PYTHONPATH: locks in directories called `.locks` fail or have no effect, as LOCK_FAULT says."""

import fcntl
import os
from errno import ENOLCK

_flock = fcntl.flock


def _faulty(file, operation):
    if os.sep + ".locks" + os.sep not in str(getattr(file, "name", "")):
        return _flock(file, operation)
    if os.environ["LOCK_FAULT"] == "fails":
        raise OSError(ENOLCK, os.strerror(ENOLCK))
    return None


if "LOCK_FAULT" in os.environ:
    fcntl.flock = _faulty
