"""The bundle of a study: one archive, from which another machine rebuilds everything after the cells."""
