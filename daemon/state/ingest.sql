-- name: register_sources
-- Gives every new source of the mapping its number; no number is used up by those that have one.
insert into source (name)
select name from unnest(%(names)s::text[]) as new (name) where not exists (select from source s where s.name = new.name)
on conflict (name) do nothing

-- name: read_sources
select id, name from source

-- name: register_lineages
insert into lineage (identity) select unnest(%(identities)s::text[]) on conflict (identity) do nothing

-- name: read_lineages
select id, identity from lineage where identity = any(%(identities)s::text[])

-- name: read_mapping_in_force
select version, erasing from mapping_in_force

-- name: hold_mapping_in_force
select version, erasing from mapping_in_force for share

-- name: adopt_topic_ids
-- A broker that told no topic ids before tells them now: the incarnation is the same.
with adopted as (
    update origin o set topic_id = a.topic_id
    from (select distinct topic, topic_id from unnest(%(topics)s::text[], %(topic_ids)s::text[]) as t (topic, topic_id)) a
    where o.topic = a.topic and o.topic_id = '' and a.topic_id <> ''
      and not exists (select from origin x where x.topic = a.topic and x.topic_id <> '')
    returning o.topic, o.partition, o.topic_id
)
update rejected_message r set topic_id = a.topic_id
from adopted a where r.topic = a.topic and r.partition = a.partition and r.topic_id = ''

-- name: newest_topic_ids
-- The incarnation to go by where the broker tells none.
select distinct on (topic) topic, topic_id from origin where topic = any(%(topics)s::text[]) order by topic, id desc

-- name: register_origins
-- Partitions that this state meets for the first time start at their beginning (-1): 0 would mean that offset 0 itself
-- is still to come, and is a gap where Kafka no longer has it. A topic of which something was read by other ids only was
-- recreated: a person says where to go on.
with new as (
    insert into origin (topic, topic_id, partition)
    select a.topic, a.topic_id, a.partition
    from unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[]) as a (topic, topic_id, partition)
    where (not exists (select from origin o join kafka_position p on p.origin = o.id
                       where o.topic = a.topic and p.next_offset > 0)
           or exists (select from origin o where o.topic = a.topic and o.topic_id = a.topic_id))
      -- Asked often: no number is used up by those that are known.
      and not exists (
          select from origin o where (o.topic, o.topic_id, o.partition) = (a.topic, a.topic_id, a.partition))
    on conflict (topic, topic_id, partition) do nothing
    returning id, topic, topic_id
), older as (
    -- What was to be read of the incarnation before holds delivery no longer.
    update kafka_position p set target = null, target_since = null, target_until = null
    from origin o, (select distinct topic, topic_id from new) n
    where o.id = p.origin and o.topic = n.topic and o.topic_id <> n.topic_id and p.target is not null
)
insert into kafka_position (origin, next_offset) select id, -1 from new

-- name: read_positions
select o.topic, o.topic_id, o.partition, o.id, p.next_offset, (extract(epoch from p.read_at) * 1000)::bigint
from unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[]) as a (topic, topic_id, partition)
join origin o using (topic, topic_id, partition)
join kafka_position p on p.origin = o.id

-- name: note_read
-- A target beyond an end that is reached (the log lost its end) is reached with it.
update kafka_position p
set read_at = clock_timestamp(),
    target = case when p.next_offset < s.until then p.target end,
    target_since = case when p.next_offset < s.until then p.target_since end,
    target_until = case when p.next_offset < s.until then p.target_until end
from unnest(%(origins)s::int[], %(ends)s::bigint[]) as s (origin, until)
where p.origin = s.origin
  and p.origin in (select origin from kafka_position where origin = any(%(origins)s::int[]) order by origin for update)

-- name: halt
update kafka_position
set halted = %(why)s::text,
    halted_at = case when %(why)s::text is null then null else coalesce(halted_at, clock_timestamp()) end
where origin in (select origin from kafka_position where origin = any(%(origins)s::int[]) order by origin for update)
  and halted is distinct from %(why)s::text

