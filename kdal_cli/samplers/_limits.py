"""What a sampler does not take, said before anything is spent: it is tried on a few images that stand for all."""

from kdal_cli.errors import UserError
from kdal_cli.inference.evidence import Evidence


def refuse_more(pool: Evidence, most: int, name: str, why: str) -> None:
    """Raise UserError where there are, or will be, more than `most` candidates."""
    if pool.size > most:
        cure = f"sampler=subsample sampler.of={name}, which shows it sampler.candidates=10000 of them"
        raise UserError(f"{name} takes {most:,} candidates and there are {pool.size:,}: {why}", cure=cure)
