"""Writes the dashboards that Grafana reads, dashboards/*.json, from delivery.py, node.py and redis.py. The builders come from
Grafana's own SDK, which follows its schema. With --check, writes nothing and fails if the files are out of date."""

import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

import delivery
import node
import redis

HERE = pathlib.Path(__file__).parent / "dashboards"


def main() -> int:
    old = 0
    for name, page in [("delivery", delivery), ("node", node), ("redis", redis)]:
        path = HERE / f"{name}.json"
        board = page.build().build()
        for number, panel in enumerate(board.panels, 1):
            panel.id_val = number
        text = JSONEncoder(sort_keys=True, indent=2).encode(board) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path} is out of date: run `make dashboards`", file=sys.stderr)
            old += 1
    return old


if __name__ == "__main__":
    sys.exit(main())
