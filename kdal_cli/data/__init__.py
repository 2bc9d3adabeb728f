"""Image data: one file per source; the folder is the registry."""
