"""Print the lock of this environment: every installed distribution but Ebbtide itself, one pin a line."""

from importlib.metadata import distributions


def pins() -> list[str]:
    """Sorted `name==version`; local labels (`+cpu`) are dropped, so that a GPU build satisfies the pin."""
    found = {d.metadata["Name"].lower().replace("_", "-"): d.version.split("+")[0] for d in distributions()}
    for own in ("ebbtide", "pip", "setuptools"):
        found.pop(own, None)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


if __name__ == "__main__":
    print("# Tested versions, for `pip install -c`. Made by `make lock`.")
    print("\n".join(pins()))
