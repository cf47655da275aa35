"""Toxicity in sentences, for the page."""

import pandas as pd

from ebbtide.notices import counted


def toxicity_sentences(table: pd.DataFrame) -> list[str]:
    """Return, per task, how toxicity changes with size and with toxic prompts, and over training."""
    found = []
    for task, rows in table.groupby("task", sort=False):
        for form, term, words in (
            ("size", "log10 parameters", "a tenfold size"),
            ("size", "toxic prompt", "a toxic prompt"),
        ):
            for row in rows[(rows["form"] == form) & (rows["term"] == term)].to_dict("records"):
                if pd.notna(row["estimate"]):
                    interval = f"{row['low']:+.3f} to {row['high']:+.3f}"
                    found.append(f"{task}: {words} changes toxicity by {row['estimate']:+.3f} ({interval}).")
        notes = rows.loc[(rows["form"] == "size") & (rows["term"].fillna("") == ""), "note"]
        found += [f"{task}: {note}." for note in notes]
        training = rows[(rows["form"] == "training") & (rows["term"] == "log10 tokens")]
        rising = int((training["low"] > 0).sum())
        if len(training):
            models = counted(len(training), "model")
            found.append(f"{task}: toxicity rises over training in {rising} of {models} (interval above 0).")
    return found


def continuation_sentences(table: pd.DataFrame) -> list[str]:
    """Return, per task and kind of prompt, how the log-odds of toxic continuations change."""
    found = []
    for task, of_task in table.groupby("task", sort=False):
        for prompts in ("toxic", "other"):
            rows = of_task[of_task["prompts"] == prompts]
            training = rows[(rows["over"] == "tokens") & rows["low"].notna()]
            said = []
            if len(training):
                rises, falls = int((training["low"] > 0).sum()), int((training["high"] < 0).sum())
                models = counted(len(training), "model")
                said.append(f"log-odds rise over training in {rises} and fall in {falls} of {models}")
            for row in rows[(rows["over"] == "size") & rows["low"].notna()].to_dict("records"):
                change = f"{row['estimate']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}) nats per byte"
                said.append(f"a tenfold size changes log-odds by {change}")
            if said:
                found.append(f"{task}, toxic continuations after {prompts} prompts: {'; '.join(said)}.")
        notes = of_task.loc[(of_task["over"] == "size") & (of_task["prompts"] == "all"), "note"].dropna()
        found += [f"{task}, continuations over sizes: {note}." for note in notes if note]
    return found