-- name: close_gate
-- A target is captured once; nobody moves it while it stands.
with standing as (
    select p.origin, a.target
    from unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[], %(targets)s::bigint[])
        as a (topic, topic_id, partition, target)
    join origin o using (topic, topic_id, partition)
    join kafka_position p on p.origin = o.id
    where p.next_offset < a.target and p.target is null and p.halted is null
    order by p.origin for update of p
)
update kafka_position p
set target = s.target, target_since = clock_timestamp(), target_until = clock_timestamp() + %(max_hold)s::interval
from standing s where p.origin = s.origin

-- name: gate
select count(*) from kafka_position where target_until > clock_timestamp() and halted is null

-- name: upsert_rows
-- One round of the fold. A stored row that already contains the change stays as it is. The first row says how many
-- changes were applied and, where that is not all, the places in the round of those that were stale. With it and behind
-- it: applied changes of which more must be known than that they changed a row which says itself what order it belongs to.
-- unknown of a staged row: columns to carry over from the stored row; {*}: nothing is known any more.
with applied as (
insert into source_row as r
    (source, generation, key, root, parent, refs, deleted, lineage, origin, "offset", position, committed, first_seen,
     unknown, heir, awaits, columns)
select s.source,
       -- What is folded late, as a retried reject, stands where it stood: it makes no row newer than it is.
       case when %(late)s then coalesce(
           (select x.generation from source_row x where x.source = s.source and x.key = s.key), g.generation)
       else g.generation end,
       key, root, parent, refs::bigint[], coalesce(deleted, false), (%(lineages)s::int[])[lineage], origin,
       -- A reject leaves its own offset open, so that it can be folded after all once it can be decoded.
       case when unknown::text[] = '{*}' then "offset" - 1 else "offset" end, position::bigint[], committed,
       first_seen, unknown::text[], case when deleted then kin end, case when deleted is null and kin is not null then array[kin, key] end,
       columns::jsonb
from unnest(
    %(source)s::smallint[], %(key)s::text[], %(root)s::text[], %(parent)s::text[], string_to_array(%(refs)s, e'\x1e', ''),
    %(deleted)s::boolean[], %(lineage)s::int[], %(origin)s::int[], %(offset)s::bigint[],
    string_to_array(%(position)s, e'\x1e', ''), %(committed)s::bigint[], %(first_seen)s::bigint[], %(unknown)s::text[],
    %(kin)s::text[], string_to_array(%(columns)s, e'\x1e')
) as s (source, key, root, parent, refs, deleted, lineage, origin, "offset", position, committed, first_seen, unknown, kin,
        columns)
join source g on g.id = s.source
on conflict (source, key) do update set
    deleted    = case when excluded.unknown = '{*}' then r.deleted else excluded.deleted end,
    -- A change without a position leaves the stored position and time as they were, but for those of an older
    -- generation: what is read again must not be judged by them.
    lineage    = case when excluded.position is null and excluded.generation <= r.generation then r.lineage else excluded.lineage end,
    position   = case when excluded.generation <= r.generation then coalesce(excluded.position, r.position) else excluded.position end,
    committed  = case when excluded.position is null and excluded.generation <= r.generation then r.committed else excluded.committed end,
    generation = greatest(r.generation, excluded.generation),
    origin     = excluded.origin,
    "offset"   = excluded."offset",
    first_seen = least(r.first_seen, excluded.first_seen),
    -- A delete and a reject do not say where the row belongs; a full image does, unless the way leads over another row.
    root       = case
                     when excluded.deleted or excluded.unknown = '{*}' then r.root
                     when excluded.root is null and r.parent = excluded.parent then r.root
                     else excluded.root
                 end,
    parent     = case when excluded.deleted or excluded.unknown = '{*}' then r.parent else excluded.parent end,
    moved_from = case
                     when excluded.deleted or excluded.unknown = '{*}' then null
                     when excluded.root is null and r.parent = excluded.parent then null
                     when r.root is distinct from excluded.root then r.root
                 end,
    refs       = case when excluded.unknown = '{*}' then r.refs else excluded.refs end,
    -- A row that was deleted for an heir has kept its values: a replay from the middle of its life goes on from them.
    unknown    = case
                     when excluded.unknown is null or excluded.unknown = '{*}' or excluded.unknown = '{}' then excluded.unknown
                     when r.unknown = '{*}' or (r.deleted and (r.heir is null or excluded.awaits is not null))
                          or (excluded.generation > r.generation and not (select x.carries from source x where x.id = r.source))
                         then excluded.unknown
                     else (select nullif(array_agg(name), '{}') from unnest(excluded.unknown) name where not r.columns ? name)
                 end,
    heir       = case when excluded.unknown = '{*}' then r.heir else excluded.heir end,
    awaits     = case
                     when excluded.unknown is null or excluded.unknown = '{*}' then null
                     when excluded.awaits is not null then excluded.awaits
                     when excluded.unknown = '{}' or not r.deleted or r.heir is not null then r.awaits
                 end,
    columns    = case
                     when excluded.unknown is null then excluded.columns
                     when excluded.unknown = '{}' and r.unknown = '{*}' then '{}'
                     when excluded.unknown = '{*}' or excluded.unknown = '{}' then r.columns
                     when r.unknown = '{*}' or (r.deleted and (r.heir is null or excluded.awaits is not null))
                          or (excluded.generation > r.generation and not (select x.carries from source x where x.id = r.source))
                         then excluded.columns
                     else excluded.columns || coalesce(
                         (select jsonb_object_agg(name, value) from jsonb_each(r.columns) as c (name, value)
                          where name = any(excluded.unknown)), '{}')
                 end,
    changed    = r.deleted <> excluded.deleted
                 or r.unknown is distinct from excluded.unknown
                 or (not excluded.deleted and (excluded.unknown is not null or r.columns <> excluded.columns
                                               or r.parent is distinct from excluded.parent
                                               or (excluded.root is not null and r.root is distinct from excluded.root)))
-- A change of a newer generation replaces a row of an older one whatever else is known of the two.
where excluded.generation > r.generation
   or not (excluded.origin = r.origin
           and (excluded."offset" < r."offset" or (excluded."offset" = r."offset" and excluded.unknown is distinct from '{*}')))
  and not coalesce(
      excluded.lineage = r.lineage and excluded.position <= r.position and excluded.committed <= r.committed
      -- Of a delete and an insert by one event, as of a row that goes to another partition, the insert is the later one.
      and not (excluded.position = r.position and excluded.committed = r.committed
               and (excluded.origin = r.origin or (r.deleted and not excluded.deleted and excluded.unknown is distinct from '{*}'))),
      false)
  and not (r.deleted and excluded.position is not distinct from '{}')
returning r.source, r.key, r.root, r.moved_from, r.changed,
          not r.changed or r.moved_from is not null or r.parent is not null or r.deleted or r.unknown = '{*}'
              or r.source = any(%(heard)b::smallint[]) as odd
),
total as (select count(*) as applied from applied)
select total.applied,
       case when total.applied < cardinality(%(source)s::smallint[]) then (
           select array_agg(s.place)
           from unnest(%(source)s::smallint[], %(key)s::text[]) with ordinality as s (source, key, place)
           left join applied a on a.source = s.source and a.key = s.key where a.key is null) end,
       a.source, a.key, a.root, a.moved_from, a.changed
