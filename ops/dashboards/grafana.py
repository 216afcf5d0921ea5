"""The dashboard as Grafana imports it (schema 39, Grafana 10 and later).

`ops/dashboards/nexus.json` is what this makes; `nexus dashboard` prints it. The queries are
`panels.py`'s.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from ops.dashboards.panels import ROWS, Panel

_COLUMNS: Final = 24
_WIDTH: Final = 8
_HEIGHT: Final = 7
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def document() -> str:
    """The JSON, ending in a newline."""
    made = {
        "uid": "nexus-cos",
        "title": "Nexus COS",
        "tags": ["nexus"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_source(), *_variables()]},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }
    return json.dumps(made, indent=1) + "\n"


def _source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }


def _variables() -> Iterator[dict[str, Any]]:
    """What one may choose: nodes, then streams of these."""
    for name, query in (
        ("instance", "label_values(nexus_children_running, instance)"),
        ("stream", 'label_values(nexus_stream_live{instance=~"$instance"}, stream)'),
    ):
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


def _panels() -> Iterator[dict[str, Any]]:
    """Rows and panels with their places, three panels beside each other."""
    number, top = 1, 0
    for row in ROWS:
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": top},
        }
        number, top = number + 1, top + 1
        for place, panel in enumerate(row.panels):
            left, line = place * _WIDTH % _COLUMNS, place * _WIDTH // _COLUMNS
            position = {"h": _HEIGHT, "w": _WIDTH, "x": left, "y": top + line * _HEIGHT}
            yield {"id": number, "gridPos": position, **_panel(panel)}
            number += 1
        top += -(-len(row.panels) * _WIDTH // _COLUMNS) * _HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never"},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for place, query in enumerate(panel.queries)
        ],
    }
