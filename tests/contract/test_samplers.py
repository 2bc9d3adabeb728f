"""Every file of conf/sampler through one list of laws (METHODS.md, section 2). A new file is covered when it arrives.

N pool, M labelled, C classes, D features. Ids lie far from rows: a sampler that mistakes one for the other fails.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Generator, Tensor

import kdal_cli.samplers
from kdal_cli.compose import parts
from kdal_cli.compose.registry import names
from kdal_cli.errors import KdalError
from kdal_cli.inference.evidence import SPACES, Evidence
from kdal_cli.types import Query

CONF = Path(__file__).parents[2] / "conf" / "sampler"
FILES = sorted(path.stem for path in CONF.glob("*.yaml") if not path.name.startswith("_"))
KNOWN, C, D = 400, 5, 6

LOOKS_AT_NOTHING = {
    "random": "the baseline asks no model, and so cannot know that one answers NaN",
}

every_sampler = pytest.mark.parametrize("name", FILES)
sizes = pytest.mark.parametrize("k", [1, 7, 30, 31, 1000])


class Table:
    """A scorer that knows KNOWN images: answers (KNOWN, C) and features (KNOWN, D), by id. It draws with its own noise.

    A draw is the same for an image wherever it lies in the pool, as one dropout mask for all images is.
    """

    def __init__(self, answers: Tensor, features: Tensor) -> None:
        self.answers, self.features = answers, features

    def logits(self, ids: Tensor) -> Tensor:
        return self.answers[ids]

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.answers[ids], self.features[ids]

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        for _ in range(count):
            noise = torch.randn(self.answers.shape[1], generator=rng).to(self.answers.dtype)
            yield (self.answers * (1 + noise))[ids]

    def classify(self, features: Tensor) -> Tensor:
        weight = torch.randn(self.answers.shape[1], D, generator=torch.Generator().manual_seed(3))  # (C, D)
        return features.float() @ weight.T


def table(seed: int = 0, classes: int = C) -> Table:
    rng = torch.Generator().manual_seed(seed)
    return Table(3 * torch.randn(KNOWN, classes, generator=rng), torch.randn(KNOWN, D, generator=rng).relu())


def evidence(scorer: Table, pool: Tensor | int = 30, labelled: int = 12, seen_classes: int | None = None) -> Evidence:
    """`pool` images, by ids or the first so many of a fixed shuffle, and others that are labelled."""
    shuffled = torch.randperm(KNOWN, generator=torch.Generator().manual_seed(9))
    ids = shuffled[:pool] if isinstance(pool, int) else pool
    classes = scorer.answers.shape[1]
    labels = torch.arange(labelled) % (seen_classes or classes)
    held_out = shuffled[200:210]
    return Evidence(
        ids,
        shuffled[KNOWN - labelled :],
        labels,
        classes,
        scorer,
        teacher=table(1, classes),
        validation_ids=held_out,
        validation_labels=torch.arange(len(held_out)) % classes,
        past=lambda rounds: (table(seed, classes) for seed in range(2, 2 + min(rounds, 3))),
        images=lambda ids: scorer.features[ids].float().clamp(0, 255).to(torch.uint8)[:, None, None],
        known=KNOWN,
    )


def sampler(name: str, **settings: Any) -> Callable[[Evidence, int, Generator], Query]:
    section = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=True)
    return parts.sampler({**section, **settings}, [])  # type: ignore[arg-type]


def ask(name: str, pool: Evidence, k: int, seed: int = 0) -> Query:
    query = sampler(name)(pool, k, torch.Generator().manual_seed(seed))
    check(query, pool, k)
    return query


def check(query: Query, pool: Evidence, k: int) -> None:
    """What every query is: min(k, N) distinct rows in range, with a score each."""
    rows, scores = query.rows, query.scores
    assert (rows.dtype, rows.shape) == (torch.int64, (min(k, len(pool)),))
    assert len(rows.unique()) == len(rows)
    assert int(rows.min()) >= 0
    assert int(rows.max()) < len(pool)
    assert scores.shape == rows.shape
    assert scores.is_floating_point()
    assert not scores.isnan().any()
    assert (rows.device.type, scores.device.type) == ("cpu", "cpu")


def same(one: Query, two: Query) -> bool:
    return torch.equal(one.rows, two.rows) and torch.equal(one.scores, two.scores)


# Sizes.


@every_sampler
@sizes
def test_it_returns_as_many_distinct_rows_as_are_asked_for_or_all_there_are(name: str, k: int) -> None:
    ask(name, evidence(table()), k)


@every_sampler
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_so_it_does_before_anything_is_labelled(name: str, k: int) -> None:
    ask(name, evidence(table(), labelled=0), k)


@every_sampler
@pytest.mark.parametrize("labelled", [0, 12])
def test_so_it_does_of_a_pool_of_one(name: str, labelled: int) -> None:
    assert ask(name, evidence(table(), pool=1, labelled=labelled), 3).rows.tolist() == [0]


@every_sampler
def test_so_it_does_with_classes_of_which_no_label_is_known(name: str) -> None:
    ask(name, evidence(table(), seen_classes=1), 7)


@every_sampler
def test_so_it_does_of_two_classes(name: str) -> None:
    ask(name, evidence(table(classes=2)), 7)


@every_sampler
def test_so_it_does_of_more_labelled_images_than_the_pool_has(name: str) -> None:
    ask(name, evidence(table(), pool=9, labelled=120), 4)


@every_sampler
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    pool=st.integers(1, 40),
    labelled=st.integers(0, 20),
    classes=st.integers(2, 7),
    different=st.integers(1, 60),
    k=st.integers(1, 50),
    seed=st.integers(0, 9),
)
def test_so_it_does_of_ragged_sizes(
    name: str, pool: int, labelled: int, classes: int, different: int, k: int, seed: int
) -> None:
    scorer, copies = table(seed, classes), torch.arange(KNOWN) % different
    ask(name, evidence(Table(scorer.answers[copies], scorer.features[copies]), pool, labelled), k, seed)


WITH_SPACE = [name for name in FILES if "space" in OmegaConf.load(CONF / f"{name}.yaml")]


@pytest.mark.parametrize("name", WITH_SPACE)
@pytest.mark.parametrize("space", [*SPACES, "vectors.npy"])
def test_it_works_in_every_space(name: str, space: str, tmp_path: Path) -> None:
    """And chooses by what it sees there: vectors that are those features give the same query."""
    scorer = table()
    path = tmp_path / "vectors.npy"
    np.save(path, scorer.features.numpy())
    chosen = str(path) if space == "vectors.npy" else space
    query = sampler(name, space=chosen)(evidence(scorer), 7, torch.Generator().manual_seed(0))
    check(query, evidence(scorer), 7)
    if space == "vectors.npy":
        in_features = sampler(name, space="features")(evidence(scorer), 7, torch.Generator().manual_seed(0))
        assert torch.equal(query.rows, in_features.rows)


# Degenerate evidence.


@every_sampler
@pytest.mark.parametrize("k", [5, 35, 1000])
def test_images_that_come_ten_times_over_are_no_trouble(name: str, k: int) -> None:
    """More is asked for than there are different ones."""
    copies = torch.arange(KNOWN) % 10
    scorer = table()
    ask(name, evidence(Table(scorer.answers[copies], scorer.features[copies]), pool=100), k)


@every_sampler
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("labelled", [0, 12])
def test_images_all_alike_are_no_trouble(name: str, value: float, labelled: int) -> None:
    ask(name, evidence(Table(torch.full((KNOWN, C), value), torch.full((KNOWN, D), value)), labelled=labelled), 11)


@every_sampler
def test_logits_of_ten_thousand_are_no_trouble(name: str) -> None:
    scorer = table()
    ask(name, evidence(Table(scorer.answers.sign() * 1e4, scorer.features * 1e4)), 11)


@every_sampler
def test_logits_and_features_may_be_bf16(name: str) -> None:
    scorer = table()
    ask(name, evidence(Table(scorer.answers.bfloat16(), scorer.features.bfloat16())), 11)


@every_sampler
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_answer_that_is_not_finite_is_refused_by_the_id_of_its_image(name: str, number: float) -> None:
    scorer = table()
    pool = evidence(scorer)
    spoilt = int(pool.ids[17])
    scorer.answers[spoilt, 2] = number
    if name in LOOKS_AT_NOTHING:
        ask(name, pool, 11)
        return
    with pytest.raises(KdalError, match=rf"image {spoilt}\b"):
        ask(name, pool, 11)


# Sameness.


@every_sampler
def test_the_same_seed_gives_the_same_query_and_nothing_else_counts(name: str) -> None:
    queries = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        queries.append(ask(name, evidence(table()), 11))
        assert torch.equal(torch.get_rng_state(), before)
    assert same(*queries)


@every_sampler
def test_a_smaller_query_does_not_depend_on_what_else_was_looked_at(name: str) -> None:
    pool, fresh = evidence(table()), evidence(table())
    _ = pool.logits, pool.features, pool.labelled_features, pool.teacher_logits
    assert same(ask(name, pool, 5), ask(name, fresh, 5))


@every_sampler
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("different", [KNOWN, 10, 1])
def test_permuting_the_pool_permutes_the_query(name: str, seed: int, different: int) -> None:
    """The same images come out in the same order, ties included, wherever each of them lies."""
    scorer, copies = table(), torch.arange(KNOWN) % different
    pool = evidence(Table(scorer.answers[copies], scorer.features[copies]))
    moved = replace(pool, ids=pool.ids[torch.randperm(30, generator=torch.Generator().manual_seed(seed))])
    one, two = ask(name, pool, 11), ask(name, moved, 11)
    assert pool.ids[one.rows].tolist() == moved.ids[two.rows].tolist()
    torch.testing.assert_close(one.scores, two.scores, rtol=1e-6, atol=1e-9)


@every_sampler
def test_the_size_of_a_chunk_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a sampler's module calls a CHUNK or a BATCH is made tiny."""
    whole = ask(name, evidence(table(), labelled=40), 11)
    module = importlib.import_module(f"kdal_cli.samplers.{parts_name(name)}")
    for constant in [c for c in vars(module) if c.isupper() and ("CHUNK" in c or "BATCH" in c)]:
        monkeypatch.setattr(module, constant, 3)
    tiny = ask(name, evidence(table(), labelled=40), 11)
    assert torch.equal(tiny.rows, whole.rows)
    torch.testing.assert_close(tiny.scores, whole.scores, rtol=1e-5, atol=1e-6)


