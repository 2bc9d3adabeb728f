"""Softened answers on three levels and at several temperatures: of each image, among images and among classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.losses._softmax import kl, log_softened
from kdal_cli.types import Batch, Output
from kdal_cli.values import Positive


def mlkd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(Q_t ‖ Q_s)_b + Σ_j (Q_t Q_tᵀ − Q_s Q_sᵀ)²_bj + 1/C · ‖Q_tᵀ Q_t − Q_sᵀ Q_s‖²_F, (B, C) x 2 -> (B,).

    Q = softmax(z/T), (B, C), b an image and j every image of the batch. The mean over the batch is the sum of three
    alignments: of instances, of the batch, ‖·‖²_F / B, and of classes, which is the same for each image and grows with
    the batch. Jin, Wang and Lin 2023 (CVPR), with T² on the first level alone as in the authors' code.
    """
    log_student = log_softened(student_logits, temperature)  # (B, C)
    log_teacher = log_softened(teacher_logits, temperature)  # (B, C)
    ours, theirs = log_student.exp(), log_teacher.exp()
    instances = temperature**2 * kl(log_teacher, log_student)  # (B,)
    images = (theirs @ theirs.T - ours @ ours.T).square().sum(1)  # (B, B) -> (B,)
    classes = (theirs.T @ theirs - ours.T @ ours).square().sum(1).mean()  # (C, C) -> ()
    return instances + images + classes


def mlkd(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    temperatures: Sequence[Positive] = (2.0, 3.0, 4.0, 5.0, 6.0),
) -> Tensor:
    """Multi-level logit distillation, the sum of `mlkd_loss` over the temperatures, (B,).

    On the one view that student and teacher see. The authors train on a weak and a strong one and mean to leave out, on
    the weak, the half of the images and of the classes that the teacher is surer of; as their code takes the mean
    before the mask, it halves those parts and leaves nothing out. Neither is done here.
    Raises UserError when there is no temperature.
    """
    if not temperatures:
        raise UserError("mlkd.temperatures=[]", cure="at least one, such as [2, 3, 4, 5, 6]")
    return torch.stack([mlkd_loss(student.logits, teacher.logits, t) for t in temperatures]).sum(0)
