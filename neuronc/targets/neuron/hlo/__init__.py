"""HLO in the form that neuronx-cc reads: its schema, and what turns today's XLA into it."""
