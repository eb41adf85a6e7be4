-- name: begin_erasing
-- Waits for the folds under way, and those that come later wait for this: each knows of all erasures or none was there.
update mapping_in_force set erasing = true

-- name: key_checks
select hash from erasure where what = 'key_check'

-- name: known
select hash, customer, what from erasure where hash = any(%(hashes)b::bytea[])

-- name: name
insert into erasure (hash, customer, what)
select * from unnest(%(hashes)b::bytea[], %(customers)b::bytea[], %(whats)b::text[])
on conflict (hash) do update set what = 'key' where excluded.what = 'key' and erasure.what = 'row'

-- name: erased_orders
-- Of these orders, those whose own row is erased, with what stands for their customer.
select r.key, r.columns ->> %(mark)s from source_row r
where r.source = %(root)s and r.key = any(%(keys)b::text[]) and r.columns ? %(mark)s

-- name: rows_of
select source, key, root, columns::text, unknown, deleted, parent from source_row
where root = any(%(keys)b::text[]) order by source, key

-- name: rows_at
select r.source, r.key, r.root, r.columns::text, r.unknown, r.deleted, r.parent
from unnest(%(sources)b::smallint[], %(keys)b::text[]) as w (source, key)
join source_row r on r.source = w.source and r.key = w.key

-- name: rows_below
-- Shared rows that hang below others.
select r.source, r.key, r.root, r.columns::text, r.unknown, r.deleted, r.parent
from unnest(%(sources)b::smallint[], %(parents)b::text[]) as w (source, parent)
join source_row r on r.source = w.source and r.parent = w.parent

-- name: rows_that_look_up
select distinct on (r.source, r.key) r.source, r.key, r.root, r.columns::text, r.unknown, r.deleted, r.parent
from unnest(%(hashes)b::bigint[]) as h (hash)
cross join lateral (select * from source_row x where x.refs @> array[h.hash] offset 0) r

-- name: looked_up_by_others
-- Which of these looked-up rows belong to orders of customers who are not erased, or are looked up by rows of theirs,
-- such as a household. `own`: rows that are erased with them.
select h.hash from unnest(%(hashes)b::bigint[]) as h (hash)
where exists (
    select from (
        select x.source, x.key, x.root, x.columns ->> %(mark)s as mark from source_row x where x.refs @> array[h.hash] offset 0
    ) r
    where case when r.root is null
               then r.mark is null
                    and (r.source, r.key) not in (select * from unnest(%(own_sources)b::smallint[], %(own_keys)b::text[]))
               else r.root <> all(%(orders)b::text[])
                    and (select o.columns ->> %(mark)s from source_row o where o.source = %(root)s and o.key = r.root) is null end
)

-- name: drop_rows
-- Rows that came in under their old key although there is one under the stand-in: the latter is the later one.
-- A subquery and no join: that one, before the first ANALYZE, meets every row of the source for each one of the list.
delete from source_row r using unnest(%(sources)b::smallint[], %(keys)b::text[], %(new_keys)b::text[]) as s (source, key, new_key)
where r.source = s.source and r.key = s.key and s.new_key <> s.key
  and (select true from source_row x where x.source = s.source and x.key = s.new_key)

-- name: write_rows
update source_row r
set key = s.new_key, columns = s.columns::jsonb, parent = s.parent, refs = s.refs::bigint[],
    heir = case when s.new_key = s.key then r.heir end, awaits = case when s.new_key = s.key then r.awaits end
from unnest(%(sources)b::smallint[], %(keys)b::text[], %(new_keys)b::text[], %(columns)b::text[], %(parents)b::text[],
            %(refs)b::text[]) as s (source, key, new_key, columns, parent, refs)
where r.source = s.source and r.key = s.key

-- name: lock_records
-- With the destinations named: the index begins with them.
select destination, order_key, last_attempted, last_accepted from order_sync
where destination = any(array(select id from destination)) and order_key = any(%(keys)b::text[])
order by destination, order_key for update

-- name: erase_records
-- An order whose documents lost something, or that came to be erased, is owed anew: at once, and not by its old digest.
update order_sync s
set revision = s.revision + 1,
    erased_revision = s.revision + 1,
    digest = null,
    last_attempted = e.attempted,
    last_accepted = e.accepted,
    last_error = null,
    hold_detail = null,
    clear = case when s.ever_attempted and s.vendor_order_id is not null then coalesce(s.clear, string_to_array(e.clear, ' ')) end,
    owed_era = case when s.owed then s.owed_era else (select max(number) from era) end,
    lane = case when s.owed or s.accepted_at is null then s.lane else 0 end,
    first_change = coalesce(s.first_change, clock_timestamp()),
    due_at = case when s.owed then s.due_at else clock_timestamp() end
from unnest(%(destinations)b::smallint[], %(keys)b::text[], %(attempted)b::bytea[], %(accepted)b::bytea[], %(clear)b::text[])
    as e (destination, order_key, attempted, accepted, clear)
where s.destination = e.destination and s.order_key = e.order_key

-- name: row_page
-- Also what was deleted for another key: it has kept its values.
select key, columns::text, unknown from source_row
where source = %(source)s and key > %(after)s and (not deleted or columns <> '{}') order by key limit %(limit)s

-- name: document_page
select destination, order_key, last_attempted, last_accepted from order_sync
where (destination, order_key) > (%(destination)s, %(after)s) and (last_attempted is not null or last_accepted is not null)
order by destination, order_key limit %(limit)s

-- name: reject_page
select r.id, s.name, r.row_key, r.key, r.value, r.headers::text, r.digest is not null from rejected_message r
left join source s on s.id = r.source where r.id > %(after)s order by r.id limit %(limit)s

-- name: reduce_rejects
update rejected_message r
set key = null, value = null, headers = null, digest = e.digest, row_key = e.row_key
from unnest(%(ids)b::bigint[], %(digests)b::bytea[], %(row_keys)b::text[]) as e (id, digest, row_key) where r.id = e.id

-- name: requests_with_errors
select id, error from delivery_request where order_keys && %(keys)b::text[] and error is not null

-- name: rewrite_errors
update delivery_request r set error = e.error from unnest(%(ids)b::bigint[], %(errors)b::text[]) as e (id, error) where r.id = e.id

-- name: error_page
select destination, order_key, last_error from order_sync
where (destination, order_key) > (%(destination)s, %(after)s) and last_error is not null
order by destination, order_key limit %(limit)s

-- name: rewrite_last_errors
-- Where it has not changed since it was read.
update order_sync s set last_error = e.new
from unnest(%(destinations)b::smallint[], %(keys)b::text[], %(old)b::text[], %(new)b::text[]) as e (destination, order_key, old, new)
where s.destination = e.destination and s.order_key = e.order_key and s.last_error = e.old

-- name: standing_of_orders
-- By destination: of these orders, those that wait for the API to lose what it had, and those in flight just now.
select d.name, d.paused, d.halted_reason, count(*) filter (where s.clear is not null), count(s.request_id)
from order_sync s join destination d on d.id = s.destination
where s.destination = any(array(select id from destination)) and s.order_key = any(%(keys)b::text[])
group by d.id order by d.name
