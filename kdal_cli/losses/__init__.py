"""Loss terms: what a student can learn from, one file per term; the folder is the registry."""
