"""The tables of the report, and the ratios with their targets."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from bench.contenders import Contender, Sample
from bench.isolation import FLOOD, SECONDS, SLICES, Isolation, p99

OURS, OPEN, REJECTED, INVENTED = (
    "ours",
    "ours without authentication and quota",
    "ours, rejected (429)",
    "ours, invented key (401)",
)
THROTTLED = "djangorestframework-api-key, two throttles"


@dataclass(frozen=True)
class Results:
    """All measurements."""

    contenders: dict[str, Contender]  # by name
    statements: dict[str, float]  # per request, by name of the contender
    milliseconds: dict[str, float]  # of a request, by what it was spent on
    memory: dict[int, float]  # resident MiB of a worker, by number of keys that it has verified
    isolation: Isolation


@dataclass(frozen=True)
class Target:
    """A ratio and its bound: a minimum, or else a maximum. None: the ratio has no target."""

    name: str  # in the JSON object
    label: str
    is_minimum: bool
    bound: float | None
    ratio: Callable[[Results], float]

    def row(self, ratio: float) -> str:
        if self.bound is None:
            return f"| {self.label} | | {ratio:.2f} | |"
        is_met = ratio >= self.bound if self.is_minimum else ratio <= self.bound
        bound = f"{'≥' if self.is_minimum else '≤'} {self.bound:g}"
        return f"| {self.label} | {bound} | {ratio:.2f} | {'yes' if is_met else '**no**'} |"


def sample_pairs(results: Results, name: str, other: str) -> Iterator[tuple[Sample, Sample]]:
    """Yield the samples of two contenders from the same round: measured within seconds of each other."""
    return zip(results.contenders[name].samples, results.contenders[other].samples, strict=True)


def throughput_ratio(other: str, name: str = OURS) -> Callable[[Results], float]:
    """Return a function for the median ratio of requests per second, `name` ÷ `other`."""

    def ratio(results: Results) -> float:
        return median(left.per_second / right.per_second for left, right in sample_pairs(results, name, other))

    return ratio


def processor_ratio(name: str) -> Callable[[Results], float]:
    """Return a function for the median ratio of processor time, `name` ÷ ours."""

    def ratio(results: Results) -> float:
        return median(left.usage.total / right.usage.total for left, right in sample_pairs(results, name, OURS))

    return ratio


def added_cost_ratio(results: Results) -> float:
    """Return the processor time that authentication and quota add: ours ÷ `THROTTLED`."""

    def added_cost(name: str, without: str) -> float:
        return median((left.usage - right.usage).total for left, right in sample_pairs(results, name, without))

    return added_cost(OURS, OPEN) / added_cost(THROTTLED, "stock, .values()")


TARGETS = [
    Target(
        "stockValues", "ours ÷ stock, `.values()`: requests per second", True, 1.9, throughput_ratio("stock, .values()")
    ),
    Target("stockSerializer", "ours ÷ stock, ModelSerializer", True, 1.8, throughput_ratio("stock, ModelSerializer")),
    Target("apiKey", "ours ÷ djangorestframework-api-key", True, 2.4, throughput_ratio("djangorestframework-api-key")),
    Target("apiKeyThrottled", f"ours ÷ {THROTTLED}", True, 3.4, throughput_ratio(THROTTLED)),
    Target("knoxThrottled", "ours ÷ knox, two throttles", True, 3.5, throughput_ratio("knox, two throttles")),
    Target("added", f"authentication and quota, ours ÷ {THROTTLED}: processor time", False, 0.25, added_cost_ratio),
    Target("refused", "rejected (429) ÷ admitted: processor time", False, 0.65, processor_ratio(REJECTED)),
    Target("invented", "401 for an invented key ÷ admitted: processor time", False, 0.55, processor_ratio(INVENTED)),
    Target(
        "manyKeys",
        "1,000,000 keys in 100,000 workspaces ÷ 20 keys in one: requests per second",
        True,
        0.95,
        throughput_ratio(OURS, "ours, 1,000,000 keys"),
    ),
    Target(
        "flooded",
        "p99 during a flood of rejected requests of another workspace ÷ without a flood",
        False,
        1.5,
        lambda results: results.isolation.ratio,
    ),
    Target("floor", "ours ÷ floor: requests per second", True, None, throughput_ratio("floor")),
]


def markdown(results: Results) -> str:
    lines = ["| | requests/s | p50 ms | p99 ms | processor ms | Python | database | Redis | statements |"]
    lines.append("|---" * 9 + "|")
    for name, contender in results.contenders.items():
        latencies = [1000 * latency for sample in contender.samples for latency in sample.latencies]
        usages = [sample.usage for sample in contender.samples]
        cells = [f"{median(sample.per_second for sample in contender.samples):.0f}"]
        cells += [f"{median(latencies):.2f}", f"{p99(latencies):.2f}"]
        for kind in ("total", "python", "database", "redis"):
            cells.append(f"{1000 * median(getattr(usage, kind) for usage in usages):.2f}")
        lines.append(" | ".join([f"| {name}", *cells, f"{results.statements[name]:.1f} |"]))

    lines += ["", "| ratio | target | measured | met |", "|---|---|---|---|"]
    lines += [target.row(target.ratio(results)) for target in TARGETS]

    isolation = results.isolation
    rate = isolation.rejected / (SLICES * SECONDS)
    lines += ["", "| other workspace | p50 ms | p99 ms |", "|---|---|---|"]
    for label, latencies in (
        ("no flood", isolation.quiet),
        (f"{rate:.0f} rejected requests per second, of {FLOOD} sent", isolation.flooded),
    ):
        lines.append(f"| {label} | {1000 * median(latencies):.2f} | {1000 * p99(latencies):.2f} |")

    lines += ["", "| keys that a worker has verified | resident MiB |", "|---|---|"]
    lines += [f"| {keys:,} | {mib:.1f} |" for keys, mib in results.memory.items()]

    lines += ["", "| where the time of a request goes | ms | |", "|---|---|---|"]
    total = sum(results.milliseconds.values())
    lines += [f"| {label} | {time:.3f} | {time / total:.0%} |" for label, time in results.milliseconds.items()]
    return "\n".join([*lines, f"| total | {total:.3f} | |", ""])


def as_json(results: Results) -> str:
    ratios = {target.name: round(target.ratio(results), 2) for target in TARGETS}
    return json.dumps(ratios | {"mibAfterKeys": {str(keys): round(mib, 1) for keys, mib in results.memory.items()}})
