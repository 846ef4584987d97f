"""The official client library's parser judges what /metrics says: python metrics.py http://HOST:PORT/metrics FILE

The text is left in FILE for promtool."""

import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

with urllib.request.urlopen(sys.argv[1], timeout=60) as answer:
    kind = answer.headers["Content-Type"]
    text = answer.read().decode("ascii")
with open(sys.argv[2], "w", encoding="ascii") as copy:
    copy.write(text)
assert kind == "text/plain; version=0.0.4; charset=utf-8", kind

families = {family.name: family for family in text_string_to_metric_families(text)}
lines = [line for line in text.splitlines() if not line.startswith("#")]
samples = [sample for family in families.values() for sample in family.samples]
assert len(samples) == len(lines), (len(samples), len(lines))
assert len({(s.name, tuple(s.labels.items())) for s in samples}) == len(samples), "a series twice"
for name, family in families.items():
    assert name.startswith("voicelived_") and family.documentation, name
    assert family.type in ("counter", "gauge", "histogram"), (name, family.type)
    if family.type == "histogram":
        buckets = [s.value for s in family.samples if s.name.endswith("_bucket")]
        count = next(s.value for s in family.samples if s.name.endswith("_count"))
        bounds = [float(s.labels["le"]) for s in family.samples if s.name.endswith("_bucket")]
        assert buckets == sorted(buckets) and bounds == sorted(bounds) and buckets[-1] == count, name
assert sum(s.value for s in families["voicelived_connections_accepted"].samples) >= 1
print(f"{len(families)} families, {len(samples)} samples")
