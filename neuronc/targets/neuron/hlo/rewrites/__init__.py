"""Operators that neuronx-cc does not take, expressed in operators that it does."""
