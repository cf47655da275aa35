"""Which code made a result: a digest of modules, so that editing the statistics reruns the statistics."""

from pathlib import Path

from ebbtide.errors import ConfigError
from ebbtide.files import digest, file_sha256

PACKAGE = Path(__file__).parent


def code_digest(*modules: str) -> str:
    """Digest of the source of modules (`metrics`) and subpackages (`figures`, with templates) of Ebbtide.

    A param of the cheap rules: Snakemake does not see the modules a script imports. Comments count; a
    recomputed table costs seconds.
    """
    files = []
    for module in modules:
        found = [PACKAGE / f"{module}.py", *_sources(PACKAGE / module)]
        existing = [path for path in found if path.exists()]
        if not existing:
            raise ConfigError(f"there is no module ebbtide.{module} to take the digest of.")
        files += existing
    return digest([[str(f.relative_to(PACKAGE)), file_sha256(f)] for f in files])


def _sources(package: Path) -> list[Path]:
    return sorted(path for path in package.glob("*") if path.suffix in (".py", ".jinja", ".js"))
