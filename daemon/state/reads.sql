-- name: server
-- Who we are and what we may, for `check`.
select current_user::text as role,
       current_database()::text as database,
       current_setting('server_version_num')::integer as server_version,
       has_database_privilege(current_database(), 'create') as may_create,
       coalesce((select has_schema_privilege(oid, 'usage') from pg_namespace where nspname = %(schema)s), false) as may_use,
       exists (select from pg_namespace where nspname = %(schema)s) as schema_exists,
       pg_is_in_recovery() as read_only

-- name: table_privileges
-- Tables of our schema that this role may not read and write; only `migrate` writes schema_migration.
select c.relname::text as name
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relkind in ('r', 'p') and not c.relispartition
  and not (has_table_privilege(c.oid, 'select') and (c.relname = 'schema_migration' or has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update')))
order by 1

-- name: destinations
-- Each destination with its lease and what its requests count against the budget now.
select d.id, d.name, d.base_url, d.client_id, d.paused, d.paused_at, d.halted_reason, d.halted_at, d.failures,
       d.created_at as registered_at, d.backfill_since is not null as backfill_asked,
       case when isfinite(d.backfill_since) then d.backfill_since end as backfill_since,
       case when isfinite(d.backfill_until) then d.backfill_until end as backfill_until,
       case when d.send_not_before > clock_timestamp() then d.send_not_before end as send_not_before,
       case when l.expires_at > clock_timestamp() then l.holder::text end as leader,
       case when l.expires_at > clock_timestamp() then l.expires_at end as leader_until,
       (select coalesce(sum(r.bytes), 0)::bigint from delivery_request r
        where r.destination = d.id and (r.counts_until > statement_timestamp() or r.counts_until is null)) as budget_used_bytes
from destination d
left join lease l on l.destination = d.id
order by d.name

-- name: owed_orders
-- Orders that are owed a delivery, by what becomes of them next. Clean orders are in neither index and are not read.
select d.name as destination,
       case when s.lane = 0 then 'live' else 'backfill' end as lane,
       case
           when s.request_id is not null then 'in_flight'
           when s.quarantine_revision = s.revision then 'quarantined'
           when s.hold = 'waiting' then 'waiting'
           else 'owed'
       end as state,
       count(*) as orders,
       count(*) filter (where s.request_id is null and s.quarantine_revision is distinct from s.revision
                        and greatest(s.due_at, s.not_before) <= clock_timestamp()) as due,
       extract(epoch from clock_timestamp() - min(coalesce(s.first_change, s.sent_first_change)))::float8 as oldest_secs
from order_sync s
join destination d on d.id = s.destination
where s.owed and not s.parked
group by 1, 2, 3
union all
-- The parked ones, oldest by how long they have been. asked: their turn in the backfill comes.
select d.name, case when s.lane = 0 then 'live' else 'backfill' end,
       case when s.hold = 'backfill' and s.placed_at >= d.backfill_since and s.placed_at < d.backfill_until then 'asked'
            else s.hold end,
       count(*), 0, extract(epoch from clock_timestamp() - min(s.hold_since))::float8
from order_sync s
join destination d on d.id = s.destination
where s.parked
group by 1, 2, 3
order by 1, 2 desc, 3

-- name: parked_orders
-- Orders that could be sent and must not yet, by reason, with the bytes of their documents.
select d.name as destination, s.hold as reason, count(*) as orders, coalesce(sum(s.body_bytes), 0)::bigint as bytes,
       min(s.placed_at) as placed_from, max(s.placed_at) as placed_to,
       extract(epoch from clock_timestamp() - min(s.hold_since))::float8 as oldest_secs
from order_sync s
join destination d on d.id = s.destination
where s.parked
group by 1, 2
order by 1, 2

-- name: backfill_ahead
-- Of the backfill's orders placed then: how many are surveyed and not sent yet, with their bytes; how many of all are
-- not surveyed yet, so that it is not known when they were placed.
select d.name as destination, p.orders + o.orders as orders, p.bytes + o.bytes as bytes, o.unsurveyed
from destination d,
lateral (
    select count(*) as orders, coalesce(sum(s.body_bytes), 0)::bigint as bytes
    from order_sync s
    where s.destination = d.id and s.parked and s.hold in ('backfill', 'shadow') and s.lane = 1
      and s.placed_at >= %(since)s::timestamptz and s.placed_at < %(until)s::timestamptz
) p,
lateral (
    select count(*) filter (where s.placed_at >= %(since)s::timestamptz and s.placed_at < %(until)s::timestamptz) as orders,
           coalesce(sum(s.body_bytes) filter (
               where s.placed_at >= %(since)s::timestamptz and s.placed_at < %(until)s::timestamptz), 0)::bigint as bytes,
           count(*) filter (where s.placed_at is null) as unsurveyed
    from order_sync s
    where s.destination = d.id and s.owed and not s.parked
      and s.lane = 1 and s.accepted_at is null and s.quarantine_revision is distinct from s.revision
) o
where d.name = any(%(names)s)
order by 1

-- name: held_orders
-- Orders that the mapping does not take for orders (yet, or any more): nothing is owed, but a change may make it so.
select d.name as destination, count(*) as orders
from order_sync s
join destination d on d.id = s.destination
where s.hold = 'held' and not s.owed
group by 1
order by 1

-- name: recent_requests
-- Requests of the last hour by verdict. What counts against no budget any more since over an hour is older than that.
select d.name as destination,
       case when r.settled_at is null then 'open' else coalesce(r.outcome, 'unknown') end as verdict,
       count(*) as requests, sum(r.orders)::bigint as orders, sum(r.bytes)::bigint as bytes, max(r.reserved_at) as last_at
from delivery_request r
join destination d on d.id = r.destination
where (r.counts_until > statement_timestamp() - interval '1 hour' or r.counts_until is null)
  and r.reserved_at > statement_timestamp() - interval '1 hour'
group by 1, 2
order by 1, 2

-- name: era
-- The present era, once the state went back; replayed: whether all is read again that may have been read before.
select number as era, began_at, cause, replayed_at is not null as replayed,
       (select count(*) from order_sync where hold = 'lost' and not owed) as lost_orders
from era where number > 0 order by number desc limit 1

-- name: lost_orders
select d.name as destination, s.order_key, s.vendor_order_id, s.hold_since, s.hold_detail
from order_sync s
join destination d on d.id = s.destination
where s.hold = 'lost' and not s.owed
order by 1, 2
limit %(limit)s

-- name: halted_partitions
select o.topic, o.partition, p.next_offset, p.halted as why, p.halted_at
from kafka_position p join origin o on o.id = p.origin
where p.halted is not null order by 1, 2

-- name: gate
-- Partitions that hold delivery until they have reached their target; until: null where nothing but that ends it.
select o.topic, o.partition, p.next_offset, p.target, p.target_since as since,
       nullif(p.target_until, 'infinity') as until
from kafka_position p join origin o on o.id = p.origin
where p.target_until > clock_timestamp() and p.halted is null order by 1, 2

-- name: open_rejects
select topic, reason, count(*) as rejects, min(rejected_at) as first_at, max(rejected_at) as last_at
from rejected_message
where resolved_at is null
group by 1, 2
order by 1, 2

-- name: positions
-- The newest incarnation of each topic's partitions.
select distinct on (o.topic, o.partition)
       o.topic, o.partition, o.topic_id, p.next_offset, p.folded, p.stale, p.skipped, p.rejected, p.moved_at
from origin o
join kafka_position p on p.origin = o.id
order by o.topic, o.partition, o.id desc

-- name: columns
-- Columns and types that messages have shown.
select s.name as source, c.name, c.type, c.first_seen, c.last_seen
from source_column c
join source s on s.id = c.source
order by 1, 2, c.last_seen desc, 3

-- name: lineages
-- connector/server/database/schema/table of every table that changes were read of; a few each.
select identity from lineage order by identity

-- name: order_records
-- One order at every destination, by our key or the vendor's id.
select d.name as destination, d.paused, d.halted_reason, d.send_not_before as destination_not_before,
       s.order_key, s.vendor_order_id, case when s.lane = 0 then 'live' else 'backfill' end as lane,
       s.revision, s.settled_revision, s.first_change, s.last_change, s.first_commit, s.due_at,
       nullif(s.not_before, '-infinity') as not_before, s.request_id, s.sent_revision, s.accepted_at, s.attempts,
       s.ever_attempted, s.send_alone, s.voided, encode(s.digest, 'hex') as digest, s.mapping_version,
       s.quarantine_revision, s.quarantine_mapping, s.quarantine_reason, s.quarantined_at,
       s.hold, s.hold_detail, s.hold_since, s.parked_revision, s.placed_at, s.body_bytes, s.zeroed, s.last_error,
       s.last_accepted,
       clock_timestamp() as now
from order_sync s
join destination d on d.id = s.destination
where s.destination in (select id from destination)
  and (s.order_key = %(order)s or s.vendor_order_id = %(order)s)
order by d.name, s.order_key

-- name: rows_of_order
select s.name as source, r.key, r.root, r.columns::text as columns, r.unknown, r.deleted, r.first_seen, r.parent
from source_row r
join source s on s.id = r.source
where r.root = %(root)s
order by r.source, r.key

-- name: rows_by_key
select s.name as source, r.key, r.root, r.columns::text as columns, r.unknown, r.deleted, r.first_seen, r.parent
from unnest(%(sources)s::text[], %(keys)s::text[]) as wanted (source, key)
join source s on s.name = wanted.source
join source_row r on r.source = s.id and r.key = wanted.key
order by r.source, r.key

-- name: rows_below
select s.name as source, r.key, r.root, r.columns::text as columns, r.unknown, r.deleted, r.first_seen, r.parent
from unnest(%(sources)s::text[], %(keys)s::text[]) as wanted (source, parent)
join source s on s.name = wanted.source
join source_row r on r.source = s.id and r.parent = wanted.parent
order by r.source, r.key

-- name: source_number
select id from source where name = %(source)s

-- name: mirror_page
-- The mirror of one source in key order, a page at a time.
select key, deleted, unknown, columns::text as columns
from source_row
where source = %(source)s and (%(after)s::text is null or key > %(after)s::text)
order by key
limit %(limit)s

-- name: mirror_row
select key, deleted, unknown, columns::text as columns
from source_row
where source = %(source)s and key = %(key)s

-- name: requests_of_order
select r.id, d.name as destination, case when r.lane = 0 then 'live' else 'backfill' end as lane, r.orders, r.bytes,
       r.revisions[array_position(r.order_keys, %(order_key)s)] as revision,
       r.reserved_at, r.settled_at, r.outcome, r.status, r.error
from delivery_request r
join destination d on d.id = r.destination
where r.order_keys @> array[%(order_key)s]
order by r.id desc
limit %(limit)s

-- name: rejects
-- Coordinates and reasons; the raw bytes are read one message at a time.
select m.id, m.topic, m.partition, m."offset", s.name as source, m.row_key, m.reason, m.detail, m.rejected_at, m.resolved_at,
       length(m.key) as key_bytes, length(m.value) as value_bytes, m.digest is not null as digest_only
from rejected_message m
left join source s on s.id = m.source
where (m.resolved_at is null or %(resolved)s) and (%(topic)s::text is null or m.topic = %(topic)s)
order by m.id
limit %(limit)s

-- name: reject
select m.id, m.topic, m.topic_id, m.partition, m."offset", m.message_ms, s.name as source, m.row_key, m.reason, m.detail,
       m.rejected_at, m.resolved_at, m.key, m.value, m.headers::text as headers,
       encode(m.digest, 'hex') as value_sha256
from rejected_message m
left join source s on s.id = m.source
where m.id = %(id)s

-- name: quarantined_orders
select d.name as destination, s.order_key, s.vendor_order_id, s.quarantine_reason as reason, s.last_error, s.attempts,
       s.quarantined_at
from order_sync s
join destination d on d.id = s.destination
where s.quarantine_revision = s.revision
order by s.quarantined_at, d.name, s.order_key
limit %(limit)s

-- name: order_count
select count(*) as orders from order_sync where destination = %(destination)s

-- name: order_page
-- The records of one destination in key order, as they would be judged, a page at a time.
select order_key, lane, revision, extract(epoch from clock_timestamp())::float8 as read_at, ever_attempted, voided,
       send_alone, vendor_order_id, last_accepted,
       digest is not null and digest_era = (select max(number) from era) as certain,
       case when hold = 'waiting' then extract(epoch from clock_timestamp() - hold_since)::float8 else 0 end as waited_secs
from order_sync
where destination = %(destination)s and order_key > %(after)s
order by order_key
limit %(limit)s

-- name: newest_orders
-- The keys of the orders that were placed last, as far as the mirror tells when it first saw them.
select r.key from source_row r join source s on s.id = r.source
where s.name = %(root)s and not r.deleted
order by r.first_seen desc nulls last, r.key desc
limit %(limit)s

-- name: guarded_orders
-- Orders that the void guard holds, those held longest first.
select d.name as destination, s.order_key, s.vendor_order_id, s.placed_at, s.hold_since as guarded_since
from order_sync s
join destination d on d.id = s.destination
where s.parked and s.hold = 'guarded' and d.name = any(%(destinations)s)
order by s.hold_since, d.name, s.order_key
limit %(limit)s

-- name: actions
-- What operators did, the last first.
select id, at, who, command, arguments, affected from operator_action order by id desc limit %(limit)s
