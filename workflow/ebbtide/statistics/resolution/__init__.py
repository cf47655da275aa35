"""What a benchmark can tell: signal, noise and detectable differences per task, and tested proxies."""
