"""Reads a dashboard by Grafana's own types, writes it again, and prints what has not come through: nothing, if all is known."""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(path, given, kept):
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from lost(f"{path}/{key}", value, kept[key]) if key in kept else [f"{path}/{key}"]
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, (one, other) in enumerate(zip(given, kept)):
            yield from lost(f"{path}/{index}", one, other)
    elif given != kept:
        yield f"{path}: {given!r}, {kept!r}"


register_default_plugins()
dashboard = json.load(sys.stdin)
text = JSONEncoder(sort_keys=True).encode(Dashboard.from_json(dashboard))
print("\n".join(lost("", dashboard, json.loads(text))), end="")
