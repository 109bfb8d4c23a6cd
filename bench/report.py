"""The tables, and the ratios that are promised."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from bench.contenders import Contender
from bench.isolation import FLOOD, SECONDS, SLICES, Isolation, p99

Named = dict[str, Contender]

OURS, OPEN, REFUSED, INVENTED = (
    "ours",
    "ours without authentication and quota",
    "ours, refused (429)",
    "ours, invented key (401)",
)
THROTTLED = "djangorestframework-api-key, two throttles"


@dataclass(frozen=True)
class Found:
    """All that was measured. `statements`: a request's; `spent`: milliseconds, `memory`: MiB after so many keys."""

    named: Named
    statements: dict[str, float]
    spent: dict[str, float]
    memory: dict[int, float]
    isolation: Isolation


@dataclass(frozen=True)
class Promise:
    """`least` says whether `bound` is the least or the most that `ratio` may be; None: it is reported, not promised."""

    name: str
    sentence: str
    least: bool
    bound: float | None
    ratio: Callable[[Found], float]

    def cells(self, ratio: float) -> str:
        if self.bound is None:
            return f"| {self.sentence} | | {ratio:.2f} | |"
        holds = ratio >= self.bound if self.least else ratio <= self.bound
        bound = f"{'≥' if self.least else '≤'} {self.bound:g}"
        return f"| {self.sentence} | {bound} | {ratio:.2f} | {'yes' if holds else '**no**'} |"


def throughput(other: str, mine: str = OURS) -> Callable[[Found], float]:
    """The median over the rounds, in each of which both were measured within seconds."""

    def ratio(found: Found) -> float:
        pairs = zip(found.named[mine].samples, found.named[other].samples, strict=True)
        return median(own.per_second / its.per_second for own, its in pairs)

    return ratio


def processor(name: str) -> Callable[[Found], float]:
    def ratio(found: Found) -> float:
        pairs = zip(found.named[name].samples, found.named[OURS].samples, strict=True)
        return median(its.usage.total / admitted.usage.total for its, admitted in pairs)

    return ratio


def added(found: Found) -> float:
    def by(whole: str, without: str) -> float:
        pairs = zip(found.named[whole].samples, found.named[without].samples, strict=True)
        return median((one.usage - other.usage).total for one, other in pairs)

    return by(OURS, OPEN) / by(THROTTLED, "stock, .values()")


PROMISES = [
    Promise("stockValues", "ours ÷ stock, `.values()`: requests a second", True, 1.9, throughput("stock, .values()")),
    Promise("stockSerializer", "ours ÷ stock, ModelSerializer", True, 1.8, throughput("stock, ModelSerializer")),
    Promise("apiKey", "ours ÷ djangorestframework-api-key", True, 2.4, throughput("djangorestframework-api-key")),
    Promise("apiKeyThrottled", f"ours ÷ {THROTTLED}", True, 3.4, throughput(THROTTLED)),
    Promise("knoxThrottled", "ours ÷ knox, two throttles", True, 3.5, throughput("knox, two throttles")),
    Promise("added", "what authentication and quota add ÷ what they add in " + THROTTLED, False, 0.25, added),
    Promise("refused", "refused (429) ÷ admitted: processor time", False, 0.65, processor(REFUSED)),
    Promise("invented", "401 for an invented key ÷ admitted: processor time", False, 0.55, processor(INVENTED)),
    Promise(
        "manyKeys",
        "1,000,000 keys in 100,000 workspaces ÷ 20 keys in one: requests a second",
        True,
        0.95,
        throughput(OURS, "ours, 1,000,000 keys"),
    ),
    Promise(
        "flooded",
        "p99 while another workspace's requests are refused in a flood ÷ while all is quiet",
        False,
        1.5,
        lambda found: found.isolation.ratio,
    ),
    Promise("floor", "ours ÷ floor: requests a second", True, None, throughput("floor")),
]


def markdown(found: Found) -> str:
    lines = ["| | requests/s | p50 ms | p99 ms | processor ms | Python | database | Redis | statements |"]
    lines.append("|---" * 9 + "|")
    for name, contender in found.named.items():
        latencies = [1000 * each for sample in contender.samples for each in sample.latencies]
        usages = [sample.usage for sample in contender.samples]
        cells = [f"{median(sample.per_second for sample in contender.samples):.0f}"]
        cells += [f"{median(latencies):.2f}", f"{p99(latencies):.2f}"]
        for kind in ("total", "python", "database", "redis"):
            cells.append(f"{1000 * median(getattr(usage, kind) for usage in usages):.2f}")
        lines.append(" | ".join([f"| {name}", *cells, f"{found.statements[name]:.1f} |"]))

    lines += ["", "| promised | | measured | |", "|---|---|---|---|"]
    lines += [promise.cells(promise.ratio(found)) for promise in PROMISES]

    isolation = found.isolation
    rate = isolation.refused / (SLICES * SECONDS)
    lines += ["", "| another workspace | p50 ms | p99 ms |", "|---|---|---|"]
    for label, latencies in (
        ("quiet", isolation.quiet),
        (f"refused {rate:.0f} times a second, of {FLOOD} sent", isolation.flooded),
    ):
        lines.append(f"| {label} | {1000 * median(latencies):.2f} | {1000 * p99(latencies):.2f} |")

    lines += ["", "| different keys a worker has met | resident MiB |", "|---|---|"]
    lines += [f"| {keys:,} | {mib:.1f} |" for keys, mib in found.memory.items()]

    lines += ["", "| where the time of a request goes | ms | |", "|---|---|---|"]
    whole = sum(found.spent.values())
    lines += [f"| {label} | {each:.3f} | {each / whole:.0%} |" for label, each in found.spent.items()]
    return "\n".join([*lines, f"| together | {whole:.3f} | |", ""])


def as_json(found: Found) -> str:
    ratios = {promise.name: round(promise.ratio(found), 2) for promise in PROMISES}
    return json.dumps(ratios | {"mibAfterKeys": {str(keys): round(mib, 1) for keys, mib in found.memory.items()}})
