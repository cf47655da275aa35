"""Import and export of results.

lm-eval results, samples, published tables   →   specification, lm_eval_json, samples, tables   →   imports
cells, requests, metrics                     →   results   →   export (lm-eval's formats), tidy (one file)
"""
