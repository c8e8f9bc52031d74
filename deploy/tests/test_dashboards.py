"""The dashboards work in any Grafana, and alerts link to the panels that show their cause."""

import json
import re
from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML
from stack import REPOSITORY

DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((REPOSITORY / "grafana/dashboards").glob("*.json"))}
RULES = [
    rule
    for file in ("alerts", "recording")
    for group in YAML(typ="safe").load(REPOSITORY / f"grafana/rules/{file}.yml")["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}


def found(value: object, key: str) -> Iterator[object]:
    """Every value under this key, at any depth."""
    if isinstance(value, dict):
        yield from (inner for name, inner in value.items() if name == key)
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from found(inner, key)


def metrics(expression: str) -> set[str]:
    """The metrics that an expression reads, also through recorded ones."""
    names = set(re.findall(r"\b(?:roomlog|redis|process)_\w+", expression))
    for record in re.findall(r"\broomlog:[\w:]+", expression):
        names |= metrics(RECORDED[record])
    return names


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_depends_on_no_name_of_a_data_source_or_job(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert "__inputs" not in dashboard and "id" not in dashboard
    assert {source["uid"] for source in found(dashboard, "datasource")} == {"${datasource}"}
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for expression in found(dashboard, "expr"):
        selectors = re.findall(r"\b((?:roomlog|redis|process)_\w+)(\{[^}]*\})?", expression)
        for metric, selector in selectors:
            job = "$redis_job" if metric.startswith("redis_") else "$job"
            assert f'job="{job}"' in selector, f"{metric} of any job: {expression}"
        used = set(re.findall(r"\$(\w+)", expression)) - {"__range", "__rate_interval"}
        assert used <= set(variables), expression


@pytest.mark.parametrize("name", DASHBOARDS)
def test_rates_follow_the_zoom_and_the_scrape_interval(name: str) -> None:
    for expression in found(DASHBOARDS[name], "expr"):
        ranges = re.findall(r"\b(\w+)\([^()]*\[([$\w]+)\]\)", expression)
        assert len(ranges) == len(re.findall(r"\b(?:rate|increase)\(", expression)), expression
        assert set(ranges) <= {("rate", "$__rate_interval"), ("increase", "$__rate_interval"), ("increase", "$__range")}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_links_to_a_panel_that_shows_its_cause(alert: dict) -> None:
    link = re.fullmatch(r"\{\{ \$externalLabels\.grafana \}\}/d/(.+)\?viewPanel=(\d+)", alert["annotations"]["dashboard_url"])
    assert link
    [dashboard] = [dashboard for dashboard in DASHBOARDS.values() if dashboard["uid"] == link[1]]
    [panel] = [panel for panel in dashboard["panels"] if panel["id"] == int(link[2])]
    shown = metrics(" ".join(target["expr"] for target in panel.get("targets", [])))
    # `up` comes from Prometheus itself. Nodes that are up are ready.
    wanted = metrics(alert["expr"]) or {"roomlog_ready"}
    assert shown & wanted, f"{panel['title']} shows {shown}"


def test_links_of_alerts_become_absolute_and_their_base_is_no_label() -> None:
    config = YAML(typ="safe").load(REPOSITORY / "prometheus.yml")
    labels = config["global"]["external_labels"]
    assert all(labels[name].startswith("http") for name in ("runbook", "grafana"))
    [drop] = config["alerting"]["alert_relabel_configs"]
    assert drop["action"] == "labeldrop" and all(re.fullmatch(drop["regex"], name) for name in labels)
