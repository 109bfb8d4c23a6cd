-- Turns the table of audit events into one that is partitioned by month. The existing table becomes the first partition,
-- for all events until the end of this month. No row is copied. After a failure, such as a lock timeout, run all of it
-- again. See "Audit events" in docs/operations.md.

-- The smallest id of an event that is created at `moment`.
CREATE OR REPLACE FUNCTION audit_event_bound(moment timestamptz) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'evt_' || string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz', (milliseconds >> bits & 31)::int + 1, 1), ''
                                ORDER BY bits DESC)
    FROM (SELECT floor(extract(epoch FROM moment) * 1000)::bigint AS milliseconds) AS time,
         generate_series(0, 45, 5) AS bits
$$;

-- Creates the partition for the month (UTC) that starts at `month`.
CREATE OR REPLACE PROCEDURE create_audit_event_partition(month timestamp) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE %I PARTITION OF workspaces_auditevent FOR VALUES FROM (%L) TO (%L)',
        to_char(month, '"workspaces_auditevent_"YYYY"_"MM'),
        audit_event_bound(month AT TIME ZONE 'UTC'), audit_event_bound((month + interval '1 month') AT TIME ZONE 'UTC')
    );
END
$$;

-- Reads the existing rows now, without a lock that stops requests, so that the last statement need not read them.
DO $$
BEGIN
    PERFORM set_config('lock_timeout', '1s', true);
    ALTER TABLE workspaces_auditevent DROP CONSTRAINT IF EXISTS audit_event_until;
    EXECUTE format(
        'ALTER TABLE workspaces_auditevent ADD CONSTRAINT audit_event_until CHECK (id < %L) NOT VALID',
        audit_event_bound((date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')
    );
END
$$;
ALTER TABLE workspaces_auditevent VALIDATE CONSTRAINT audit_event_until;

DO $$
DECLARE
    next_month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month';
    indexes text[];
    foreign_keys text[];
    name text;
    statement text;
BEGIN
    PERFORM set_config('lock_timeout', '1s', true);
    LOCK TABLE workspaces_auditevent;
    SELECT array_agg(pg_get_indexdef(indexrelid)) INTO indexes
        FROM pg_index WHERE indrelid = 'workspaces_auditevent'::regclass AND NOT indisprimary;
    SELECT array_agg(format('ALTER TABLE workspaces_auditevent ADD CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)))
        INTO foreign_keys FROM pg_constraint WHERE conrelid = 'workspaces_auditevent'::regclass AND contype = 'f';
    FOR name IN SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'workspaces_auditevent'::regclass LOOP
        EXECUTE format('ALTER INDEX %s RENAME TO %I', name, name || '_first');
    END LOOP;
    ALTER TABLE workspaces_auditevent RENAME TO workspaces_auditevent_first;
    CREATE TABLE workspaces_auditevent (LIKE workspaces_auditevent_first) PARTITION BY RANGE (id);
    EXECUTE format(
        'ALTER TABLE workspaces_auditevent ATTACH PARTITION workspaces_auditevent_first FOR VALUES FROM (MINVALUE) TO (%L)',
        audit_event_bound(next_month AT TIME ZONE 'UTC')
    );
    ALTER TABLE workspaces_auditevent_first DROP CONSTRAINT audit_event_until;
    -- These use the indexes and the foreign keys of the first partition.
    ALTER TABLE workspaces_auditevent ADD CONSTRAINT workspaces_auditevent_pkey PRIMARY KEY (id);
    FOREACH statement IN ARRAY indexes || foreign_keys LOOP
        EXECUTE statement;
    END LOOP;
    CALL create_audit_event_partition(next_month);
    CREATE TABLE workspaces_auditevent_other PARTITION OF workspaces_auditevent DEFAULT;
END
$$;
