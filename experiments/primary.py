"""Print the tables of a study that declared hypotheses from its published runs, and draw it.

    python experiments/primary.py table docs/results/primary.parquet
    python experiments/primary.py draw docs/results/primary.parquet --out docs/results/primary.svg
    python experiments/primary.py forecasts FOLDER/forecasts.npz --out docs/results/primary-forecasts.parquet

The spec of that name lies beside the runs, such as primary.toml or inputs.toml. "Tuned dense" is the one of none,
dropout and Monte-Carlo dropout with the smallest validation error on the series. Differences are relative changes of
the test error, over all series the mean of their logarithms; negative is better.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from synaptic_pruning.study.engine import About
from synaptic_pruning.study.forecasting.report import declared
from synaptic_pruning.study.forecasting.report.tables import unfinished
from synaptic_pruning.study.forecasting.spec import Spec, read_spec
from synaptic_pruning.study.statistics import RegimeErrors, best_by_validation, effects_by_dataset

DENSE = ("none", "dropout", "mc-dropout")
REGIMES = {"features": "many inputs", "univariate": "the target alone"}
WORDS = {
    "none": "plain",
    "dropout": "dropout",
    "mc-dropout": "Monte-Carlo dropout",
    "narrow": "narrow dense, width tuned",
    "synaptic": "**pruned**",
    "inputs": "whole inputs pruned",
}


def networks(results: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of networks, and those of the tuned dense network as one more arm."""
    runs = results[(results["model"] != "") & (results["status"] == "ok")]
    chosen = best_by_validation(RegimeErrors(by_series(runs), by_series(runs, "validation_mae")), DENSE)["arm"]
    dense = runs.merge(chosen.reset_index(), on=["regime", "dataset", "arm"]).assign(arm="tuned dense")
    return pd.concat([runs, dense], ignore_index=True)


def by_series(runs: pd.DataFrame, value: str = "mae") -> pd.DataFrame:
    """Return means over seeds: one row a regime and series, one column an arm."""
    return runs.groupby(["regime", "dataset", "arm"])[value].mean().astype(float).unstack("arm")


def change(errors: pd.DataFrame, arm: str, other: str) -> str:
    """Say how far an arm lies from another, and on how many series it is better."""
    logs = np.log(errors[arm] / errors[other]).dropna()
    return f"{100 * np.expm1(logs.mean()):+.1f} % | {(logs < 0).sum()}–{(logs > 0).sum()}"


def views(spec: Spec) -> dict[tuple[str, str], str]:
    """Return the regimes and arms that hypotheses are about, with what tells them apart."""
    pairs = list(dict.fromkeys((one.regime, one.arm) for one in spec.plan().hypotheses))
    if len({regime for regime, _ in pairs}) > 1:
        return {(regime, arm): REGIMES[regime] for regime, arm in pairs}
    return {(regime, arm): WORDS[arm].replace("*", "") for regime, arm in pairs}


