"""The page of forgotten examples, with its template and script."""
