"""Reports what the rows of `train.py` show, and how certain it is.

    python examples/cifar10/report.py examples/results/cifar10-*.csv

Writes `cifar10-report.md`, which it also prints, `.json` with all numbers, and
the figures of each study to the folder of `--out`. The names of studies end in
a digest of their configuration.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from command_line import output_folder
from planned import repeated_arms

from cifar10 import figures, rows
from cifar10.summary import METRICS, measured, summarize
from cifar10.trainer import ORDER_SEED
from keras_parewire.studies.report import failures
from keras_parewire.tables import aligned

# https://github.com/scabini/PArewiring_weights: 100 models each.
PUBLISHED = {
    "resnet50": (
        ("Kaiming-normal", "13.93±3.24", "13.92±3.17", "92.29±0.35", "92.74"),
        ("PA rewiring", "14.06±2.74", "13.91±2.61", "92.37±0.26", "92.75"),
    ),
    "sl_vit": (
        ("Orthogonal", "22.64±0.61", "22.42±0.68", "89.10±0.29", "89.52"),
        ("PA rewiring", "24.43±0.94", "24.35±0.91", "89.13±0.26", "89.57"),
    ),
    "convmixer": (
        ("Orthogonal", "39.18±1.30", "38.54±1.35", "93.69±0.14", "93.84"),
        ("PA rewiring", "39.91±1.26", "39.16±1.31", "93.77±0.13", "93.95"),
    ),
}
# Fingerprints of copies whose images went through lossy compression.
LOSSY = {"16a32a75c0fc"}
# Versions of the study from before the rewiring's noise became Philox.
OLDER_NOISE = {1}


def describe(config, device):
    """Returns what the runs have in common, in words."""
    epochs = (
        "1 epoch" if config["epochs"] == 1 else f"{config['epochs']} epochs"
    )
    schedule = config["schedule"]
    if "long_epochs" in config:
        schedule += (
            f" over {config['warmup_epochs']} epochs, of "
            f"{config['long_epochs']}"
        )
    order = (
        "alike for all runs"
        if config["order_seed"] == ORDER_SEED
        else "seeded by the run"
    )
    older = (
        " Rewired with an older random number generator."
        if config["study_version"] in OLDER_NOISE
        else ""
    )
    lossy = (
        " They are a JPEG re-encoding, lossy: published numbers are of the "
        "original images."
        if config["data"] in LOSSY
        else ""
    )
    return (
        f"Base `{config['base']}`, {epochs} in batches of "
        f"{config['batch_size']}, AdamW with learning rate "
        f"{config['learning_rate']:g} ({schedule}) and weight decay "
        f"{config['weight_decay']:g}, {config['augmentation']}, order and "
        f"augmentation {order}; {config['backend']} in {config['dtype']} on "
        f"{device}.{older} Images: "
        f"{config['split'][0]} train, {config['split'][1]} validation, "
        f"{config['split'][2]} test, fingerprint {config['data']}.{lossy}"
    )


def table(config, summary):
    """Returns the lines of the table in the paper's form."""
    lines = [["weights", "ep. 1 acc.", "ep. 1 val. acc."]]
    lines[0] += ["test acc. average", "max", "n"]
    for arm, values in summary["arms"].items():
        name = f"{config['base']}, plain" if arm == "base" else arm
        cells = [_spread(values[metric]) for metric in METRICS]
        best = f"{values['test_accuracy']['max']:.2f}"
        lines.append([name, *cells, best, values["n"]])
    for name, *cells in PUBLISHED.get(config["model"], ()):
        lines.append([f"paper: {name}", *cells, 100])
    return aligned(lines)


def _spread(values):
    if values["sd"] is None:
        return f"{values['mean']:.2f}"
    return f"{values['mean']:.2f}±{values['sd']:.2f}"


def repetitions(values):
    """Returns a paragraph for each arm whose runs are all the same."""
    return [
        f"All {runs} runs of `{arm}` gave the same numbers: probably nothing "
        "in them depends on the seed. They then count as one run, and "
        "comparisons with it do not tell what another order of the data would "
        "change.\n"
        for arm, runs in repeated_arms(values).items()
    ]


def comparisons(summary):
    """Returns the lines of the table of differences, and the verdicts."""
    lines = [["comparison", "metric", "difference, 95 % interval", "p"]]
    lines[0] += ["p (Holm)", "variance ratio, 95 % interval", "n"]
    for item in summary["comparisons"]:
        p_values = item["p"], item["p_holm"]
        ratio = item["ratio"]
        lines.append(
            [
                f"{item['arm']} - {item['reference']}",
                METRICS[item["metric"]],
                f"{item['difference']:+.2f}" + _interval(item["interval"]),
                *("" if p is None else f"{p:.2g}" for p in p_values),
                ""
                if ratio is None
                else f"{ratio:.2f}" + _interval(item["ratio_interval"]),
                item["n"],
            ]
        )
    verdicts = [f"- {item['verdict']}" for item in summary["comparisons"]]
    return [*aligned(lines), "", *verdicts]


def _interval(pair):
    return "" if pair is None else f" [{pair[0]:.2f}, {pair[1]:.2f}]"


def report(stem, config, device, summary, notes):
    """Returns the report of one study as lines of Markdown."""
    digest = stem.rpartition("-")[2]
    lines = [f"## {config['model']} ({digest})", ""]
    lines += [describe(config, device), ""]
    lines += [*table(config, summary), *notes]
    if config["model"] in PUBLISHED:
        lines += [
            "The paper's training (optimizer, schedule, epochs, augmentation) "
            "is not known to us: compare the differences between its rows "
            "with ours, not the levels.",
            "",
        ]
    if summary["comparisons"]:
        lines += [*comparisons(summary), ""]
    return lines


NOTES = """\
# CIFAR-10 study

Accuracies in %, mean ± standard deviation over n seeds; "ep. 1 acc." is the
average over the augmented batches of the first epoch. Differences are in
percentage points, paired by seed, with paired t intervals of 95 % and
Wilcoxon's signed-rank test; `highest - lowest` compares two unpaired groups
with Welch's interval and the Mann-Whitney test. The numbers of seeds were fixed
in advance. Intervals are not corrected for the number of comparisons: some miss
0 by chance. p (Holm) is corrected for all comparisons of a metric. Intervals of
variance ratios are bootstrap percentiles; the plan named these for differences
too, but with few seeds they are too narrow.

An arm is called higher or lower where its interval leaves out 0 and p (Holm) is
at most 0.05. By p alone and bootstrap intervals, as in an earlier version of
this report, eight more were called so, which now "may differ": in the MLP
`shuffled - base` (ep. 1 acc.) and `greedy - base` (test acc.); in SL-ViT on the
CPU `centered - base` (test acc.) and `sinusoidal - base` (ep. 1 val. acc. and
test acc.), on the GPU `pa - centered` (ep. 1 val. acc. and test acc.); in the
small CNN (7be279d2) `highest - lowest` (ep. 1 val. acc.).
"""


def main():
    """Writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "rows", type=Path, nargs="+", help="CSV files of `train.py`"
    )
    parser.add_argument("--out", type=Path, default=output_folder("cifar10"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines, results = [NOTES], []
    for stem, config, device, runs in map(rows.read, arguments.rows):
        found = measured(runs)
        summary = summarize(found)
        notes = ["", *failures(runs), *repetitions(found)]
        lines += report(stem, config, device, summary, notes)
        results.append({"config": config, "device": device, **summary})
        figures.draw(config, found, arguments.out / stem)
    text = "\n".join(lines)
    print(text)
    stem = arguments.out / "cifar10-report"
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
