"""Ways to make a finished network smaller or cheaper: one file a method, `name: prune` is the class `Prune`."""
