"""Measures of a classifier, from its logits and the labels."""
