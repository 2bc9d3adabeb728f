"""Pixels: decoded, stored, split, augmented."""
