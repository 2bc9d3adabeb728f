"""A page on this machine on which people label: what it shows, what is said on it, and the server that keeps both."""
