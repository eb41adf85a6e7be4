-- name: system_identifier
select system_identifier::text from pg_control_system()

-- name: timeline
-- Of what is being written; nobody writes on a standby.
select case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end

-- name: present
select number, installation::text, extract(epoch from clock_timestamp() - began_at)::float8, cause, targets_at is not null,
       replayed_at is null, system_identifier, timeline
from era order by number desc limit 1

-- name: lock
-- Of all who see that the state went back, one begins the new era; the others then see that it has begun.
select pg_advisory_xact_lock(hashtext('order-sync era'), hashtext(current_schema()))

-- name: note_server
-- A server that tells more than it did before is the same one.
update era set system_identifier = coalesce(system_identifier, %(system)s), timeline = coalesce(timeline, %(timeline)s)
where number = (select max(number) from era)
  and (system_identifier is null and %(system)s::text is not null or timeline is null and %(timeline)s::text is not null)

-- name: ahead
-- Partitions whose position in Kafka, as the group has it from this state, lies beyond everything it knows of.
-- One that does not say from which state it is counts where this state has read of that very incarnation of the topic.
select o.topic, o.partition, a.mirrored, greatest(p.furthest, p.next_offset)
from unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[], %(mirrored)s::bigint[], %(ours)s::boolean[])
    as a (topic, topic_id, partition, mirrored, ours)
join origin o using (topic, topic_id, partition)
join kafka_position p on p.origin = o.id
where a.mirrored > greatest(p.furthest, p.next_offset) and (a.ours or greatest(p.furthest, p.next_offset) >= 0)
order by o.topic, o.partition

-- name: believe
-- What the group says was read is known from now on: it tells no second time that the state went back.
update kafka_position p set furthest = greatest(p.furthest, p.next_offset, a.mirrored)
from unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[], %(mirrored)s::bigint[])
    as a (topic, topic_id, partition, mirrored)
join origin o using (topic, topic_id, partition)
where p.origin = o.id
  and p.origin in (
      select x.origin from kafka_position x
      join origin y on y.id = x.origin where y.topic = any(%(topics)s::text[]) order by x.origin for update of x)

-- name: begin
-- The era before it is over, whatever it had still to read again.
with older as (
    update era set targets_at = coalesce(targets_at, clock_timestamp()), replayed_at = coalesce(replayed_at, clock_timestamp())
    where targets_at is null or replayed_at is null
)
insert into era (number, installation, began_at, cause, system_identifier, timeline)
select number + 1, installation, clock_timestamp(), %(cause)s, coalesce(%(system)s, system_identifier),
       coalesce(%(timeline)s, timeline)
from era order by number desc limit 1

-- name: end_leases
-- Whoever led may hold a lease of the future that was lost, under an epoch and with requests that come again in this one.
update lease set epoch = epoch + 1, holder = null, expires_at = '-infinity'

-- name: begin_replay
-- All that Kafka has now may have been read, and sent, in the future that was lost: delivery is held until it is read
-- again, however long that takes. A partition that is halted does not hold it, but does so once it goes on.
with standing as (
    select p.origin, a.target
    from unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[], %(targets)s::bigint[])
        as a (topic, topic_id, partition, target)
    join origin o using (topic, topic_id, partition)
    join kafka_position p on p.origin = o.id
    where p.next_offset < a.target
    order by p.origin for update of p
)
update kafka_position p
set target = greatest(p.target, s.target), target_since = coalesce(p.target_since, clock_timestamp()), target_until = 'infinity'
from standing s where p.origin = s.origin

-- name: note_targets
update era set targets_at = clock_timestamp() where targets_at is null

-- name: end_replay
update era set replayed_at = clock_timestamp()
where replayed_at is null and targets_at is not null
  and not exists (select from kafka_position where target_until = 'infinity')
