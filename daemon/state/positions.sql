-- name: positions
-- The newest incarnation of each partition. A target counts while it holds delivery.
select distinct on (o.topic, o.partition)
       o.topic, o.partition, o.topic_id, p.next_offset, p.folded, p.stale, p.skipped, p.rejected, p.halted, p.halted_at,
       case when p.target_until > clock_timestamp() and p.halted is null then p.target end as gate_target,
       case when p.target_until > clock_timestamp() and p.halted is null then p.target_since end as gate_since,
       p.moved_at, p.read_at
from origin o
join kafka_position p on p.origin = o.id
order by o.topic, o.partition, o.id desc

-- name: register
with new as (
    insert into origin (topic, topic_id, partition)
    select %(topic)s, %(topic_id)s, n from unnest(%(partitions)s::int[]) n
    where not exists (select from origin o where o.topic = %(topic)s and o.topic_id = %(topic_id)s and o.partition = n)
    on conflict (topic, topic_id, partition) do nothing
    returning id
)
insert into kafka_position (origin, next_offset) select id, -1 from new

-- name: lock
-- In the order in which folds lock them. Also those of older incarnations: they hold nothing up any more.
select p.origin, p.next_offset from kafka_position p
join origin o on o.id = p.origin
where o.topic = %(topic)s order by p.origin for update of p

-- name: reset
-- A null offset leaves the position where it is. A target that is reached by this holds delivery no longer.
update kafka_position p
set next_offset = coalesce(s.next, p.next_offset), furthest = greatest(p.furthest, p.next_offset, s.next), read_at = clock_timestamp(), crossed = p.crossed or p.halted is not null,
    halted = null, halted_at = null,
    target = case when p.target > coalesce(s.next, p.next_offset) then p.target end,
    target_since = case when p.target > coalesce(s.next, p.next_offset) then p.target_since end,
    target_until = case when p.target > coalesce(s.next, p.next_offset) then p.target_until end
from unnest(%(partitions)s::int[], %(offsets)s::bigint[]) as s (partition, next)
join origin o on o.topic = %(topic)s and o.topic_id = %(topic_id)s and o.partition = s.partition
where p.origin = o.id

-- name: release_older
update kafka_position p
set halted = null, halted_at = null, target = null, target_since = null, target_until = null
from origin o
where o.id = p.origin and o.topic = %(topic)s and o.topic_id <> %(topic_id)s
  and (p.halted is not null or p.target is not null)
