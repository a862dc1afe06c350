"""What samples can say, and what they cannot: every interval here is null where n is too small."""
