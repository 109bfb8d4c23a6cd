"""What a worker grows to as it meets more and more keys."""

from bench.contenders import OURS, Seeds
from bench.load import Client, get
from bench.stage import Stage, resident_mib

STEPS = (100, 10_000, 20_000)


def memory(stage: Stage, seeds: Seeds) -> dict[int, float]:
    """The resident MiB of a worker after so many different keys, each of which it has verified."""
    server = stage.serve("onehorizon.wsgi:application", database="many")
    client = Client(server.port, 1)
    found, met = {}, 0
    for step in STEPS:
        burst = client.send([get(OURS, f"Bearer {secret}") for secret in seeds.many["secrets"][met:step]])
        assert burst.statuses == {200}, burst.body
        found[step], met = resident_mib(server.worker), step
    return found
