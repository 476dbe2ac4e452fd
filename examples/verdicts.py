"""How often are the verdicts of a study wrong, and how soon do they come?

    KERAS_BACKEND=torch python examples/verdicts.py

Simulates studies whose true differences are known and compares their arms as
`Study.report` does. Then studies that stop when they know: simulated ones, and
the committed rows of the CIFAR-10 study. Writes `verdicts.md` and
`verdicts.png` to the folder of `--out`. `--quick` simulates few studies, and
looks less often, in seconds.
"""

import argparse
import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from command_line import output_folder
from planned import compare_planned, interval, paired_differences

from keras_parewire.studies import compare

RESULTS = Path(__file__).parent / "results"
SEEDS = 100
ARMS = (1, 3, 8)
CLAIMS = ("higher", "lower")
KINDS = {
    "normal": lambda g, shape: g.normal(size=shape),
    "t, 3 degrees": lambda g, shape: g.standard_t(3, shape),
    "0, 1 or 2": lambda g, shape: g.integers(0, 3, shape),
    "accuracy, 500 images": lambda g, shape: g.binomial(500, 0.9, shape) / 500,
    # A constant reference: the differences themselves are skewed.
    "exponential differences": lambda g, shape: (
        (g.exponential(size=shape) - 1) * (np.arange(shape[0]) > 0)[:, None]
    ),
}
# The committed rows, each with the metric that its plan tests.
ROWS = {
    "small_cnn-7be279d2": "test_accuracy",
    "small_cnn-480d7c74": "test_accuracy",
    "mlp-c941c0b6": "test_accuracy",
    "convmixer-9cc1351e": "epoch_1_accuracy",
    "sl_vit-b104dbf2": "epoch_1_accuracy",
    "sl_vit-8c0f68c8": "epoch_1_accuracy",
}
LEAST_SEEDS = 8


def first_look(
    numbers, looks, verdicts, judged=slice(None), test=compare, **options
):
    """Returns the number of seeds at which an arm first has a verdict.

    Args:
        numbers: The metric of all arms and seeds, with the reference first.
        looks: The numbers of seeds at which one looks.
        verdicts: The verdicts to look for.
        judged: The arms to look at. Defaults to all.
        test: What compares them. Defaults to `compare`, as a study does.
        **options: As `test` takes them.

    Returns:
        One of `looks`, or infinity if there is no such verdict.
    """
    rows = [dict(enumerate(map(float, row))) for row in numbers]
    for n in looks:
        values = {
            str(arm): {"x": {seed: row[seed] for seed in range(n)}}
            for arm, row in enumerate(rows)
        }
        found = test(values, **options)[judged]
        if any(item.verdict in verdicts for item in found):
            return n
    return np.inf


def first_looks(count, arms, effect, *arguments, kind=None, **options):
    """Simulates studies; see `first_look` for the other arguments.

    Args:
        count: Number of studies.
        arms: Number of arms, besides the reference.
        effect: Their true difference from it, in standard deviations.
        *arguments: As `first_look` takes them.
        kind: One of `KINDS`, for arms that are equal. Defaults to normal
            differences.
        **options: As `first_look` takes them.
    """
    generator, looks = np.random.default_rng(0), []
    for _ in range(count):
        numbers = KINDS[kind or "normal"](generator, (arms + 1, SEEDS))
        if kind is None:
            numbers = numbers * (np.arange(arms + 1) > 0)[:, None]
            numbers[1:] += effect
        looks.append(first_look(numbers, *arguments, **options))
    return np.array(looks)


