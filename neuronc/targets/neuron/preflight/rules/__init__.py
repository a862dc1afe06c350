"""Rules that say what neuronx-cc would refuse; ``registry`` lists which code each one decides."""
