"""Import and export of results.

which files, which names          specification, steps, published, runs
what the files contain            lm_eval_json, samples (sample_lines, gold), tables
all of them together              imports → merge, notices; examples (on disk, like those of cells)
rows of `imported` for files      plan
cells, requests, metrics          results → export (lm-eval's formats), tidy (one file)
metrics and alarms in experiment trackers           trackers/
"""
