"""The stages, one file each, to be read from top to bottom: plain objects in, plain results out."""
