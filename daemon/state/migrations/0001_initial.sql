-- The whole state of order-sync. Everything lives in one schema; the migrator sets search_path.
-- Ingest writes source_row, kafka_position, rejected_message and the ingest columns of order_sync;
-- delivery writes delivery_request, lease and the delivery columns of order_sync. Nobody writes the other's columns.

create table source (
    id    smallint generated always as identity primary key,
    name  text not null unique
);
comment on table source is 'The sources of the mapping, by name; a number is what the wide tables carry.';

create table lineage (
    id        integer generated always as identity primary key,
    identity  text not null unique
);
comment on table lineage is 'Where positions can be compared: connector/server/database/schema/table.';

create table origin (
    id         integer generated always as identity primary key,
    topic      text not null,
    topic_id   text not null,
    partition  integer not null,
    unique (topic, topic_id, partition)
);
comment on table origin is 'A partition of one incarnation of a topic: offsets of a recreated topic are no older than those before.';

create table kafka_position (
    origin       integer primary key references origin,
    next_offset  bigint not null,
    folded       bigint not null default 0,
    stale        bigint not null default 0,
    skipped      bigint not null default 0,
    rejected     bigint not null default 0,
    moved_at     timestamptz not null default clock_timestamp()
);

create table source_row (
    source      smallint not null references source,
    deleted     boolean not null default false,
    changed     boolean not null default true,   -- whether the last fold changed its values
    lineage     integer,
    origin      integer not null,
    "offset"    bigint not null,
    committed   bigint,               -- epoch milliseconds at the source
    first_seen  bigint,               -- the earliest commit time ever seen of this row
    key         text not null,
    root        text,                 -- key of the order this row belongs to; null: shared, or not known yet
    parent      text,                 -- key of the owning row where that is not the order itself
    moved_from  text,                 -- the order it belonged to before the last fold, where that is another
    position    bigint[],             -- at the source, comparable within a lineage; {}: cleared by a lone tombstone
    unknown     text[],               -- columns whose value is not known; {*}: none of them is
    refs        bigint[],             -- hashes of the rows that this one looks up and follows
    columns     jsonb not null,
    primary key (source, key)
);
create index source_row_root on source_row (root) where root is not null;
create index source_row_parent on source_row (source, parent) where parent is not null;
create index source_row_refs on source_row using gin (refs) where refs is not null;

create table structure_in_force (
    only_row boolean primary key default true check (only_row),
    version  text not null,
    since    timestamptz not null default clock_timestamp()
);
comment on table structure_in_force is 'The structure of the mapping under which source_row was folded.';

create table source_column (
    source      smallint not null references source,
    name        text not null,
    type        text not null,
    first_seen  timestamptz not null default clock_timestamp(),
    last_seen   timestamptz not null default clock_timestamp(),
    primary key (source, name, type)
);
comment on table source_column is 'Columns and types that messages have shown, for `sources` and `check`.';

create table rejected_message (
    id           bigint generated always as identity primary key,
    topic        text not null,
    topic_id     text not null,
    partition    integer not null,
    "offset"     bigint not null,
    message_ms   bigint,
    source       smallint references source,
    row_key      text,
    reason       text not null,
    detail       text not null,
    key          bytea,
    value        bytea,
    headers      jsonb,
    rejected_at  timestamptz not null default clock_timestamp(),
    resolved_at  timestamptz,
    unique (topic, topic_id, partition, "offset")
);
create index rejected_message_open on rejected_message (id) where resolved_at is null;

create table destination (
    id              smallint generated always as identity primary key,
    name            text not null unique,
    base_url        text not null,
    client_id       text not null,
    paused          boolean not null default false,
    halted_reason   text,
    halted_at       timestamptz,
    send_not_before timestamptz,      -- a 429 or an open circuit: nothing is sent before
    failures        integer not null default 0,   -- transport failures in a row: the circuit's memory
    largest_body    bigint,           -- what a 413 taught us
    mapping_version text,
    created_at      timestamptz not null default clock_timestamp(),
    unique (base_url, client_id)
);

create table order_sync (
    destination        smallint not null references destination,
    lane               smallint not null,                  -- ingest: 0 live, 1 backfill
    revision           bigint not null default 1,          -- ingest: changes that touched the order
    first_change       timestamptz,                        -- ingest, nulled by the claim
    last_change        timestamptz not null,               -- ingest
    first_commit       timestamptz,                        -- ingest, nulled by the claim: OMS commit of the first unsent change
    due_at             timestamptz not null,               -- ingest
    not_before         timestamptz not null default '-infinity',   -- delivery, as is all below
    settled_revision   bigint not null default 0,
    request_id         bigint,
    sent_revision      bigint,
    sent_first_change  timestamptz,
    sent_first_commit  timestamptz,
    accepted_at        timestamptz,
    quarantine_revision bigint,
    attempts           integer not null default 0,
    ever_attempted     boolean not null default false,
    send_alone         boolean not null default false,
    voided             boolean not null default false,
    order_key          text not null,
    vendor_order_id    text,
    digest             bytea,                              -- of the last accepted document, while nothing since is in doubt
    mapping_version    text,                               -- under which it was last judged
    quarantine_mapping text,
    quarantine_reason  text,
    quarantined_at     timestamptz,
    hold               text,                               -- why it is not sent although owed or ineligible
    hold_detail        text,
    hold_since         timestamptz,
    last_error         text,
    last_attempted     bytea,                              -- zlib
    last_accepted      bytea,                              -- zlib
    primary key (destination, order_key)
) with (fillfactor = 80);
create unique index order_sync_vendor on order_sync (destination, vendor_order_id) where vendor_order_id is not null;
-- Only owed orders that could be sent enter this index: clean, in-flight and quarantined ones cost nothing.
create index order_sync_due on order_sync (destination, lane, (greatest(due_at, not_before)))
    where revision > settled_revision and request_id is null and quarantine_revision is distinct from revision;
create index order_sync_owed on order_sync (destination, lane, first_change) where revision > settled_revision;
create index order_sync_held on order_sync (destination) where hold = 'held' and revision <= settled_revision;
create index order_sync_quarantined on order_sync (destination, order_key) where quarantine_revision is not null;
create index order_sync_in_flight on order_sync (request_id) where request_id is not null;

create table delivery_request (
    id           bigint generated always as identity primary key,
    destination  smallint not null references destination,
    epoch        bigint not null,
    lane         smallint not null,
    orders       integer not null,
    bytes        bigint not null,
    order_keys   text[] not null,
    revisions    bigint[] not null,
    reserved_at  timestamptz not null default clock_timestamp(),
    settled_at   timestamptz,
    counts_until timestamptz,          -- the ledger: these bytes count against the budget until then; null: still open
    outcome      text,
    status       integer,
    error        text
);
create index delivery_request_open on delivery_request (destination) where settled_at is null;
create index delivery_request_ledger on delivery_request (destination, counts_until);
create index delivery_request_orders on delivery_request using gin (order_keys);

create table lease (
    destination  smallint primary key references destination,
    epoch        bigint not null default 0,
    holder       uuid,
    expires_at   timestamptz not null default '-infinity'
);

create table operator_action (
    id        bigint generated always as identity primary key,
    at        timestamptz not null default clock_timestamp(),
    who       text not null,
    command   text not null,
    arguments jsonb not null,
    affected  bigint not null
);