def false_claims(count, every):
    """Tabulates how many studies of equal arms claim a difference."""
    rows = [["metric of each arm", "looks", *map(_arms, ARMS)]]
    planned = {"test": compare_planned}
    once = {"once, at 20": {}, "once, at 20, the planned test": planned}
    for kind in KINDS:
        at_every = (f"every seed to {SEEDS}", every, {})
        at_once = [(name, [20], options) for name, options in once.items()]
        for name, looks, options in (at_every, *at_once):
            found = [
                first_looks(count, arms, 0, looks, CLAIMS, kind=kind, **options)
                for arms in ARMS
            ]
            rows.append([kind, name, *map(_share, found)])
    found = [
        first_looks(count, arms, 0.5, every, ["equivalent"], margin=0.5)
        for arms in ARMS
    ]
    name = "normal, as different as the margin: equivalent"
    rows.append([name, f"every seed to {SEEDS}", *map(_share, found)])
    return rows


def coverage(count):
    """Tabulates how many planned intervals of one arm hold the difference."""
    sizes = (6, 10, 20, 50)
    rows = [["metric of each arm", *(f"{n} seeds" for n in sizes)]]
    for kind, draw in KINDS.items():
        generator, cells = np.random.default_rng(0), []
        for n in sizes:
            held = 0
            for _ in range(count):
                plain, arm = (
                    {"x": dict(enumerate(map(float, x)))}
                    for x in draw(generator, (2, n))
                )
                low, high = interval(paired_differences(arm, plain, "x"))
                held += low <= 0 <= high
            cells.append(f"{100 * held / count:.1f} %")
        rows.append([kind, *cells])
    return rows


def seeds_to_verdict(count, every):
    """Tabulates how many seeds it takes until an arm is decided."""
    rows = [["true difference", "margin", *map(_arms, ARMS)]]
    for effect, margin in (
        (0.3, None),
        (0.5, None),
        (1.0, None),
        (0.0, 0.5),
        (0.0, 1.0),
    ):
        verdicts = ["equivalent"] if margin else ["higher"]
        cells = []
        for arms in ARMS:
            options = {"judged": slice(1), "margin": margin}
            looks = first_looks(count, arms, effect, every, verdicts, **options)
            mean = np.minimum(looks, SEEDS).mean()
            cells.append(
                f"{mean:.0f} ({100 * np.isfinite(looks).mean():.0f} %)"
            )
        rows.append(
            [f"{effect:g} sd", f"{margin:g} sd" if margin else "", *cells]
        )
    return rows


def run_until_decided(numbers, margin=None):
    """Makes the runs that `Study.run` makes with `until_decided`.

    Args:
        numbers: Dict by arm of dicts by seed; the reference is the first.
        margin: As in `Study.run`.

    Returns:
        The comparisons, by arm, and the number of runs.
    """
    values = {arm: {"x": {}} for arm in numbers}
    reference, *_ = numbers
    for seed in sorted(set.intersection(*map(set, numbers.values()))):
        found = compare(values, margin=margin)
        undecided = [x.arm for x in found if x.verdict == "undecided"]
        for arm in [reference, *undecided] if undecided else []:
            values[arm]["x"][seed] = numbers[arm][seed]
    made = sum(len(by_metric["x"]) for by_metric in values.values())
    return compare(values, margin=margin), made


def simulated_runs(count):
    """Tabulates the runs of simulated studies that stop when they know."""
    rows = [["true differences", "margin", "runs made", "decided, by arm"]]
    for effects, margin in (
        ((0.5,), None),
        ((1.0,), None),
        ((0.0,), 0.5),
        ((1.0, 0.5, 0.0), None),
        ((1.0, 0.5, 0.0), 0.75),
    ):
        generator, runs = np.random.default_rng(0), 0
        decided = np.zeros(len(effects))
        for _ in range(count):
            noise = generator.normal(size=(len(effects) + 1, SEEDS))
            noise[0] = 0
            numbers = {
                str(arm): dict(enumerate(map(float, effect + noise[arm])))
                for arm, effect in enumerate((0.0, *effects))
            }
            found, made = run_until_decided(numbers, margin)
            runs += made
            decided += [item.verdict != "undecided" for item in found]
        total = count * SEEDS * (len(effects) + 1)
        rows.append(
            [
                ", ".join(f"{effect:g}" for effect in effects) + " sd",
                _margin(margin, "sd"),
                f"{100 * runs / total:.0f} %",
                ", ".join(f"{100 * x / count:.0f} %" for x in decided),
            ]
        )
    return rows


