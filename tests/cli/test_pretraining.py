"""A run without labels is used everywhere weights are, and as a space."""

from cli.harness import Kdal


def test_a_run_without_labels_is_weights_and_a_space(kdal: Kdal):
    seen = kdal("pretrain", "experiment=smoke", "method=byol", "recipe.steps=4")
    assert (seen.code, seen.err) == (0, "")
    assert "no label" in seen.out
    assert {"features.npy", "features_test.npy", "checkpoints/student.safetensors"} <= set(seen.run.contents())
    folder = seen.run.path
    spaces = [f"{key}={folder}" for key in ("sampler.space", "seed_set.space", "student.weights")]
    ended = kdal("al-loop", "experiment=smoke", "loss=none", "sampler=coreset", "seed_set=typical", *spaces)
    assert (ended.code, ended.err) == (0, "")
    assert "the student starts from" in ended.out
    assert "new: " in ended.out  # its head has learnt nothing
