"""Entry point of `python -m ebbtide`."""

import sys

try:
    from ebbtide.cli import main
except KeyboardInterrupt:  # many jobs are hardly longer than their imports
    print("Interrupted.", file=sys.stderr)
    sys.exit(130)

sys.exit(main(prog="python -m ebbtide"))
