"""What can be measured: single programs, and whole runs of requests."""