from total left join applied a on a.odd

-- name: lock_mirror
-- Everything after this reads other rows: two folds never do so at once, and each sees what the other committed.
select pg_advisory_xact_lock(hashtext('order-sync mirror'), hashtext(current_schema()))

-- name: take_over_values
-- The row of a new key takes the values that its event left out from the row that was deleted for it. A row of the old
-- key that still lives may be behind, or be another one already: then the values wait for the delete.
update source_row n
set columns = n.columns || coalesce(
        (select jsonb_object_agg(name, value) from jsonb_each(o.columns) as c (name, value) where name = any(n.unknown)), '{}'),
    unknown = (select nullif(array_agg(name), '{}') from unnest(n.unknown) name where not o.columns ? name),
    awaits = o.awaits
from unnest(%(source)b::smallint[], %(key)b::text[], %(old_key)b::text[]) as s (source, key, old_key)
join source_row o on o.source = s.source and o.key = s.old_key
where n.source = s.source and n.key = s.key and n.awaits = array[s.old_key, s.key] and n.unknown <> '{*}'
  and o.deleted and o.heir = n.key

-- name: key_changes_awaited
-- Of the rows deleted for an heir, those whose values are waited for.
select distinct s.source, s.key
from unnest(%(source)b::smallint[], %(key)b::text[], %(new_key)b::text[]) as s (source, key, new_key)
join source_row n on n.source = s.source and n.awaits = array[s.key, s.new_key]

