"""Outputs of a study, registered by the rule file of each stage.

`rule all`, the list of figures to draw and `docs/outputs.md` are made from this register, so that each file
is named once.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.notices import Notice

FORMATS = ("pdf", "png")  # of every figure, for print and for screens


@dataclass(frozen=True)
class Output:
    """A file, a set of files with one pattern, or a figure in every format."""

    stage: str
    path: str  # pattern for the docs
    description: str
    condition: str  # which studies have it, in words; "" means all
    targets: Callable[[], Iterable[str]]  # the files in this study, if it has any
    is_named: bool = True  # a table or figure with a name of its own, not one of many files with a pattern


class Outputs:
    """The register of the outputs of a study.

    Parameters
    ----------
    results
        Directory of the study's results.
    """

    def __init__(self, results: str) -> None:
        self._results = results
        self._outputs: list[Output] = []
        self._figures: dict[str, list[str]] = {}  # stage → names
        self._not_drawn: dict[str, str] = {}  # name → reason
        self._figure_tables: dict[str, dict[str, str]] = {}  # stage → name of a table → its file

    def files(
        self,
        stage: str,
        pattern: str,
        description: str,
        targets: Callable[[], Iterable[str]] = tuple,
        condition: str = "",
    ) -> None:
        """Register files that share a pattern, which the docs list.

        `targets` returns those of this study. It is called when they are needed, because a large grid has
        many, and the jobs of a cluster, which read the rules again, need none.
        """
        self._outputs.append(Output(stage, pattern, description, condition, targets, is_named=False))

    def tables(
        self, stage: str, tables: Mapping[str, str], *, when: bool = True, condition: str = ""
    ) -> None:
        """Register files in the results directory of the study.

        Parameters
        ----------
        tables
            Name → description.
        when, condition
            Whether this study has them; and which studies do, in words for the docs.
        """
        for name, description in tables.items():
            targets = (f"{self._results}/{name}",) if when else ()
            path = f"results/{{study}}/{name}"
            self._outputs.append(Output(stage, path, description, condition, _constant(targets)))

    def figures(
        self,
        stage: str,
        figures: Mapping[str, str],
        *,
        shows: Iterable[str],
        when: bool = True,
        lacking: str = "",
        condition: str = "",
    ) -> None:
        """Register figures by their names without suffix.

        Parameters
        ----------
        shows
            Files of the tables from which the figures are drawn, in the results directory.
        when, condition
            See `tables`.
        lacking
            Why this study cannot have the figures, in words: they are not drawn; see `not_drawn`.
        """
        if when and lacking:
            self._not_drawn |= dict.fromkeys(figures, lacking)
        when = when and not lacking
        for name, description in figures.items():
            path = f"results/{{study}}/figures/{name}.{{{','.join(FORMATS)}}}"
            targets = tuple(self.figure(name, form) for form in FORMATS) if when else ()
            self._outputs.append(Output(stage, path, description, condition, _constant(targets)))
        if when:
            self._figures.setdefault(stage, []).extend(figures)
            tables = {name.partition(".")[0]: f"{self._results}/{name}" for name in shows}
            self._figure_tables.setdefault(stage, {}).update(tables)

    def figure(self, name: str, form: str) -> str:
        """Return the path of a figure in one format."""
        return f"{self._results}/figures/{name}.{form}"

    def not_drawn(self) -> dict[str, str]:
        """Return why each figure is not drawn that this study cannot have, by its name."""
        return dict(self._not_drawn)

    def notices(self) -> list[Notice]:
        """Return a notice with the reasons why figures are not drawn, if there are such figures."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self._not_drawn.items():
            by_reason.setdefault(reason, []).append(name)
        if not by_reason:
            return []
        parts = (f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
        detail = f"These figures are not drawn: {'; '.join(parts)}."
        remedy = "Add the checkpoints, models or tasks that they need."
        return [Notice("note", "not_compared", detail, remedy, count=len(self._not_drawn))]

    def pictures(self) -> dict[str, str]:
        """Return the PNG file of each figure of this study, by its name."""
        return {name: self.figure(name, "png") for names in self._figures.values() for name in names}

    def captions(self) -> dict[str, str]:
        """Return the description of each figure of this study, by its name."""
        return {
            Path(output.path).name.partition(".")[0]: output.description
            for output in self._outputs
            if "/figures/" in output.path and output.targets()
        }

    def figures_by_stage(self) -> dict[str, list[str]]:
        """Return the names of the figures of this study, without suffix, by stage."""
        return dict(self._figures)

    def figure_tables(self, stage: str) -> dict[str, str]:
        """Return the files of the tables that the figures of a stage show, by name without suffix."""
        return dict(self._figure_tables[stage])

    def tables_of_study(self) -> dict[str, str]:
        """Return the TSV tables of this study, by name without suffix."""
        directory = f"{self._results}/"
        paths = [path for path in self.named_files() if path.endswith(".tsv")]
        return {path.removeprefix(directory).removesuffix(".tsv"): path for path in paths}

    def named_files(self) -> list[str]:
        """Return the tables and figures of this study, without cells and parts of tables."""
        return [target for output in self._outputs if output.is_named for target in output.targets()]

    def files_by_stage(self) -> dict[str, dict[str, Any]]:
        """Return the tables of this study, and its figures with the tables that each shows, by stage."""
        found: dict[str, dict[str, Any]] = {}
        for output in self._outputs:
            if output.is_named:
                of = found.setdefault(output.stage, {"tables": [], "figures": {}})
                if "/figures/" in output.path:
                    shown = list(self._figure_tables.get(output.stage, {}).values())
                    of["figures"] |= dict.fromkeys(output.targets(), shown)
                else:
                    of["tables"] += output.targets()
        return found

    def targets(self) -> list[str]:
        """Return all files of this study."""
        return [target for output in self._outputs for target in output.targets()]

    def page(self) -> str:
        """Return the register as Markdown: one section per stage, one row per output."""
        stages = dict.fromkeys(output.stage for output in self._outputs)
        return _HEADER + "".join(
            f"\n## {stage}\n\n| file | contains | studies |\n|---|---|---|\n"
            + "".join(
                f"| {_linked(o.path)} | {o.description} | {o.condition or 'all'} |\n"
                for o in self._outputs
                if o.stage == stage
            )
            for stage in stages
        )


def section_of(file: str) -> str:
    """Return the anchor of a table in reference/tables.md, made of its heading as Markdown does."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", file).lower())


def _linked(path: str) -> str:
    """Return a path for the page; that of a table leads to its columns."""
    file = path.removeprefix("results/{study}/")
    if file.endswith((".tsv", ".parquet")) or file == "imported/examples":
        return f"[`{path}`](reference/tables.md#{section_of(file)})"
    return f"`{path}`"


def _constant(targets: tuple[str, ...]) -> Callable[[], tuple[str, ...]]:
    return lambda: targets


_HEADER = """# Outputs

The results of a study and the tasks and checkpoints it uses, by stage. `{study}` is the name of the study.
Paths never contain timestamps. Tables lead to their [columns](reference/tables.md).

In TSV and CSV files, a text that a spreadsheet would run as a formula (`=1+1`, `@SUM(A1)`) has an apostrophe
before it. Ebbtide removes it when it reads such a file; numbers such as -0.5 are unchanged.

Figures that a study cannot have, such as trends of models with one checkpoint each, are not made. The report
and the paper give the reason in their place, and `notices.tsv` lists them. A few reasons are known only from
results: no accuracy falls (`early_warning`), a metric is constant, or imported models have one size.
Snakemake must know files before it runs, so that asking for `results/{study}/figures/curves.pdf` works and a
deleted figure is made again. The files of such a figure contain its reason; report and paper print it.

A metric of some of the examples has the group and its level in its name, `accuracy[part=1]`; a metric that
lm-eval computes behind a filter has the filter, `exact_match[filter=strict-match]`. `regression.metric`
and `runs.metrics` take these names, and `metric == "accuracy"` selects no part of a task. In
`metrics.parquet` the column `group` has the same (`part=1`); it is null for all examples without a filter.

This page is generated from the rule files by `make outputs`.
"""
