"""Samplers: which images to label next, one file per rule; the folder is the registry."""
