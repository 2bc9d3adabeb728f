"""One training: its recipe, its batches, its objective, the loop."""
