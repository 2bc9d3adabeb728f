"""Which terms may look at mixtures of two images, and which are refused in a line."""

import pytest
import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.lab.mixtures import refuse_unmixable
from kdal_cli.lab.teacher import Manner, TeacherPlan
from kdal_cli.losses.crd import Crd
from kdal_cli.losses.dkd import dkd
from kdal_cli.losses.kd import kd
from kdal_cli.losses.rkd import rkd
from kdal_cli.losses.wsld import wsld
from kdal_cli.training.objective import Objective, Part
from kdal_cli.types import Batch, Examples, Output

IDS = torch.arange(8)
BATCH = Batch(IDS, torch.zeros_like(IDS), torch.zeros(8, 1, 6, 6, dtype=torch.uint8), IDS[:5] % 3)
MIXES = "recipe.mixup=0.2"


@pytest.fixture
def answers() -> tuple[Output, Output]:
    rng = torch.Generator().manual_seed(0)
    ours, theirs = (Output(torch.randn(8, 3, generator=rng), torch.randn(8, 4, generator=rng)) for _ in range(2))
    return ours, theirs


def of_chance(student: Output, teacher: Output, batch: Batch) -> Tensor:
    return torch.rand(len(batch.ids)) * (student.logits - teacher.logits).sum(1)


@pytest.mark.parametrize("term", [kd, rkd, of_chance])
def test_terms_of_logits_and_features_may_look_at_mixtures(term, answers) -> None:
    refuse_unmixable(Objective(0.1, {"it": Part(term, 1.0)}), *answers, BATCH, TeacherPlan(Manner()), MIXES)


@pytest.mark.parametrize("term", [dkd, wsld])
def test_a_term_that_reads_the_label_of_each_image_is_refused(term, answers) -> None:
    objective = Objective(0.1, {"it": Part(term, 1.0)})
    with pytest.raises(UserError, match=r"loss\.it reads which image or which class .* recipe\.mixup=0\.2 mixes two"):
        refuse_unmixable(objective, *answers, BATCH, None, MIXES)


def test_a_term_that_remembers_images_by_their_ids_is_refused_and_not_changed_by_the_trial(answers) -> None:
    crd = Crd(*answers, Examples(IDS, BATCH.labels), negatives=4)
    before = {name: tensor.clone() for name, tensor in crd.state_dict().items()}
    with pytest.raises(UserError, match=r"loss\.crd reads which image"):
        refuse_unmixable(Objective(0.1, {"crd": Part(crd, 1.0)}), *answers, BATCH, None, MIXES)
    assert all(torch.equal(before[name], tensor) for name, tensor in crd.state_dict().items())


def test_counting_images_where_the_teacher_is_right_asks_for_one_label(answers) -> None:
    objective = Objective(0.1, {"kd": Part(kd, 1.0, sample_weight="right")})
    with pytest.raises(UserError, match=r"loss\.kd"):
        refuse_unmixable(objective, *answers, BATCH, None, MIXES)


def test_a_teacher_of_clean_images_would_answer_about_others(answers) -> None:
    plan = TeacherPlan(Manner(view="clean"))
    with pytest.raises(UserError, match=r"teacher\.view=clean and recipe\.mixup=0\.2: teacher\.view=same"):
        refuse_unmixable(Objective(0.1, {"kd": Part(kd, 1.0)}), *answers, BATCH, plan, MIXES)


def test_a_term_that_compares_two_views_is_refused(answers) -> None:
    objective = Objective(0.1, {"fixmatch": Part(kd, 1.0, others=("strong",))})
    with pytest.raises(UserError, match=r"loss\.fixmatch compares two views of an image, and recipe\.mixup=0\.2 mixes"):
        refuse_unmixable(objective, *answers, BATCH, None, MIXES)
