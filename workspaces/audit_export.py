"""Exports of audit events as JSON Lines: one JSON object per line. docs/operations.md describes its fields."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping

from django.db import transaction
from rest_framework import serializers

from workspaces.api_fields import IdField
from workspaces.models import Action, Actor, AuditEvent, Via
from workspaces.models.audit import AuditEventQuerySet
from workspaces.serializers import PersonSerializer

logger = logging.getLogger("onehorizon.audit")

BATCH = 1000  # events per query
INCOMPLETE = "The export is incomplete, because an event could not be read. Export the events again."


class AuditEventSerializer(serializers.Serializer[AuditEvent]):
    auditEventId = IdField("evt", source="id")
    createdAt = serializers.DateTimeField(source="created_at")
    action = serializers.CharField()
    workspaceId = IdField("w", source="workspace_id", allow_null=True)
    subject = serializers.CharField(help_text="Blank if the event is about the workspace itself.")
    actor = PersonSerializer(allow_null=True)
    via = serializers.ChoiceField(choices=Via.choices)
    clientIp = serializers.IPAddressField(source="client_ip", allow_null=True)
    details = serializers.JSONField()


def as_lines(events: Iterable[AuditEvent]) -> Iterator[str]:
    """Yield each event as one line of JSON. Only ASCII, which is valid in any encoding of a terminal."""
    serializer = AuditEventSerializer()
    for event in events:
        yield json.dumps(serializer.to_representation(event)) + "\n"


@transaction.atomic
def export_events(events: AuditEventQuerySet, filters: Mapping[str, str], *, by: Actor) -> Iterator[str]:
    """Record that these events are exported, and return them as lines of JSON, oldest first.

    `filters` describes the selection in the event of the export, which is not exported itself. Raise `NotAllowed`.
    """
    by.require_operator()
    export = AuditEvent.objects.record(Action.AUDIT_EVENTS_EXPORTED, by, filters=filters)
    return _lines(events.filter(pk__lt=export.pk).select_related("actor").order_by("pk"))


def _lines(events: AuditEventQuerySet) -> Iterator[str]:
    """Yield a line for each event. Read them in batches: the memory is constant, and no query or transaction long."""
    batch = list(events[:BATCH])
    while batch:
        yield from as_lines(batch)
        batch = list(events.filter(pk__gt=batch[-1].pk)[:BATCH])


def download(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines of an export. If one can't be read, log the error and yield another as the last line.

    After an exception the server would end the response as if it were complete.
    """
    try:
        yield from lines
    except Exception:
        logger.exception("an export of audit events is incomplete")
        yield json.dumps({"error": INCOMPLETE}) + "\n"
