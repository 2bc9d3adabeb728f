"""What is kept of images that come by, however many they are."""

from pathlib import Path

import torch

from kdal_cli.inference.answering import Answer
from kdal_cli.inference.watching import Reservoir, Worthiest


def test_a_reservoir_keeps_each_row_with_the_same_probability() -> None:
    kept = torch.zeros(20)
    for seed in range(400):
        reservoir = Reservoir(5, torch.Generator().manual_seed(seed))
        for rows in torch.arange(20.0).view(-1, 1).split(3):
            reservoir.add(rows)
        assert len(reservoir.rows) == 5
        kept[reservoir.rows.flatten().long()] += 1
    assert (kept / 400 - 0.25).abs().max() < 0.08  # 3.7 standard deviations


def answer(name: str, entropy: float) -> Answer:
    return Answer(Path(name), (("a", 0.5),), entropy, False)


def test_the_worthiest_are_the_most_uncertain_and_of_equals_the_first() -> None:
    worthiest = Worthiest(3)
    for name, entropy in (("a", 0.1), ("b", 0.9), ("c", 0.5), ("d", 0.5), ("e", 0.2)):
        worthiest.add(answer(name, entropy))
    assert [str(each.path) for each in worthiest.answers] == ["b", "c", "d"]
