"""Pages of the results: templates and the scripts in them."""
