"""The memory of a worker, as it verifies more and more keys."""

from bench.contenders import OURS, Seeds
from bench.load import Client, get
from bench.stage import Stage, resident_mib

STEPS = (100, 10_000, 20_000)


def memory(stage: Stage, seeds: Seeds) -> dict[int, float]:
    """Return the resident MiB of a worker, by the number of different keys that it has verified."""
    server = stage.serve("onehorizon.wsgi:application", database="many")
    client = Client(server.port, 1)
    resident, verified = {}, 0
    for step in STEPS:
        burst = client.send([get(OURS, f"Bearer {secret}") for secret in seeds.many["secrets"][verified:step]])
        assert burst.statuses == {200}, burst.body
        resident[step], verified = resident_mib(server.worker), step
    return resident
