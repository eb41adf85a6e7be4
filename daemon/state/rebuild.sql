-- name: raise_generation
-- Every stored row of these sources is of an older generation from here on. Their relations are followed at the next start.
update source s
set generation = generation + 1, key_version = n.keys, structure = n.structure,
    carries = not exists (
        select from kafka_position p join origin o on o.id = p.origin
        where (p.halted is not null or p.crossed) and o.topic = n.topic)
from unnest(%(names)s::text[], %(topics)s::text[], %(keys)s::text[], %(values)s::text[]) as n (name, topic, keys, structure)
where s.name = n.name
returning s.name, s.generation

-- name: restart_positions
-- Read from the beginning, with delivery held until what Kafka has now is folded, however long that takes.
with standing as (
    select p.origin, a.start, a.target
    from unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[], %(starts)s::bigint[], %(targets)s::bigint[])
        as a (topic, topic_id, partition, start, target)
    join origin o using (topic, topic_id, partition)
    join kafka_position p on p.origin = o.id
    order by p.origin for update of p
)
update kafka_position p
set next_offset = s.start, furthest = greatest(p.furthest, p.next_offset, s.start), read_at = clock_timestamp(), halted = null, halted_at = null, crossed = false,
    target = case when s.start < s.target then s.target end,
    target_since = case when s.start < s.target then clock_timestamp() end,
    target_until = case when s.start < s.target then 'infinity'::timestamptz end
from standing s where p.origin = s.origin

-- name: lock_positions_of
-- In the order in which folds lock them.
select p.origin from kafka_position p join origin o on o.id = p.origin
where o.topic = any(%(topics)s::text[]) order by p.origin for update of p

-- name: note_late_reads
-- Deletes and values may be missing of what was left unread for longer than its topic keeps them.
update kafka_position p set crossed = true
from unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[], %(targets)s::bigint[], %(keeps)s::bigint[])
    as a (topic, topic_id, partition, target, keeps)
join origin o using (topic, topic_id, partition)
where p.origin = o.id and p.next_offset < a.target and p.read_at < clock_timestamp() - make_interval(secs => a.keeps / 1000.0)

-- name: register_origins_of
insert into origin (topic, topic_id, partition)
select a.topic, a.topic_id, a.partition
from unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[]) as a (topic, topic_id, partition)
where not exists (select from origin o where (o.topic, o.topic_id, o.partition) = (a.topic, a.topic_id, a.partition))
on conflict (topic, topic_id, partition) do nothing

-- name: register_positions_of
insert into kafka_position (origin, next_offset)
select o.id, -1 from unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[]) as a (topic, topic_id, partition)
join origin o using (topic, topic_id, partition)
on conflict (origin) do nothing

-- name: forget_older_incarnations
-- What is left of a topic's earlier incarnations must neither hold delivery nor be taken for a halt.
update kafka_position p set target = null, target_since = null, target_until = null, halted = null, halted_at = null
from origin o
join unnest(%(topics)s::text[], %(topic_ids)s::text[]) as a (topic, topic_id) on a.topic = o.topic and a.topic_id <> o.topic_id
where p.origin = o.id

-- name: progress
-- Of each partition that is read anew: how far, to where, since when, and whether it stands still.
select o.topic, o.partition, greatest(p.next_offset, 0), p.target, extract(epoch from clock_timestamp() - p.target_since)::float8,
       p.halted
from kafka_position p join origin o on o.id = p.origin
where p.target_until = 'infinity' order by o.topic, o.partition

-- name: ghosts
-- Live rows that the newest generation of their source has not shown, a page by (source, key).
select s.name, r.key, r.root
from source_row r join source s on s.id = r.source
where r.generation < s.generation and not r.deleted
  and (%(names)s::text[] is null or s.name = any(%(names)s::text[]))
  and (s.name, r.key) > (%(after_source)s, %(after_key)s)
order by s.name, r.key limit %(limit)s

-- name: count_ghosts
select s.name, count(*), count(distinct r.root)
from source_row r join source s on s.id = r.source
where r.generation < s.generation and not r.deleted and (%(names)s::text[] is null or s.name = any(%(names)s::text[]))
group by s.name order by s.name

-- name: sweep_ghosts
-- Delete rows as a delete from the OMS would; those that were met meanwhile are no ghosts any more. The row keeps what
-- was known of where it stood, so that an event that comes after all applies.
update source_row r
set deleted = true, columns = '{}', unknown = null, heir = null, awaits = null, refs = null, changed = true, moved_from = null, generation = s.generation,
    position = '{}', lineage = null, committed = null
from source s
where s.id = r.source and s.name = %(source)s and r.key = any(%(keys)s::text[])
  and r.generation < s.generation and not r.deleted
returning r.key, r.root

-- name: record_action
insert into operator_action (who, command, arguments, affected)
values (%(who)s, %(command)s, %(arguments)s, %(affected)s)
