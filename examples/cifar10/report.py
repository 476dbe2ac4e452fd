"""Reports what the rows of `train.py` show, and how certain it is.

    python examples/cifar10/report.py examples/results/cifar10-*.csv

Takes the CSV files and the folders of studies, and joins those of one
configuration. Writes `cifar10-report.md`, which it also prints, `.json` with
all numbers, and the figures of each study to the folder of `--out`. The names
of studies end in a digest of their configuration.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from command_line import output_folder

from cifar10 import figures, rows
from cifar10.summary import METRICS, STYLE, measured, summarize
from cifar10.trainer import ORDER_SEED
from keras_parewire.studies.sentences import failures, repetitions
from keras_parewire.studies.tables import comparison_table, table_row

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
    lines = [
        "| weights | ep. 1 acc. | ep. 1 val. acc. | test acc. average | max "
        "| n |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for arm, values in summary["arms"].items():
        name = f"{config['base']}, plain" if arm == "base" else arm
        cells = [_spread(values[metric]) for metric in METRICS]
        best = f"{values['test_accuracy']['max']:.2f}"
        lines.append(table_row(name, *cells, best, values["n"]))
    for name, *cells in PUBLISHED.get(config["model"], ()):
        lines.append(table_row(f"paper: {name}", *cells, 100))
    return lines


def _spread(values):
    if values["sd"] is None:
        return f"{values['mean']:.2f}"
    return f"{values['mean']:.2f}±{values['sd']:.2f}"


def comparisons(summary):
    """Returns the lines of the table of differences, and the verdicts."""
    items = summary["comparisons"]
    verdicts = [f"- {item['verdict']}" for item in items]
    return [*comparison_table(items, **STYLE), "", *verdicts]


def report(stem, config, device, summary, notes):
    """Returns the report of one study as lines of Markdown."""
    digest = stem.rpartition("-")[2]
    lines = [f"## {config['model']} ({digest})", ""]
    lines += [describe(config, device), ""]
    lines += [*table(config, summary), *notes]
    if config["model"] in PUBLISHED:
        lines += [
            "",
            "The paper's training (optimizer, schedule, epochs, augmentation) "
            "is not known to us: compare the differences between its rows "
            "with ours, not the levels.",
        ]
    if summary["comparisons"]:
        lines += ["", *comparisons(summary)]
    return [*lines, ""]


NOTES = """\
# CIFAR-10 study

Accuracies in %, mean ± standard deviation over n seeds; "ep. 1 acc." is the
average over the augmented batches of the first epoch. Differences are in
percentage points, paired by seed, with Wilcoxon's signed-rank test; `highest -
lowest` compares two unpaired groups with the Mann-Whitney test. Intervals are
bootstrap percentiles, not corrected for the number of comparisons: some will
miss 0 by chance. p (Holm) is corrected for all comparisons of a metric.
"""


def main():
    """Writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "rows", type=Path, nargs="+", help="CSV files or folders"
    )
    parser.add_argument("--out", type=Path, default=output_folder("cifar10"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines, results = [NOTES], []
    for stem, config, devices, runs in rows.read(arguments.rows):
        device = "; ".join(sorted(devices))
        found = measured(runs.values())
        summary = summarize(found)
        notes = [*failures(runs.values()), *repetitions(found)]
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
