"""The paper of a study: its numbers as values, which a template prints, and the compiled PDF."""
