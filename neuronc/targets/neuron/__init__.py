"""Targets of AWS Neuron: from one rank's HLO to what neuronx-cc reads and nrtpy runs."""
