"""The course of a training: which step is of which stage, how far that stage is, at which rate, and when it ends.

An optional first stage, of terms alone, then the main one. Where the length of the main stage is not known, it goes
like this, s being its steps, `turn` the one at which the labels were found to be fitted:

    s        0 … warm-up … constant rate … turn … decay … turn + decay
    progress 0            s / ceiling            linearly on to 1

so that schedules of weights and temperatures go on steadily, end at exactly 1, and go as in a training of `ceiling`
steps when the labels are never fitted. A known length is the same with `turn` 0 and the whole length for the decay.
"""

from kdal_cli.training.recipe import Recipe

LOOKS = 5
"""Whether the labels are fitted is looked at again after a fifth more steps: few looks, and no more is lost."""


class Course:
    """The steps of one training. labelled: its labelled images. first: the length of a first stage, as a share of the
    main one, or of the least that this may take.

    most: steps that it takes at most. turn: from which step of the main stage on its end is known; None until then.
    """

    def __init__(self, recipe: Recipe, labelled: int, first: float = 0.0) -> None:
        self.recipe, self.until, self.known = recipe, recipe.until, recipe.length(labelled)
        self.first = round(first * (self.known or self.until.floor))
        self.most = self.first + (self.known or self.until.ceiling)
        self.turn = 0 if self.known else None

    @property
    def last(self) -> int:
        """Steps of the main stage from `turn` on."""
        return self.known or self.until.decay

    def next(self, done: int) -> int | None:
        """The step before which to stop and look around, `done` being the last such one; None at the end."""
        main = done - self.first
        if main < 0:
            return _evenly(0, self.first, self.recipe.checks, done)
        if self.turn is None:
            earliest, latest = self.until.floor - self.until.decay, self.until.ceiling - self.until.decay
            return self.first + min(max(earliest, main + main // LOOKS + 1), latest)
        return _evenly(self.first + self.turn, self.last, self.recipe.checks, done)

    def at(self, step: int) -> tuple[bool, float]:
        """(whether a step is of the first stage, the share of its stage that is done)."""
        main = step - self.first
        if main < 0:
            return True, step / self.first
        if self.turn is None or main < self.turn:
            return False, main / self.until.ceiling
        begun = self.turn / self.until.ceiling
        return False, begun + (1 - begun) * (main - self.turn) / self.last

    def rate(self, step: int) -> float:
        """The learning rate of a step. Where the end is open, the warm-up is a share of the floor."""
        first, progress = self.at(step)
        if first or self.known:
            return self.recipe.rate(progress, first=first)
        main, warm = step - self.first, self.recipe.warmup * self.until.floor
        if main < warm:
            return self.recipe.warming(main / warm)
        return self.recipe.lr if self.turn is None or main < self.turn else self.recipe.falling(self._fallen(main))

    def _fallen(self, main: int) -> float:
        return (main - (self.turn or 0)) / self.last

    def open(self, stop: int) -> bool:
        """Whether the end hangs on how well the labels are fitted after `stop` steps."""
        return self.turn is None and stop > self.first

    def tell(self, stop: int, fitted: float) -> None:
        """What share of the labels is fitted after `stop` steps; whether the decay begins there."""
        main = stop - self.first
        if fitted >= self.until.fitted or main >= self.until.ceiling - self.until.decay:
            self.turn = main

    def judged(self, stop: int) -> bool:
        """Whether validation is measured after `stop` steps: at each stop from where on the end is known."""
        return self.turn is not None and stop - self.first > self.turn


def _evenly(start: int, length: int, parts: int, after: int) -> int | None:
    """The first end of `parts` equal parts of a stretch that comes after a step."""
    ends = (start + round(length * part / parts) for part in range(1, parts + 1))
    return next((end for end in ends if end > after), None)
