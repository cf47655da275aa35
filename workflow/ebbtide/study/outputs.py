"""Outputs of a study: what each stage makes, registered by its rule file.

`rule all`, the figures to draw and `docs/outputs.md` are made from this register, so that a stage names its
files once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FORMATS = ("pdf", "png")  # of every figure: for print, for screens


@dataclass(frozen=True)
class Output:
    """A file, a family of files, or a figure in every format."""

    stage: str
    path: str  # as the docs show it
    description: str
    condition: str  # which studies have it, in words; "" is all
    targets: tuple[str, ...]  # the files of this study, none if it does not have it


class Outputs:
    """The register of a study.

    Parameters
    ----------
    results
        Directory of the study's results.
    """

    def __init__(self, results: str) -> None:
        self._results = results
        self._outputs: list[Output] = []
        self._figures: list[str] = []
        self._shown: dict[str, str] = {}

    def files(self, stage: str, pattern: str, description: str, targets: Iterable[str] = ()) -> None:
        """Register a family of files: its pattern for the docs, and those that the study asks for."""
        self._outputs.append(Output(stage, pattern, description, "", tuple(targets)))

    def tables(
        self, stage: str, tables: Mapping[str, str], *, when: bool = True, condition: str = ""
    ) -> None:
        """Register files in the directory of results.

        Parameters
        ----------
        tables
            Name → description.
        when, condition
            Whether this study has them, and which studies do, in words.
        """
        for name, description in tables.items():
            targets = (f"{self._results}/{name}",) if when else ()
            self._outputs.append(Output(stage, f"results/{{study}}/{name}", description, condition, targets))

    def figures(
        self,
        stage: str,
        figures: Mapping[str, str],
        *,
        shows: Iterable[str],
        when: bool = True,
        condition: str = "",
    ) -> None:
        """Register figures, by their names without suffix.

        Parameters
        ----------
        shows
            Tables that they are drawn from, files in the directory of results.
        when, condition
            As of `tables`.
        """
        for name, description in figures.items():
            path = f"results/{{study}}/figures/{name}.{{{','.join(FORMATS)}}}"
            targets = tuple(self.figure(name, form) for form in FORMATS) if when else ()
            self._outputs.append(Output(stage, path, description, condition, targets))
            self._figures += [name] * when
        if when:
            self._shown |= {name.partition(".")[0]: f"{self._results}/{name}" for name in shows}

    def figure(self, name: str, form: str) -> str:
        """The file of a figure in one format."""
        return f"{self._results}/figures/{name}.{form}"

    def figure_names(self) -> list[str]:
        """Figures that the study asks for, without suffix."""
        return list(self._figures)

    def shown(self) -> dict[str, str]:
        """Name without suffix → file, of the tables that the figures of this study are drawn from."""
        return dict(self._shown)

    def targets(self) -> list[str]:
        """Every file that the study asks for."""
        return [target for output in self._outputs for target in output.targets]

    def page(self) -> str:
        """The register as Markdown: a section per stage, a row per output."""
        stages = dict.fromkeys(output.stage for output in self._outputs)
        return _HEADER + "".join(
            f"\n## {stage}\n\n| file | contains | studies |\n|---|---|---|\n"
            + "".join(
                f"| `{o.path}` | {o.description} | {o.condition or 'all'} |\n"
                for o in self._outputs
                if o.stage == stage
            )
            for stage in stages
        )


_HEADER = """# Outputs

Every file of a study, stage by stage. Paths never contain timestamps; `{study}` is the name of the study.

This page is generated from what the rule files register: `make outputs` writes it.
"""
