"""Running neuronx-cc: its command line, its process, and the programs it has compiled."""
