"""A dashboard for the user's own Grafana, over the gauges of `rl.monitoring.ray_metrics`."""

from dataclasses import dataclass
from typing import Any

from rl.monitoring.ray_metrics import metric_name

UID = "rankone"
FILTER = 'run=~"$run", policy=~"$policy", model=~"$model", submission_id=~"$submission_id"'
VARIABLES = ("run", "policy", "model", "submission_id")


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: queries by their legend."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    stacked: bool = False


def gauge(name: str, *by: str) -> str:
    """Return the query of a run's latest value of a metric, one series a policy."""
    return f"max by ({', '.join(('run', 'policy', *by))}) (ray_{metric_name(name)}{{{FILTER}}})"


def rate(counter: str, *by: str) -> str:
    """Return the query of a counter's gain a second, averaged over a minute."""
    return f"sum by ({', '.join(('run', *by))}) (rate(ray_rankone_{counter}_total{{{FILTER}}}[1m]))"


RUN = "{{run}} {{policy}}"
PHASES = ("sample", "grade", "update", "publish")
PANELS = (
    Panel("Held-out accuracy", {RUN: gauge("eval/accuracy")}, "percentunit"),
    Panel("Held-out log-loss, nats a token", {RUN: gauge("eval/log_loss")}),
    Panel("Mean reward", {RUN: gauge("reward/mean")}),
    Panel("Step", {RUN: gauge("step")}),
    Panel("Outcomes", {f"{RUN} {{{{outcome}}}}": gauge("reward/outcome", "outcome")}, "percentunit"),
    Panel("Groups without signal", {RUN: gauge("group/no_signal_fraction")}, "percentunit"),
    Panel("Completion length, tokens", {RUN: gauge("completion/length_mean")}),
    Panel("Truncated completions", {RUN: gauge("completion/truncated_fraction")}, "percentunit"),
    Panel("Entropy, nats a token", {RUN: gauge("update/entropy")}),
    Panel("KL(sampler, learner), nats a token", {RUN: gauge("update/kl_sampler_learner")}),
    Panel("Gradient norm", {RUN: gauge("update/grad_norm")}),
    Panel("Loss", {RUN: gauge("update/loss")}),
    Panel("Clipped tokens", {RUN: gauge("update/clip_fraction")}, "percentunit"),
    Panel(
        "Policy version lag",
        {f"{RUN} most": gauge("policy/version_lag"), f"{RUN} mean": gauge("policy/version_lag_mean")},
    ),
    Panel("Phases of a step", {f"{RUN} {name}": gauge(f"time/{name}_s") for name in PHASES}, "s", stacked=True),
    Panel(
        "Tokens a second",
        {
            f"{RUN} sampled": gauge("throughput/sample_tokens_per_s"),
            f"{RUN} learned from": gauge("throughput/update_tokens_per_s"),
        },
    ),
    Panel("Rollout workers serving", {RUN: gauge("rollout/workers")}),
    Panel("Completions a second", {"{{run}}": rate("completions")}),
    Panel("Completion tokens a second", {"{{run}}": rate("completion_tokens")}),
    Panel("Grades a second", {"{{run}} {{outcome}}": rate("outcomes", "outcome")}),
)


def variable_query(name: str) -> str:
    """Return the query of the values that a dashboard variable can take."""
    return f"label_values(ray_{metric_name('step')}, {name})"


def grafana_dashboard() -> str:
    """Return the dashboard as JSON, for Grafana 10 and later."""
    from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

    source: Any = DataSourceRef(type_val="prometheus", uid="${datasource}")
    board: Any = Dashboard("rankone").uid(UID).tags(["ray", "rankone"]).refresh("10s").time("now-1h", "now")
    board = board.with_variable(DatasourceVariable("datasource").type("prometheus").label("Data source"))
    for name in VARIABLES:
        variable: Any = QueryVariable(name).datasource(source).query(variable_query(name)).multi(True)
        board = board.with_variable(
            variable.include_all(True).all_value(".*").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
    for panel in PANELS:
        board = board.with_panel(_panel(panel, source))
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


def _panel(panel: Panel, source: Any) -> Any:
    from grafana_foundation_sdk.builders.common import StackingConfig
    from grafana_foundation_sdk.builders.prometheus import Dataquery
    from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
    from grafana_foundation_sdk.models.common import StackingMode

    plot: Any = TimeSeries().title(panel.title).unit(panel.unit).datasource(source).height(8).span(8)
    if panel.stacked:
        plot = plot.stacking(StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(30)
    for index, (legend, expression) in enumerate(panel.queries.items()):
        plot = plot.with_target(Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + index)))
    return plot
