"""Stage 7 of 8: open an artifact and run it: session, engine, sampling."""
