"""The studies whose results are published: each a sweep that goes on where it was stopped, and its report.

    python benchmarks/studies.py mnist_samplers --root DATA [--seeds 5] [--out outputs/studies]

A study is a sweep of `kdal` with an experiment of conf/experiment, so that each run can be repeated by itself. Called
again it resumes: runs that are done stay. Runs come one after the other, with one thread each, so that a study may run
beside another. The report goes into the folder of the sweep. Without a name the studies are listed.
"""

import argparse
import subprocess
import sys
from pathlib import Path

KDAL = str(Path(sys.executable).with_name("kdal"))
SAMPLERS = "sampler=random,margin,entropy,badge,typiclust,coreset"
MIXED = ("oracle=mixed", "oracle.person=simulated", "experiment=fashion_mixed", "sampler=random,margin")
DIGITS = ("teacher=resnet8", "data.split.teacher=600")
HEAD = ("loss=none", "pretrain=simclr", "recipe.learns=head")  # all of it, at the usual rate, forgets what it has seen
SEEN = ("pretrain=simclr", "pretrain.start=false", "seed_set=typical", "seed_set.space=pretrained")
# a mirrored digit is another one
DIGITS_VIEWS = ("pretrain.recipe.augment.kind=crop_flip", "pretrain.recipe.augment.pad=4")
STUDIES = {
    "digits_losses": ("distill", "loss=glob(*)", *DIGITS, "labels=100"),
    "fashion_losses": ("distill", "experiment=fashion_losses", "loss=glob(*)"),
    "digits_samplers": (
        "al-loop",
        "sampler=glob(*)",
        *DIGITS,
        "loss=none",
        "student.dropout=0.2",
        "budget.initial=20",
        "budget.query=20",
        "budget.rounds=3",
    ),
    "mnist_samplers": ("al-loop", "experiment=mnist_samplers", SAMPLERS),
    "fashion_samplers": ("al-loop", "experiment=fashion_samplers", SAMPLERS),
    "mnist_two_by_two": ("al-loop", "experiment=mnist_two_by_two"),
    "fashion_two_by_two": ("al-loop", "experiment=fashion_two_by_two"),
    "mnist_few_labels": ("al-loop", "experiment=mnist_few_labels"),
    "mnist_few_pretrained": ("al-loop", "experiment=mnist_few_labels", *HEAD, *DIGITS_VIEWS),
    "mnist_few_typical": ("al-loop", "experiment=mnist_few_labels", "loss=none,fixmatch", *SEEN, *DIGITS_VIEWS),
    "fashion_few_labels": ("al-loop", "experiment=fashion_few_labels"),
    "fashion_few_pretrained": ("al-loop", "experiment=fashion_few_labels", *HEAD),
    "fashion_few_typical": ("al-loop", "experiment=fashion_few_labels", "loss=none,fixmatch", *SEEN),
    "fashion_few_margin": (
        "al-loop",
        "experiment=fashion_few_labels",
        "loss=fixmatch",
        *SEEN,
        "sampler=margin",
        "budget.initial=40",
        "budget.query=60",
        "budget.rounds=1",
    ),
    "fashion_few_comatch": (
        "al-loop",
        "experiment=fashion_few_labels",
        "loss=comatch,simmatch",
        "budget.initial=40,100",
    ),
    "mixed_people": ("al-loop", *MIXED[2:], "teacher=none"),
    "mixed_weak": ("al-loop", *MIXED, "data.split.teacher=500", "teacher.recipe.steps=600"),
    "mixed_middle": ("al-loop", *MIXED, "data.split.teacher=10000", "teacher.recipe.steps=1200"),
    "mixed_strong": ("al-loop", *MIXED, "data.split.teacher=50000", "teacher.recipe.steps=2500"),
    "teachers_none": (
        "distill",
        "experiment=fashion_teachers",
        "loss=none",
        "teacher=none",
        "labels=50,200,1000",
    ),
    "teachers_labelled": (
        "distill",
        "experiment=fashion_teachers",
        "loss=kd",
        "loss.kd.on=labelled",
        "labels=50,200,1000",
        "data.split.teacher=20000,500",
    ),
    "teachers_pool": (
        "distill",
        "experiment=fashion_teachers",
        "loss=kd",
        "labels=50,200,1000",
        "data.split.teacher=20000,500",
    ),
}


def words(study: str, folder: Path, root: str, seeds: int) -> list[str]:
    """What is typed after `kdal`: the sweep, or that it goes on."""
    stage, *rest = STUDIES[study]
    if (folder / "multirun.yaml").exists():
        return [stage, "-m", f"resume={folder}"]
    where = [] if study.startswith("digits") else [f"data.root={root}"]
    return [stage, "-m", *rest, f"seeds={seeds}", "threads=1", *where, f"hydra.sweep.dir={folder}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", choices=sorted(STUDIES))
    parser.add_argument("--root", default="data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("outputs/studies"))
    chosen = parser.parse_args()
    if chosen.study is None:
        print("\n".join(f"{name:20} kdal {' '.join(rest)}" for name, rest in STUDIES.items()))
        return 0
    folder = chosen.out / chosen.study
    run = subprocess.run([KDAL, *words(chosen.study, folder, chosen.root, chosen.seeds)], check=False)
    return run.returncode or subprocess.run([KDAL, "report", str(folder)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
