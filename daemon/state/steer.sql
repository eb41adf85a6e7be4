-- name: pause
update destination set paused = true, paused_at = clock_timestamp()
where name = any(%(names)s) and not paused returning name

-- name: resume
update destination set paused = false, paused_at = null, halted_reason = null, halted_at = null
where name = any(%(names)s) and (paused or halted_reason is not null) returning name

-- name: backfill
-- The same range again goes on where it is; another one begins with its oldest orders.
update destination set
    backfill_reached = case when backfill_since = %(since)s::timestamptz and backfill_until = %(until)s::timestamptz
                            then backfill_reached else '-infinity' end,
    backfill_since = %(since)s::timestamptz, backfill_until = %(until)s::timestamptz
where name = any(%(names)s) returning name

-- name: backfill_stop
update destination set backfill_since = null, backfill_until = null, backfill_reached = '-infinity'
where name = any(%(names)s) and backfill_since is not null returning name

-- name: lock_guarded
select s.destination, s.order_key
from order_sync s
join destination d on d.id = s.destination
where s.parked and s.hold = 'guarded' and d.name = any(%(names)s)
  and (%(orders)s::text[] is null or s.order_key = any(%(orders)s) or s.vendor_order_id = any(%(orders)s))
order by s.destination, s.order_key
for update of s

-- name: release_guarded
-- Due as they were; that they go to 0 takes nothing away that a person has not allowed, in the era of now.
update order_sync s
set parked_revision = null, hold = null, hold_detail = null, hold_since = null, zeroed = true,
    ever_attempted = true, owed_era = (select max(number) from era)
from unnest(%(destinations)s::smallint[], %(order_keys)s::text[]) as named (destination, order_key)
where s.destination = named.destination and s.order_key = named.order_key

-- name: discard_guarded
-- Nothing is owed until they change; what is known about the API's copy stays known.
update order_sync s
set parked_revision = null, hold = 'discarded', hold_detail = null, hold_since = clock_timestamp(),
    settled_revision = s.revision, first_change = null, first_commit = null, ever_attempted = true
from unnest(%(destinations)s::smallint[], %(order_keys)s::text[]) as named (destination, order_key)
where s.destination = named.destination and s.order_key = named.order_key
