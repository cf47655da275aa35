"""The gate: what `snakemake check_alarms` found, for people and for other programs.

the structure of all reports            gate
from tables to the structure            verdict (status, drops), examples (of each drop)
sentences that reports share            words
one report each                         terminal, document (gate.json), markdown, junit, slack
all of them on disk                     reports
"""
