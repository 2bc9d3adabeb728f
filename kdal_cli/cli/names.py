"""Names of folders that are made of what was typed: `${file_name:…}` in the configuration of sweeps."""

import hashlib

from omegaconf import OmegaConf

LONGEST = 128
"""Bytes. File systems take 255, encrypted ones 143, with the number of the job before it."""


def file_name(text: str) -> str:
    """`text` as the name of one file. Slashes and what does not print become `_`, what is longer than LONGEST is cut.

    A name that was changed ends in a hash of the whole text, so that two of them never become the same.
    """
    plain = "".join("_" if character == "/" or not character.isprintable() else character for character in text)
    encoded = plain.encode()
    if plain == text and len(encoded) <= LONGEST:
        return text
    mark = "-" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:10]
    return encoded[: LONGEST - len(mark)].decode(errors="ignore") + mark


OmegaConf.register_new_resolver("file_name", file_name, replace=True)