def committed_numbers(name, metric):
    """Yields the numbers of one CSV file by arm and seed, in points.

    Arms of fewer seeds than others make a study of their own, with all arms, on
    the seeds that all of them have.
    """
    numbers = {}
    path = RESULTS / f"cifar10-{name}.csv"
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["arm"] not in ("lowest", "highest") and not row["error"]:
                of_arm = numbers.setdefault(row["arm"], {})
                of_arm[int(row["seed"])] = 100 * float(row[metric])
    for least in sorted({len(by_seed) for by_seed in numbers.values()})[::-1]:
        arms = {a: x for a, x in numbers.items() if len(x) >= least}
        if least >= LEAST_SEEDS and len(arms) > 1:
            yield arms


def committed_runs(names):
    """Tabulates the runs of the CIFAR-10 study, had it stopped when it knew."""
    rows = [
        ["rows", "margin", "runs there", "runs made", "decided, after seeds"]
    ]
    for name in names:
        for numbers in committed_numbers(name, ROWS[name]):
            seeds = set.intersection(*map(set, numbers.values()))
            for margin in (None, 0.5):
                found, made = run_until_decided(numbers, margin)
                decided = [
                    f"`{item.arm}` {item.verdict} {item.n}"
                    for item in found
                    if item.verdict != "undecided"
                ]
                rows.append(
                    [
                        f"{name}, {len(seeds)} seeds",
                        _margin(margin, "points"),
                        len(numbers) * len(seeds),
                        made,
                        ", ".join(decided) or "none",
                    ]
                )
    return rows


def draw_figure(count, every, path):
    """Draws how many studies of two equal arms have claimed so far."""
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    for label, options in (
        ("planned test, looked at again and again", {"test": compare_planned}),
        ("report(), looked at again and again", {}),
    ):
        looks = first_looks(
            count, 1, 0, every, CLAIMS, kind="normal", **options
        )
        shares = [100 * np.mean(looks <= n) for n in every]
        axis.plot(list(every), shares, label=label)
    axis.axhline(5, color="black", linewidth=0.8, linestyle=":")
    axis.set(xlabel="seeds", ylabel="false claims in %", ylim=0)
    axis.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _arms(arms):
    return f"{arms} arm" if arms == 1 else f"{arms} arms"


def _margin(margin, unit):
    return f"{margin:g} {unit}" if margin else ""


def _share(looks):
    return f"{100 * np.isfinite(looks).mean():.1f} %"


def table(rows):
    """Returns a table in Markdown, the first row being its header."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main():
    """Writes the tables and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=output_folder("verdicts"))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    count, few, every = 1000, 20, range(5, SEEDS + 1)
    names = list(ROWS)
    if arguments.quick:
        count, few, every = 40, 1, range(10, SEEDS + 1, 10)
        names = names[-1:]
    parts = []
    for title, tabulate, *options in (
        (
            "Equal arms: studies that claim a difference",
            false_claims,
            count,
            every,
        ),
        ("Planned intervals that hold the true difference", coverage, count),
        ("Seeds until an arm is decided", seeds_to_verdict, count, every),
        ("Studies that stop when they know", simulated_runs, few),
        ("The same with the committed rows", committed_runs, names),
    ):
        parts += [f"**{title}**", table(tabulate(*options))]
        print(*parts[-2:], sep="\n\n", end="\n\n", flush=True)
    (arguments.out / "verdicts.md").write_text("\n\n".join(parts) + "\n")
    draw_figure(count, every, arguments.out / "verdicts.png")


if __name__ == "__main__":
    main()
