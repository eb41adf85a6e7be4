-- name: now
select clock_timestamp()

-- name: accepted_page
-- Orders that were ever accepted and still hold their id at the API, in key order.
select order_key, vendor_order_id, last_accepted from order_sync
where destination = %(destination)s and order_key > %(after)s and last_accepted is not null and vendor_order_id is not null
order by order_key limit %(limit)s

-- name: by_vendor_id
-- finished: nothing was attempted since it was accepted, and that lies long enough before the question.
select order_key, vendor_order_id, last_accepted,
       request_id is null and last_attempted is not distinct from last_accepted
           and accepted_at < %(asked_at)s - make_interval(secs => %(settle_secs)s) as finished
from order_sync where destination = %(destination)s and vendor_order_id = any(%(order_ids)s::text[])

-- name: note_reconciliation
insert into reconciliation
    (destination, first_day, last_day, compared, missing, extra, different, unfinished, silent_days, marked)
values (%(destination)s, %(first_day)s, %(last_day)s, %(compared)s, %(missing)s, %(extra)s, %(different)s,
        %(unfinished)s, %(silent_days)s, %(marked)s)
