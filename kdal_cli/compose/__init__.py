"""Configuration to objects: the one place that resolves names and checks what comes from outside."""
