"""The formats of `ebbtide export`, by name. Importing this module is cheap."""

FORMATS = {
    "lm-eval": "results and samples of lm-evaluation-harness 0.4",
    "every-eval-ever": "records of Every Eval Ever 0.3, with samples",
    "inspect": "logs of Inspect",
    "tables": "metrics.csv, reliability.csv, examples.parquet",
    "csv": "the same with examples.csv",
}
DEFAULT = ("lm-eval", "tables")
