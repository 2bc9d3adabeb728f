"""The only package that prints or draws."""
