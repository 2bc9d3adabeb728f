"""The stages: plain objects in, plain results out."""