-- name: hand_over_values
-- Whoever waits for the values of a row that was deleted for an heir gets them, and waits on for what that row waits
-- for itself: the heir, or, where keys changed again and again, those that came after it.
update source_row n
set columns = case
                  when n.deleted then o.columns || n.columns
                  else n.columns || coalesce(
                      (select jsonb_object_agg(name, value) from jsonb_each(o.columns) as c (name, value)
                       where name = any(n.unknown)), '{}')
              end,
    unknown = case
                  when n.deleted then n.unknown
                  else (select nullif(array_agg(name), '{}') from unnest(n.unknown) name where not o.columns ? name)
              end,
    awaits = o.awaits
from source_row o
where o.source = %(source)s and o.key = %(key)s
  and n.source = o.source and n.awaits = array[o.key, %(new_key)s::text] and n.unknown <> '{*}'
returning n.source, n.key, n.root, n.deleted

-- name: resolve_roots
-- Rows that hang below another owned row take its root, once that is known.
update source_row c
set root = p.root, moved_from = c.root
from unnest(%(source)b::smallint[], %(key)b::text[], %(owner)b::smallint[], %(prefix)b::text[]) as s (source, key, owner, prefix)
join source_row k on k.source = s.source and k.key = s.key and starts_with(k.parent, s.prefix)
join source_row p on p.source = s.owner and p.key = substr(k.parent, length(s.prefix) + 1)
where c.source = s.source and c.key = s.key and p.root is not null and c.root is distinct from p.root
returning c.source, c.key, c.root, c.moved_from

-- name: resolve_children
-- Rows that waited for one of these parents, or moved with it.
update source_row c
set root = p.root, moved_from = c.root
from unnest(%(child)b::smallint[], %(source)b::smallint[], %(key)b::text[], %(prefix)b::text[]) as s (child, source, key, prefix)
join source_row p on p.source = s.source and p.key = s.key
where c.source = s.child and c.parent = s.prefix || s.key and p.root is not null and c.root is distinct from p.root
returning c.source, c.key, c.root, c.moved_from

-- name: parents
-- What these rows hang below.
select r.source, r.key, r.parent
from unnest(%(source)b::smallint[], %(key)b::text[]) as s (source, key)
join source_row r on r.source = s.source and r.key = s.key
where r.parent is not null

-- name: rows_to_relink
select key, columns::text, deleted from source_row where source = %(source)s and key > %(after)s order by key limit %(limit)s

-- name: relink_rows
-- What a row below another owned row belongs to is resolved from that one, in the next statement.
update source_row r
set root = case when s.root is null and r.parent = s.parent then r.root else s.root end,
    parent = s.parent, refs = s.refs::bigint[], moved_from = r.root
from unnest(%(key)b::text[], %(root)b::text[], %(parent)b::text[], %(refs)b::text[]) as s (key, root, parent, refs)
where r.source = %(source)s and r.key = s.key
  and (r.parent is distinct from s.parent or r.refs is distinct from s.refs::bigint[]
       or (s.root is distinct from r.root and not (s.root is null and r.parent is not distinct from s.parent)))
returning r.root, r.moved_from

-- name: note_relations
update source set relations = %(relations)s where id = %(source)s

-- name: no_full_scan
-- For the two statements below, and those of an erasure: whatever the planner thinks of thousands of hashes, the index
-- answers them one by one. Asked for all at once (`&&`) it may prefer to read every row of every order; `offset 0` keeps
-- it from that.
set local enable_seqscan to off

-- name: full_scan
set local enable_seqscan to on

-- name: shared_that_look_up
-- Which rows that belong to no order refer to these looked-up rows.
select distinct r.source, r.key
from unnest(%(hashes)b::bigint[]) as h (hash)
cross join lateral (select x.source, x.key, x.root from source_row x where x.refs @> array[h.hash] offset 0) r
where r.root is null

