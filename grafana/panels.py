"""The building blocks of the dashboards: a few kinds of panels, each with a title, a unit and advice for bad values.

The title of a panel whose value must be zero says so, and the tests check the value."""

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
MUST_BE_ZERO = " (must be 0)"
# The full width of a dashboard.
WIDTH = 24

# Selectors with the variables of the dashboards.
NODE = 'job="$job",instance=~"$node"'
CLASS = f'{NODE},class=~"$class"'
REDIS = 'job="$redis_job"'

# Where the runbook is unless the constant `runbook` of a dashboard says otherwise.
RUNBOOK = "https://github.com/roomlog/roomlog/blob/main/docs/runbook.md"


def rate(metric: str, selector: str = NODE) -> str:
    return f"rate({metric}{{{selector}}}[$__rate_interval])"


def quantiles(metric: str, selector: str, by: str = "") -> list[tuple[str, str]]:
    """p50, p99 and p99.9 of a histogram, as queries with their legends."""
    labels = f"le,{by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    summed = f"sum by ({labels}) ({rate(metric + '_bucket', selector)})"
    return [(f"histogram_quantile({q}, {summed})", name + legend) for q, name in
            [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")]]


def worst_nodes(expression: str) -> list[tuple[str, str]]:
    """The ten nodes with the largest value: readable with one node and with two hundred."""
    return [(f"topk(10, {expression})", "{{instance}}")]


def _thresholds(steps: list[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    steps = [model.Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def above(warning: float, danger: float | None = None) -> list[tuple[float | None, str]]:
    """Thresholds of a value that is better when it is small."""
    steps = [(None, "green"), (warning, "orange" if danger is not None else "red")]
    return steps + ([(danger, "red")] if danger is not None else [])


def below(danger: float) -> list[tuple[float | None, str]]:
    """Thresholds of a value that is better when it is large."""
    return [(None, "red"), (danger, "green")]


def _with_queries(panel, queries: list[tuple[str, str]], instant: bool):
    for index, (expression, legend) in enumerate(queries):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + index))
        panel.with_target(query.instant() if instant else query.range())
    return panel.datasource(SOURCE)


def number(title, about, queries, unit="short", thresholds=None, width=4, height=4, none=None):
    """One value, or a few."""
    panel = stat.Panel().title(title).description(about).unit(unit).span(width).height(height)
    panel.thresholds(_thresholds(thresholds or [(None, "blue")]))
    panel.color_mode(options.BigValueColorMode.BACKGROUND if thresholds else options.BigValueColorMode.VALUE)
    panel.graph_mode(options.BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if none is not None:
        panel.no_value(none)
    return _with_queries(panel, queries, instant=True)


def zero(title, about, expression, unit="short", width=4):
    """A value that is zero unless something went wrong."""
    return number(title + MUST_BE_ZERO, about, [(expression, "")], unit, above(0.000001), width)


def graph(title, about, queries, unit="short", thresholds=None, width=8, height=8, none=None, stacked=False):
    """A graph over time."""
    panel = timeseries.Panel().title(title).description(about).unit(unit).span(width).height(height).min(0)
    panel.line_width(1).fill_opacity(10).show_points(options.VisibilityMode.NEVER)
    panel.legend(common.VizLegendOptions().display_mode(options.LegendDisplayMode.LIST)
                 .placement(options.LegendPlacement.BOTTOM).show_legend(True))
    panel.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    if thresholds:
        panel.thresholds(_thresholds(thresholds))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphTresholdsStyleMode.DASHED))
    if stacked:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if none is not None:
        panel.no_value(none)
    return _with_queries(panel, queries, instant=False)


def heat_of(title, about, metric, selector, width=12, height=8):
    """The distribution of a histogram over time."""
    panel = heatmap.Panel().title(title).description(about).span(width).height(height)
    panel.calculate(False)
    panel.color(heatmap.HeatmapColorOptions().mode(heat.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
    panel.y_axis(heatmap.YAxisConfig().unit("s"))
    panel.datasource(SOURCE)
    expression = f"sum by (le) (increase({metric}_bucket{{{selector}}}[$__rate_interval]))"
    query = prometheus.Dataquery().expr(expression).legend_format("{{le}}").ref_id("A")
    return panel.with_target(query.format(PromQueryFormat.HEATMAP).range())


class _Event(model.AnnotationQuery):
    """An annotation at the time, in milliseconds, that its query returns. The SDK lacks this option of Prometheus annotations."""

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"useValueForTime": True, "tagKeys": "instance", "titleFormat": "{{instance}} started"}


class Restarts:
    """Marks the time at which each node started."""

    def build(self) -> model.AnnotationQuery:
        expression = f"process_start_time_seconds{{{NODE}}} * 1000"
        return _Event(name="Restarts", datasource=SOURCE, icon_color="orange", expr=expression)


def board(uid: str, title: str, about: str, with_class: bool = False, with_redis: bool = False) -> dashboard.Dashboard:
    """An empty dashboard with its variables, links to the others, and marks at restarts. It works with any name of the data source and
    of the jobs."""
    page = dashboard.Dashboard(title).uid(uid).description(about).tags(["roomlog"]).timezone("browser")
    page.time("now-1h", "now").refresh("10s").tooltip(model.DashboardCursorSync.CROSSHAIR)
    link = dashboard.DashboardLink("Other Roomlog dashboards").type(model.DashboardLinkType.DASHBOARDS)
    page.link(link.tags(["roomlog"]).keep_time(True).include_vars(True))
    page.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    page.with_variable(_value("job", "Job", "label_values(roomlog_build_info, job)"))
    page.with_variable(_values("node", "Node", 'label_values(roomlog_build_info{job="$job"}, instance)'))
    if with_class:
        page.with_variable(_values("class", "Room class", 'label_values(roomlog_publishes_total{job="$job"}, class)'))
    if with_redis:
        page.with_variable(_value("redis_job", "Redis job", "label_values(redis_up, job)"))
    page.with_variable(dashboard.ConstantVariable("runbook").value(RUNBOOK))
    return page.annotation(Restarts())


def runbook(alert: str) -> str:
    """A link to the response to an alert."""
    return f"See the [runbook](${{runbook}}#{alert.lower()})."


def _value(name: str, label: str, query: str) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    return variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)


def _values(name: str, label: str, query: str) -> dashboard.QueryVariable:
    variable = _value(name, label, query).multi(True).include_all(True).all_value(".*")
    return variable.current(model.VariableOption(selected=True, text="All", value="$__all"))


def row(title: str) -> dashboard.Row:
    return dashboard.Row(title)
