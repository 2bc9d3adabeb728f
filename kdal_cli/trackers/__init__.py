"""Where the figures of a run can go besides its own files: one file each, imported only when it is chosen."""