-- name: mark_orders_that_look_up
-- Every order that refers to these looked-up rows is owed a delivery; `touched` ones are marked already. More than
-- `mass` orders at once (a product renamed) are backfill: they must not crowd out the orders that changed themselves.
with t as (
    select now, coalesce(date_bin(nullif(%(quiet)s::interval, '0'), now + %(quiet)s::interval - interval '1 microsecond',
                                  timestamptz 'epoch') + %(quiet)s::interval, now) as later
    from (select clock_timestamp() as now) as clock
),
e as (select number - (replayed_at is null)::int as era from era order by number desc limit 1),
found as (
    select distinct r.root
    from unnest(%(hashes)b::bigint[]) as h (hash)
    cross join lateral (select x.root from source_row x where x.refs @> array[h.hash] offset 0) r
    where r.root is not null and not exists (select from unnest(%(touched)s::text[]) as t (root) where t.root = r.root)
),
size as (select count(*) > %(mass)s as is_mass from found)
insert into order_sync as o
    (destination, order_key, owed_era, lane, revision, first_change, last_change, first_commit, due_at)
select d, found.root, e.era, case when size.is_mass then 1 else %(lane)s end, 1, t.now, t.now,
       case when size.is_mass then null else to_timestamp(%(committed)s::bigint / 1000.0) end,
       least(case when size.is_mass or %(lane)s = 1 then t.later else t.now + %(quiet)s::interval end, t.now + %(max_wait)s::interval)
from t, e, size, found, unnest(%(destinations)b::smallint[]) as d
order by d, found.root
on conflict (destination, order_key) do update set
    owed_era     = case when o.owed then least(o.owed_era, excluded.owed_era) else excluded.owed_era end,
    lane         = case when o.owed then least(o.lane, excluded.lane) else excluded.lane end,
    revision     = o.revision + 1,
    last_change  = excluded.last_change,
    first_commit = coalesce(o.first_commit, excluded.first_commit),
    first_change = coalesce(o.first_change, excluded.first_change),
    due_at       = least(case when o.owed and o.lane = 0 then excluded.last_change + %(quiet)s::interval else excluded.due_at end,
                         coalesce(o.first_change, excluded.first_change) + %(max_wait)s::interval)

-- name: mark_orders
-- Every touched order is owed a delivery: revision up, debounce anew. Live wins over backfill while something is owed.
-- The backfill is due in steps of the quiet period: as long as that does not move,
-- a mark of an order that is owed already touches no index.
-- What becomes owed while Kafka is read again counts as of the era before: it may have been sent in the lost future.
with t as (
    select now, coalesce(date_bin(nullif(%(quiet)s::interval, '0'), now + %(quiet)s::interval - interval '1 microsecond',
                                  timestamptz 'epoch') + %(quiet)s::interval, now) as later
    from (select clock_timestamp() as now) as clock
),
e as (select number - (replayed_at is null)::int as era from era order by number desc limit 1)
insert into order_sync as o
    (destination, order_key, owed_era, lane, revision, first_change, last_change, first_commit, due_at)
select d, s.order_key, e.era, s.lane, 1, t.now, t.now, to_timestamp(s.committed / 1000.0),
       least(case when s.lane = 1 then t.later else t.now + %(quiet)s::interval end, t.now + %(max_wait)s::interval)
from t, e, unnest(%(order_key)s::text[], %(lane)s::smallint[], %(committed)s::bigint[]) as s (order_key, lane, committed),
     unnest(%(destinations)b::smallint[]) as d
order by d, s.order_key
on conflict (destination, order_key) do update set
    owed_era     = case when o.owed then least(o.owed_era, excluded.owed_era) else excluded.owed_era end,
    lane         = case when o.owed then least(o.lane, excluded.lane) else excluded.lane end,
    revision     = o.revision + 1,
    last_change  = excluded.last_change,
    first_commit = coalesce(o.first_commit, excluded.first_commit),
    first_change = coalesce(o.first_change, excluded.first_change),
    due_at       = least(case when o.owed and o.lane = 0 then excluded.last_change + %(quiet)s::interval else excluded.due_at end,
                         coalesce(o.first_change, excluded.first_change) + %(max_wait)s::interval)

