"""Reads a metrics file as Prometheus does, and prints what is in it."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        families = list(text_string_to_metric_families(file.read()))
    print("RESULT " + json.dumps([{"name": f.name, "type": f.type, "samples": [[s.name, s.labels, s.value] for s in f.samples]} for f in families]))
