"""What was compiled before, by what it was compiled from: one store for every verb."""