-- name: keep_rejects
insert into rejected_message
    (topic, topic_id, partition, "offset", message_ms, source, row_key, reason, detail, key, value, headers, digest)
values (%(topic)s, %(topic_id)s, %(partition)s, %(offset)s, %(message_ms)s, %(source)s, %(row_key)s, %(reason)s, %(detail)s,
        %(key)s, %(value)s, %(headers)s, %(digest)s)
on conflict (topic, topic_id, partition, "offset") do update set
    reason = excluded.reason, detail = excluded.detail, key = excluded.key, value = excluded.value,
    headers = excluded.headers, digest = excluded.digest, resolved_at = null

-- name: move_positions
-- Conditional on the value this consumer started from: a zombie's whole transaction fails here.
update kafka_position p
set next_offset = s.next, furthest = greatest(p.furthest, p.next_offset, s.next), folded = p.folded + s.folded, stale = p.stale + s.stale, skipped = p.skipped + s.skipped,
    rejected = p.rejected + s.rejected, moved_at = clock_timestamp(), halted = null, halted_at = null,
    target = case when s.next < p.target then p.target end,
    target_since = case when s.next < p.target then p.target_since end,
    target_until = case when s.next < p.target then p.target_until end
from unnest(%(origin)b::int[], %(expected)b::bigint[], %(next)b::bigint[], %(folded)b::bigint[], %(stale)b::bigint[],
            %(skipped)b::bigint[], %(rejected)b::bigint[]) as s (origin, expected, next, folded, stale, skipped, rejected)
where p.origin = s.origin and p.next_offset = s.expected

-- name: lock_positions
-- In one order everywhere, so that two folds never wait for each other in a circle. The mapping in force cannot change
-- before this transaction ends.
select p.origin, p.next_offset, v.version, v.erasing from kafka_position p, mapping_in_force v
where p.origin = any(%(origin)b::int[]) order by p.origin for update of p for share of v

-- name: recent_rejects
select topic, count(*) from rejected_message
where resolved_at is null and rejected_at > clock_timestamp() - %(window)s::interval group by topic

-- name: purge_rejects
-- A page of rejects older than they are kept, resolved or not: their messages may still be in Kafka.
delete from rejected_message where id in (
    select id from rejected_message where rejected_at < clock_timestamp() - %(keep)s::interval order by id limit 1000
)

-- name: see_columns
insert into source_column (source, name, type)
select * from unnest(%(source)b::smallint[], %(name)b::text[], %(type)b::text[])
on conflict (source, name, type) do update set last_seen = clock_timestamp()

-- name: destinations
select id, name from destination where name = any(%(names)s::text[])

-- name: rejects_to_retry
-- The next page of open rejects, oldest first. Two retries at once do no harm: what one folded is stale for the other.
select r.id, r.topic, r.topic_id, r.partition, r."offset", r.message_ms, r.key, r.value, r.headers, o.id
from rejected_message r
join origin o on o.topic = r.topic and o.topic_id = r.topic_id and o.partition = r.partition
where r.resolved_at is null and r.digest is null and r.id > %(after)s and (%(ids)s::bigint[] is null or r.id = any(%(ids)s::bigint[]))
order by r.id limit %(limit)s

-- name: resolve_digests
-- Of rejects whose bytes were not kept: those whose row was read again since.
update rejected_message r set resolved_at = clock_timestamp()
from source_row s
where r.resolved_at is null and r.digest is not null and s.source = r.source and s.key = r.row_key
  and s.unknown is distinct from '{*}' and (%(ids)s::bigint[] is null or r.id = any(%(ids)s::bigint[]))

-- name: resolve_rejects
update rejected_message set resolved_at = clock_timestamp() where id = any(%(ids)s::bigint[])

-- name: explain_rejects
-- Why they failed again, under the mapping and the program of now.
update rejected_message r set reason = s.reason, detail = s.detail
from unnest(%(ids)s::bigint[], %(reasons)s::text[], %(details)s::text[]) as s (id, reason, detail)
where r.id = s.id

-- name: record_action
insert into operator_action (who, command, arguments, affected)
values (%(who)s, %(command)s, %(arguments)s, %(affected)s)