def tables(results: pd.DataFrame, spec: Spec) -> str:
    """Return all tables as Markdown."""
    about = About("", blocks=spec.blocks(), domains=spec.domain_of())
    lines = [
        "| what was declared | test error | 95 % interval | won | p, Holm | | power |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in declared(results, spec.plan().hypotheses, about):
        effect = one.judgement.effect
        assert effect.low is not None
        assert effect.high is not None
        lines.append(
            f"| {one.judgement.hypothesis.name} | {100 * effect.estimate:+.1f} % "
            f"| {100 * effect.low:+.1f} to {100 * effect.high:+.1f} | {effect.wins} of {effect.blocks} "
            f"| {one.judgement.p_holm:.2g} | {'**holds**' if one.judgement.holds else 'not shown'} "
            f"| {100 * one.power:.0f} % |"
        )
    runs = networks(results)
    errors, shown = by_series(runs), views(spec)
    regimes = [regime for regime in REGIMES if regime in spec.regimes]
    for regime in regimes:
        part = errors.loc[regime]
        late = {one["arm"]: one["share"] for one in unfinished(runs[runs["regime"] == regime])}
        alive = by_series(runs, "alive").loc[regime]
        skill = by_series(runs, "skill").loc[regime].mean()
        lines += [
            "",
            f"| {REGIMES[regime]} | against tuned dense | won–lost | against persistence | weights left | unfinished |",
        ]
        lines += ["|---|---|---|---|---|---|"]
        for arm, words in WORDS.items():
            if arm not in part:
                continue
            weights = (alive[arm] / alive["none"]).median()
            lines.append(
                f"| {words} | {change(part, arm, 'tuned dense')} | {-100 * skill[arm]:+.1f} % "
                f"| {100 * weights:.0f} % | {100 * late[arm]:.0f} % |"
            )
    lines += ["", "| largest loss of the pruned network | on | against tuned dense |", "|---|---|---|"]
    for (regime, arm), name in shown.items():
        lost = errors.loc[regime, arm] / errors.loc[regime, "tuned dense"] - 1
        lines.append(f"| {name} | {lost.idxmax()} | {100 * lost.max():+.1f} % |")
    titles = " | ".join(f"{name} | won–lost" for name in shown.values())
    lines += ["", f"| domain | series | {titles} |", f"|---|---|{'---|---|' * len(shown)}"]
    domain_of = errors.index.get_level_values("dataset").map(spec.domain_of())
    for domain in sorted(set(domain_of)):
        part = errors[domain_of == domain]
        cells = [change(part.loc[regime], arm, "tuned dense") for regime, arm in shown]
        lines.append(f"| {domain} | {len(part) // len(regimes)} | {' | '.join(cells)} |")
    if len(regimes) > 1:
        lines += ["", "| do many inputs help? | test error with them | won–lost |", "|---|---|---|"]
        alone = errors.loc["univariate", "tuned dense"]
        for arm, name in (("tuned dense", "tuned dense, many inputs"), ("synaptic", "pruned, many inputs")):
            both = pd.DataFrame({"with": errors.loc["features", arm], "without": alone})
            lines.append(f"| {name}, against tuned dense of the target alone | {change(both, 'with', 'without')} |")
    beside = results[(results["model"] == "") & (results["status"] == "ok")]
    plain = beside.groupby(["regime", "dataset", "arm"])["mae"].mean().astype(float).unstack("arm")
    titles = " | ".join(f"{REGIMES[regime]} | won–lost" for regime in regimes)
    lines += ["", f"| baseline | {titles} |", f"|---|{'---|---|' * len(regimes)}"]
    both = errors.join(plain)
    for arm in ("tuned dense", *dict.fromkeys(arm for _, arm in shown)):
        words = WORDS.get(arm, arm).replace("*", "")
        for name in plain:
            cells = [change(both.loc[regime], name, arm) for regime in regimes]
            lines.append(f"| {name}, against {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: pd.DataFrame, spec: Spec, out: Path) -> None:
    """Draw what pruning changes on every series, with 95 % intervals over seeds."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "primary"
    from matplotlib import pyplot as plt

    runs = networks(results)
    figure, places = plt.subplots(1, 2, figsize=(11, 6), layout="constrained")
    for axes, ((regime, arm), name) in zip(places, views(spec).items(), strict=True):
        found = effects_by_dataset(runs[runs["regime"] == regime], arm, "tuned dense")
        rows = np.arange(len(found))
        for chosen, colour in (
            (found["high"] < 0, "#00798c"),
            (found["low"] > 0, "#d1682b"),
            ((found["high"] >= 0) & (found["low"] <= 0), "0.55"),
        ):
            axes.hlines(rows[chosen], 100 * found["low"][chosen], 100 * found["high"][chosen], color=colour, lw=1.2)
            axes.plot(100 * found["estimate"][chosen], rows[chosen], "o", color=colour, ms=4)
        axes.axvline(0, color="0.2", lw=0.8)
        widest = min(0.4, float(found[["low", "high"]].abs().max().max()))
        reach = 105 * max(widest, float(found["estimate"].abs().max()))  # every point is seen; long lines are cut
        axes.set(
            xlim=(-reach, reach),
            ylim=(len(found) - 0.4, -0.6),
            title=f"With {name}" if name in REGIMES.values() else name.capitalize(),
        )
        axes.set_xlabel("test error of the pruned network against tuned dense (%)")
        axes.set_yticks(rows, [str(one).rsplit("_", 1)[0].replace("_", " ") for one in found["dataset"]], fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, metadata={"Date": None})


def pack_forecasts(found: Path, out: Path) -> None:
    """Write what the study's networks forecast of the test parts, as errors rounded to one part in 8,000.

    One row a forecast, in the order of time. Rows of the arm ``truth`` hold what was forecast, with seed -1.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    with np.load(found) as kept:
        for key in kept.files:
            dataset, regime, horizon, *run, part = key.split(" / ")
            if part != "test":
                continue
            truth, values = kept[f"{dataset} / {regime} / {horizon} / test"][:, 0], kept[key][:, 0]
            arm, seed = ("truth", -1) if not run else (run[2], int(run[3]))
            if run:
                bits = (values.astype(float) - truth).astype(np.float32).view(np.uint32)
                values = ((bits + 0x800) & np.uint32(0xFFFFF000)).view(np.float32)
            names = {"regime": regime, "dataset": dataset, "arm": arm, "seed": np.int8(seed)}
            parts.append(pd.DataFrame({"value": values}).assign(**names))
    table = pa.Table.from_pandas(pd.concat(parts), preserve_index=False)
    names = ["regime", "dataset", "arm", "seed"]
    stored = {"compression": "zstd", "compression_level": 19, "use_dictionary": names}
    pq.write_table(table, out, column_encoding={"value": "BYTE_STREAM_SPLIT"}, **stored)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("table", "draw", "forecasts"))
    parser.add_argument("runs", type=Path, help="table of runs (Parquet), or forecasts of the study (.npz)")
    parser.add_argument("--out", type=Path, help="what to write")
    arguments = parser.parse_args()
    if arguments.what == "forecasts":
        pack_forecasts(arguments.runs, arguments.out)
        return
    results, spec = pd.read_parquet(arguments.runs), read_spec(arguments.runs.with_suffix(".toml"))
    if arguments.what == "draw":
        draw(results, spec, arguments.out)
    else:
        print(tables(results, spec))


if __name__ == "__main__":
    main()
