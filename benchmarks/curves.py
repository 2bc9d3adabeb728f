"""The active-learning runs of sweeps as one table and one picture: each choice against a baseline, seed by seed.

    python benchmarks/curves.py SWEEP… --by sampler --against random --png curves.png

The difference at the last round, and that of the mean over the rounds after the seed set (the area under the curve over
its width), are paired by seed, with their 95 % t intervals. Runs that are not done are left out and told.
"""

import argparse
import csv
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from omegaconf import OmegaConf
from scipy.stats import t

from kdal_cli.report.plots import curves_png

Curve = list[float]


def read(sweeps: list[Path], group: str) -> tuple[list[int], dict[str, dict[int, Curve]]]:
    """(labels of each round, {choice: {seed: test accuracy of each round}})."""
    labels: list[int] = []
    curves: dict[str, dict[int, Curve]] = defaultdict(dict)
    for folder in sorted(run for sweep in sweeps for run in sweep.iterdir() if run.is_dir()):
        if not (folder / "result.json").exists():
            sys.stderr.write(f"left out, not done: {folder.name}\n")
            continue
        config = OmegaConf.load(folder / ".hydra" / "config.yaml")
        rows = list(csv.DictReader((folder / "curve.csv").read_text().splitlines()))
        bought = [int(row["labels"]) for row in rows]
        if labels and bought != labels:
            raise SystemExit(f"{folder.name} bought {bought} labels, others {labels}")
        labels = bought
        curves[str(OmegaConf.select(config, f"{group}.name"))][int(OmegaConf.select(config, "seed"))] = [
            float(row["test_accuracy"]) for row in rows
        ]
    return labels, dict(curves)


def paired(ours: dict[int, float], theirs: dict[int, float]) -> str:
    """Mean difference in points and its 95 % t interval, and what follows from it."""
    seeds = sorted(ours.keys() & theirs.keys())
    differences = [100 * (ours[seed] - theirs[seed]) for seed in seeds]
    mean = statistics.mean(differences)
    if len(seeds) < 2:
        return f"{mean:+.2f} | one seed |"
    reach = float(t.ppf(0.975, len(seeds) - 1)) * statistics.stdev(differences) / len(seeds) ** 0.5
    verdict = "BEATS" if mean > reach else "LOSES" if -mean > reach else "INCONCLUSIVE"
    return f"{mean:+.2f} ± {reach:.2f} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", nargs="+", type=Path)
    parser.add_argument("--by", default="sampler", help="the group of the configuration that differs")
    parser.add_argument("--against", default="random", help="the baseline")
    parser.add_argument("--png", type=Path)
    parser.add_argument("--title", default="Accuracy against labels")
    options = parser.parse_args()
    labels, curves = read(options.sweeps, options.by)
    if options.against not in curves:
        raise SystemExit(f"no run of {options.by}={options.against}; there are {json.dumps(sorted(curves))}")
    last = {name: {seed: curve[-1] for seed, curve in runs.items()} for name, runs in curves.items()}
    area = {name: {s: statistics.mean(curve[1:]) for s, curve in runs.items()} for name, runs in curves.items()}
    order = sorted(curves, key=lambda name: -statistics.mean(area[name].values()))
    print(f"| {options.by} | seeds | {' | '.join(f'{n:,}' for n in labels)} | last − {options.against} | | area | |")
    print("|---" * (len(labels) + 6) + "|")
    for name in order:
        means = [100 * statistics.mean(values) for values in zip(*curves[name].values(), strict=True)]
        told = (
            " – | | – | |"
            if name == options.against
            else " ".join(["", paired(last[name], last[options.against]), paired(area[name], area[options.against])])
        )
        print(f"| {name} | {len(curves[name])} | {' | '.join(f'{mean:.2f}' for mean in means)} |{told}")
    if options.png:
        seeds = max(map(len, curves.values()))
        subtitle = f"mean of {seeds} seeds, 95 % interval"
        shown = {name: list(curves[name].values()) for name in order}
        options.png.write_bytes(curves_png(labels, shown, title=options.title, subtitle=subtitle))


if __name__ == "__main__":
    main()
