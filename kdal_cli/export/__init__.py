"""A trained network leaves home: written in other formats, each measured as the very file that is shipped."""
