"""What would fail, found before neuronx-cc starts."""