def parts_name(name: str) -> str:
    return str(OmegaConf.load(CONF / f"{name}.yaml").name)


@every_sampler
def test_what_it_was_shown_is_left_as_it_was(name: str) -> None:
    scorer = table()
    pool = evidence(scorer)
    shown: dict[str, Any] = {
        "logits": scorer.answers,
        "features": scorer.features,
        "ids": pool.ids,
        "labelled_ids": pool.labelled_ids,
        "labels": pool.labels,
        "pool.logits": pool.logits,
        "pool.features": pool.features,
        "labelled_features": pool.labelled_features,
    }
    before = {key: tensor.clone() for key, tensor in shown.items()}
    ask(name, pool, 11)
    assert [key for key, tensor in shown.items() if not torch.equal(tensor, before[key])] == []


@every_sampler
def test_another_seed_of_equal_images_gives_another_query(name: str) -> None:
    """Were it not so, whatever lies first in the data would always be bought first."""
    alike = Table(torch.zeros(KNOWN, C), torch.zeros(KNOWN, D))
    pool = replace(evidence(alike), teacher=alike, past=lambda rounds: iter([alike] * rounds))
    queries = {tuple(ask(name, pool, 5, seed).rows.tolist()) for seed in range(5)}
    firsts = {rows[0] for rows in queries}
    assert len(queries) == 5
    assert len(firsts) > 1


def test_every_exception_is_of_a_sampler_that_there_is() -> None:
    assert LOOKS_AT_NOTHING.keys() <= set(names(kdal_cli.samplers))


def test_every_sampler_has_a_file_and_every_file_a_sampler() -> None:
    assert {parts_name(name) for name in FILES} == set(names(kdal_cli.samplers))
