"""Stage 8 of 8: workload, timing, metrics, statistics, report."""
