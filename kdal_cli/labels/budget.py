"""How many labels are bought, and when."""

from dataclasses import dataclass
from typing import Protocol

from kdal_cli.errors import UserError
from kdal_cli.values import Count, Natural


class Plan(Protocol):
    """How many labels each round buys."""

    def plan(self, pool: int) -> list[int]: ...

    def sentence(self, pool: int) -> str: ...


@dataclass(frozen=True)
class Budget:
    """`initial` labels for the seed set, then `rounds` queries of `query` labels each.

    `kdal al-loop budget=100` sets `query`. Rounds that the pool cannot fill are cut: the last query takes what is left.
    """

    initial: Count = 100
    query: Count = 100
    rounds: Natural = 9

    def plan(self, pool: int) -> list[int]:
        """Labels bought in each round for a pool of so many images, the seed set first; never more than the pool holds.

        Raises UserError when not even the seed set and one whole query fit.
        """
        if self.initial > pool:
            raise UserError(
                f"budget.initial={self.initial} is more than the {pool:,} images of the pool",
                cure=f"at most {pool:,} labels can be bought",
            )
        left = pool - self.initial
        if self.rounds and self.query > left:
            raise UserError(
                f"budget.query={self.query} is more than the pool holds after the seed set: "
                f"{pool:,} images − {self.initial:,} = {left:,}",
                cure=f"at most {left:,} labels can be bought in a round" if left else "set budget.rounds=0",
            )
        queries = [min(self.query, left - self.query * bought) for bought in range(min(self.rounds, left))]
        return [self.initial, *(query for query in queries if query > 0)]

    def sentence(self, pool: int) -> str:
        """The plan in words: `100 to start + 9 rounds × 100 = 1,000 of 1,277 labels`."""
        initial, *queries = self.plan(pool)
        whole = queries.count(self.query)
        parts = [f"{initial:,} to start"]
        if whole:
            parts.append(f"{whole} round{'s' * (whole > 1)} × {self.query:,}")
        if whole < len(queries):
            parts.append(f"a last round of {queries[-1]:,}")
        text = f"{' + '.join(parts)} = {initial + sum(queries):,} of {pool:,} labels"
        if len(queries) < self.rounds:
            text += f" (budget.rounds={self.rounds} asks for more than the pool holds: {len(queries)} will be run)"
        return text
