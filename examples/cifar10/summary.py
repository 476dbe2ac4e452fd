"""What the rows of the CIFAR-10 study support, in numbers and in words."""

from keras_parewire.studies.report import compare
from keras_parewire.studies.sentences import verdict
from keras_parewire.studies.statistics import adjust, columns, compare_groups
from keras_parewire.studies.statistics import summarize as summarize_values

# The columns of the published table, by the columns of ours.
METRICS = {
    "epoch_1_accuracy": "ep. 1 acc.",
    "epoch_1_val_accuracy": "ep. 1 val. acc.",
    "test_accuracy": "test acc.",
}
# How differences of accuracies in % are written.
STYLE = {"labels": METRICS, "number": "{:.2f}".format}
# Arms to compare with an arm other than the base.
PAIRS = (
    ("pa", "shuffled"),
    ("pa", "centered"),
    ("pa", "sinusoidal"),
    ("pa_centered", "centered"),
    ("pa_sinusoidal", "sinusoidal"),
)
# Their seeds count candidates: seed 3 of one arm has no partner in another.
UNPAIRED = ("highest", "lowest")


def measured(rows):
    """Returns all numbers of completed runs by arm, metric and seed."""
    arms = dict.fromkeys(row["arm"] for row in rows if row["metrics"])
    return columns([row for row in rows if row["metrics"]], list(arms))


def percentages(found):
    """Returns the accuracies by arm, metric and seed, in %."""
    return {
        arm: {
            metric: {seed: 100 * x for seed, x in metrics[metric].items()}
            for metric in METRICS
        }
        for arm, metrics in found.items()
    }


def summarize(found):
    """Summarizes what was measured; accuracies in %."""
    found = percentages(found)
    comparisons = []
    pairs = [(arm, "base") for arm in found if arm not in (*UNPAIRED, "base")]
    for arm, reference in (*pairs, *PAIRS):
        if {arm, reference} <= set(found):
            comparisons += compare({r: found[r] for r in (reference, arm)})
    if set(UNPAIRED) <= set(found):
        comparisons += _compare_unpaired(found, *UNPAIRED)
    return {
        "arms": {
            arm: {
                "n": len(metrics["test_accuracy"]),
                **{
                    metric: summarize_values(values.values())
                    for metric, values in metrics.items()
                },
            }
            for arm, metrics in found.items()
        },
        "comparisons": [
            {**item, "verdict": verdict(item, **STYLE, unit=" points")}
            for item in adjust(comparisons)
        ],
    }


def _compare_unpaired(found, arm, reference):
    return [
        {
            "arm": arm,
            "reference": reference,
            "metric": metric,
            **compare_groups(
                list(found[arm][metric].values()),
                list(found[reference][metric].values()),
            ),
        }
        for metric in METRICS
    ]
