"""Is B slower than A? Two benchmarks, rules, and a verdict that knows what it cannot say."""
