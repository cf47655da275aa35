"""Training compute of published models over time, who trains them, and a timeline; from a table alone."""
