-- name: register
-- Gives a destination its number at its first start; no number is used up by the later ones.
insert into destination (name, base_url, client_id) select %(name)s, %(base_url)s, %(client_id)s
where not exists (
    select from destination where name = %(name)s or (base_url = %(base_url)s and client_id = %(client_id)s)
)
on conflict do nothing

-- name: find_destination
-- Everything that shares a name or an identity with this destination: one row that has both, or a conflict.
select id, name, base_url, client_id from destination
where name = %(name)s or (base_url = %(base_url)s and client_id = %(client_id)s)
order by name

-- name: register_lease
insert into lease (destination) values (%(destination)s) on conflict do nothing

-- name: take_lease
-- A new epoch, where the old lease is over by the database's clock. Waits for transactions that hold the old one.
update lease set epoch = epoch + 1, renewals = 0, holder = %(holder)s,
    expires_at = clock_timestamp() + make_interval(secs => %(secs)s)
where destination = %(destination)s and expires_at < clock_timestamp()
returning epoch

-- name: renew_lease
-- A row with fewer renewals than its holder knows of is that of a state that went back: its holder leads no more.
update lease set renewals = renewals + 1, expires_at = clock_timestamp() + make_interval(secs => %(secs)s)
where destination = %(destination)s and epoch = %(epoch)s and holder = %(holder)s and renewals >= %(renewals)s
returning renewals

-- name: release_lease
update lease set expires_at = '-infinity'
where destination = %(destination)s and epoch = %(epoch)s and holder = %(holder)s and renewals >= %(renewals)s

-- name: hold_lease
-- No take-over can come between this and the commit.
select 1 from lease
where destination = %(destination)s and epoch = %(epoch)s and holder = %(holder)s and renewals >= %(renewals)s for share

-- name: hold_mapping_in_force
select version from mapping_in_force for share

-- name: hold_inherited
-- Orders of requests that nobody settled: not to be sent before the fence, and nothing stored about them is trusted.
with named as materialized (
    select s.destination, s.order_key from order_sync s join delivery_request r on r.id = s.request_id
    where r.destination = %(destination)s and r.settled_at is null
    order by s.order_key for update of s
)
update order_sync s
set digest = null, not_before = greatest(s.not_before, clock_timestamp() + make_interval(secs => %(hold_secs)s))
from named where s.destination = named.destination and s.order_key = named.order_key

-- name: open_requests
select id, lane, bytes, order_keys, zeroed from delivery_request
where destination = %(destination)s and settled_at is null order by id

-- name: ledger
-- Settled requests whose bytes still count, with the seconds they will; and those whose zeroed orders do, an hour longer.
select lane, bytes, extract(epoch from counts_until - clock_timestamp())::float8, zeroed from delivery_request
where destination = %(destination)s and counts_until > statement_timestamp() - interval '1 hour'
  and (counts_until > statement_timestamp() or zeroed > 0)

-- name: standing
select paused, halted_reason,
       coalesce(greatest(extract(epoch from send_not_before - clock_timestamp()), 0), 0)::float8,
       failures, largest_body, mapping_version, extract(epoch from created_at)::float8,
       extract(epoch from backfill_since)::float8, extract(epoch from backfill_until)::float8,
       extract(epoch from backfill_reached)::float8
from destination where id = %(destination)s

-- name: save_standing
-- A halt that is not there any more, though it was saved, was ended by a person: it is not written again.
update destination set
    halted_at = case when %(halted)s::text is not null and not (%(was_halted)s and halted_reason is null)
                     then coalesce(halted_at, clock_timestamp()) end,
    halted_reason = case when not (%(was_halted)s and halted_reason is null) then %(halted)s end,
    send_not_before = case when %(pause_secs)s > 0 then clock_timestamp() + make_interval(secs => %(pause_secs)s) end,
    failures = %(failures)s, largest_body = %(largest_body)s, mapping_version = %(mapping_version)s
where id = %(destination)s

-- name: due
-- The next due orders of one lane, found by the partial index order_sync_due alone; none while a backlog is folded:
-- orders would be sent with half of what one transaction of the OMS changed.
select order_key, lane, revision, extract(epoch from clock_timestamp())::float8,
       case when digest_era = (select max(number) from era) then digest end,
       ever_attempted or owed_era < (select max(number) from era), voided, send_alone,
       case when ever_attempted then vendor_order_id end,
       case when hold = 'waiting' then extract(epoch from clock_timestamp() - hold_since)::float8 else 0 end,
       zeroed and owed_era = (select max(number) from era),
       not ever_attempted and owed_era < (select max(number) from era),
       clear
from order_sync
where destination = %(destination)s and lane = %(lane)s and sendable
  and greatest(due_at, not_before) <= statement_timestamp()
  and not exists (select from kafka_position where target_until > clock_timestamp() and halted is null)
  and not exists (select from era where targets_at is null)
  and order_key <> all(%(busy)s::text[])
order by greatest(due_at, not_before) limit %(limit)s

-- name: due_among
select order_key, lane, revision, extract(epoch from clock_timestamp())::float8,
       case when digest_era = (select max(number) from era) then digest end,
       ever_attempted or owed_era < (select max(number) from era), voided, send_alone,
       case when ever_attempted then vendor_order_id end,
       case when hold = 'waiting' then extract(epoch from clock_timestamp() - hold_since)::float8 else 0 end,
       zeroed and owed_era = (select max(number) from era),
       not ever_attempted and owed_era < (select max(number) from era),
       clear
from order_sync
where destination = %(destination)s and order_key = any(%(keys)s::text[]) and sendable
  and greatest(due_at, not_before) <= statement_timestamp()
  and not exists (select from kafka_position where target_until > clock_timestamp() and halted is null)
  and not exists (select from era where targets_at is null)
order by order_key

-- name: rows_of
select s.name, r.key, r.root, r.columns::text, r.unknown, r.deleted, r.first_seen, r.parent
from source_row r join source s on s.id = r.source where r.root = any(%(roots)s::text[])

-- name: rows_at
select s.name, r.key, r.root, r.columns::text, r.unknown, r.deleted, r.first_seen, r.parent
from unnest(%(sources)s::text[], %(keys)s::text[]) as w (source, key)
join source s on s.name = w.source join source_row r on r.source = s.id and r.key = w.key

-- name: rows_below
select s.name, r.key, r.root, r.columns::text, r.unknown, r.deleted, r.first_seen, r.parent
from unnest(%(sources)s::text[], %(keys)s::text[]) as w (source, parent)
join source s on s.name = w.source join source_row r on r.source = s.id and r.parent = w.parent

-- name: last_documents
select order_key, coalesce(last_accepted, last_attempted) from order_sync
where destination = %(destination)s and order_key = any(%(keys)s::text[])
  and coalesce(last_accepted, last_attempted) is not null

-- name: holders
-- Who holds these vendor ids; gone: its void was accepted, or its root row is deleted. One that is held may have a
-- request behind it that can still land: it counts as in flight.
select o.order_key, o.vendor_order_id,
       o.voided or o.hold is not distinct from 'deleted' or coalesce(r.deleted, false),
       o.owed, o.request_id is not null or o.not_before > clock_timestamp()
from order_sync o
left join source s on s.name = %(root_source)s
left join source_row r on r.source = s.id and r.key = o.order_key
where o.destination = %(destination)s and o.vendor_order_id = any(%(vendor_ids)s::text[])

-- name: next_request
-- With a place for its row.
with next as materialized (select nextval(pg_get_serial_sequence('delivery_request', 'id')) as id)
select id, room_for_requests(id) from next

-- name: lock_outgoing
-- Those that can still be put in flight: owed at the revision that was judged, or a later one; nobody else holds their vendor id.
-- Here and below a list carries its destination as a column: of a constant the planner believes, before the first ANALYZE,
-- that few orders have it, and meets each of them for each one of the list.
with b as materialized (
    select %(destination)s::smallint as destination, u.*
    from unnest(%(keys)s::text[], %(revisions)s::bigint[], %(vendor_ids)s::text[], %(take_over)s::text[])
        as u (order_key, revision, vendor_order_id, take_over)
)
select s.order_key
from b join order_sync s on s.destination = b.destination and s.order_key = b.order_key
where s.request_id is null and s.revision >= b.revision and s.settled_revision < b.revision
  and s.quarantine_revision is distinct from s.revision and not s.parked
  and b.revision >= s.erased_revision
  and not exists (select from kafka_position where target_until > clock_timestamp() and halted is null)
  and not exists (select from era where targets_at is null)
  and not exists (
      select 1 from order_sync h
      where h.destination = %(destination)s and h.vendor_order_id = b.vendor_order_id and h.order_key <> b.order_key
        and (h.order_key is distinct from b.take_over or h.request_id is not null or h.not_before > clock_timestamp()))
order by s.order_key for update of s

-- name: give_up_vendor_ids
-- Orders that are gone make room for those that took over their vendor id; no void of theirs is sent any more.
update order_sync set vendor_order_id = null, hold = 'superseded', hold_since = clock_timestamp(), digest = null
where destination = %(destination)s and order_key = any(%(keys)s::text[])

-- name: write_request
-- Nothing where its end was recorded before its beginning: see forestall_request.
insert into delivery_request (id, destination, epoch, lane, orders, bytes, order_keys, revisions, zeroed, clears)
    overriding system value
values (%(request)s, %(destination)s, %(epoch)s, %(lane)s, cardinality(%(keys)s::text[]), %(bytes)s, %(keys)s, %(revisions)s,
        %(zeroed)s, %(clears)s)
on conflict (id) do nothing
returning id

-- name: put_in_flight
-- A change between judging and this is newer than what is sent: it stays owed, counted from when the order was read.
-- What clears attributes is no document: that is still the last one.
with b as materialized (
    select %(destination)s::smallint as destination, u.*
    from unnest(%(keys)s::text[], %(revisions)s::bigint[], %(read_at)s::float8[], %(vendor_ids)s::text[], %(bodies)s::bytea[],
                %(placed_at)s::float8[], %(body_bytes)s::integer[], %(zeros)s::boolean[])
        as u (order_key, revision, read_at, vendor_order_id, body, placed_at, body_bytes, zero)
)
update order_sync s set
    request_id = %(request)s,
    sent_revision = b.revision,
    sent_first_change = s.first_change,
    sent_first_commit = s.first_commit,
    first_change = case when s.revision > b.revision then to_timestamp(b.read_at) end,
    first_commit = case when s.revision > b.revision then to_timestamp(b.read_at) end,
    digest = null,
    ever_attempted = true,
    vendor_order_id = b.vendor_order_id,
    mapping_version = %(mapping_version)s,
    last_attempted = case when %(clears)s then s.last_attempted else b.body end,
    placed_at = to_timestamp(b.placed_at),
    body_bytes = case when %(clears)s then s.body_bytes else b.body_bytes end,
    zeroed = b.zero
from b where s.destination = b.destination and s.order_key = b.order_key

-- name: settle_request
-- Nothing where it is settled already. The lease was locked before.
update delivery_request set
    settled_at = clock_timestamp(), outcome = %(outcome)s, status = %(status)s, error = %(error)s,
    counts_until = clock_timestamp() + make_interval(secs => %(counts_secs)s), zeroed = %(zeroed)s
where id = %(request)s and settled_at is null
returning id

-- name: forestall_request
-- A commit whose outcome was not heard may still be under way: this waits for it, or keeps the row from being written.
insert into delivery_request
    (id, destination, epoch, lane, orders, bytes, order_keys, revisions, settled_at, counts_until, outcome, error)
    overriding system value
values (%(request)s, %(destination)s, %(epoch)s, 0, 0, 0, '{}', '{}', clock_timestamp(), clock_timestamp(), %(outcome)s, %(error)s)
on conflict (id) do nothing
returning id

-- name: settle_orders
-- Only orders still in flight by this very request. The digest is set by its acceptance alone, and only while nothing
-- came in between: an order touched in flight is sent once more in any case. While attributes are to be cleared, neither
-- the document without them nor the PATCH settles the order: afterwards it is judged anew, or held as it was before.
with verdict as (
    select * from unnest(%(keys)s::text[], %(fates)s::text[], %(digests)s::bytea[], %(attempted)s::boolean[], %(voids)s::boolean[],
                         %(hold_secs)s::float8[], %(reasons)s::text[], %(details)s::text[], %(zeroed_before)s::boolean[],
                         %(clears)s::boolean[])
        as v (order_key, fate, digest, attempted, void, hold_secs, reason, detail, zeroed, clears)
), flight as materialized (
    select s.destination, s.order_key from order_sync s join verdict v on v.order_key = s.order_key
    where s.destination = %(destination)s and s.request_id = %(request)s
    order by s.order_key for update of s
)
update order_sync s set
    request_id = null,
    settled_revision = case when v.fate = 'accepted' and (s.clear is null or (v.clears and s.hold = 'discarded'))
                            then greatest(s.settled_revision, s.sent_revision) else s.settled_revision end,
    first_change = case when v.fate = 'accepted' and s.clear is null then s.first_change
                        else least(s.first_change, s.sent_first_change) end,
    first_commit = case when v.fate = 'accepted' and s.clear is null then s.first_commit
                        else least(s.first_commit, s.sent_first_commit) end,
    -- Where nothing of it was ever applied there is nothing to clear: an order erased in flight and refused.
    clear = case when v.fate = 'accepted' and v.clears then null
                 when v.fate in ('not_sent', 'not_applied', 'quarantined') and not v.attempted then null
                 else s.clear end,
    digest = case when v.fate in ('accepted', 'not_sent') and s.revision = s.sent_revision then v.digest end,
    digest_era = (select max(number) from era),
    ever_attempted = case when v.fate in ('not_sent', 'not_applied', 'quarantined') then v.attempted else true end,
    zeroed = case when v.fate in ('not_sent', 'not_applied', 'quarantined') then v.zeroed else s.zeroed end,
    not_before = case when v.hold_secs > 0
                      then greatest(s.not_before, clock_timestamp() + make_interval(secs => v.hold_secs)) else s.not_before end,
    accepted_at = case when v.fate = 'accepted' then clock_timestamp() else s.accepted_at end,
    last_accepted = case when v.fate = 'accepted' then s.last_attempted else s.last_accepted end,
    voided = case when v.fate = 'accepted' then v.void else s.voided end,
    attempts = case v.fate when 'accepted' then 0 when 'quarantined' then s.attempts + 1 else s.attempts end,
    send_alone = case v.fate when 'accepted' then false when 'quarantined' then true else s.send_alone end,
    hold = case when v.fate = 'accepted' and s.clear is null then null else s.hold end,
    hold_detail = case when v.fate = 'accepted' and s.clear is null then null else s.hold_detail end,
    hold_since = case when v.fate = 'accepted' and s.clear is null then null else s.hold_since end,
    parked_revision = case when v.fate = 'accepted' then null else s.parked_revision end,
    quarantine_revision = case v.fate when 'accepted' then null when 'quarantined' then s.sent_revision else s.quarantine_revision end,
    quarantine_mapping = case v.fate when 'accepted' then null when 'quarantined' then s.mapping_version else s.quarantine_mapping end,
    quarantine_reason = case v.fate when 'accepted' then null when 'quarantined' then v.reason else s.quarantine_reason end,
    quarantined_at = case v.fate when 'accepted' then null when 'quarantined' then clock_timestamp() else s.quarantined_at end,
    last_error = case when v.fate = 'accepted' then null else coalesce(v.detail, s.last_error) end
from verdict v, flight f
where s.destination = f.destination and s.order_key = f.order_key and v.order_key = f.order_key
returning s.order_key, v.fate, s.lane, extract(epoch from clock_timestamp() - s.sent_first_commit)::float8

-- name: judge_orders
-- Holds only for the revision that was judged: a later change is judged anew.
with judged as materialized (
    select %(destination)s::smallint as destination, u.*
    from unnest(%(keys)s::text[], %(revisions)s::bigint[], %(settles)s::boolean[], %(holds)s::text[], %(details)s::text[],
                %(recheck_secs)s::float8[], %(quarantines)s::text[], %(attempts)s::boolean[], %(parked)s::boolean[],
                %(placed_at)s::float8[], %(body_bytes)s::integer[], %(zeros)s::boolean[])
        as u (order_key, revision, settle, hold, detail, recheck_secs, quarantine, attempt, parked, placed_at, body_bytes, zero)
), locked as materialized (
    select s.order_key from order_sync s join judged j on j.destination = s.destination and j.order_key = s.order_key
    where s.revision = j.revision and s.request_id is null and s.settled_revision < j.revision
    order by s.order_key for update of s
)
update order_sync s set
    mapping_version = %(mapping_version)s,
    -- What is owed on says by its era that it may have been sent; what is owed no more has to remember.
    ever_attempted = s.ever_attempted or (j.settle and s.owed_era < (select max(number) from era)),
    zeroed = coalesce(j.zero, s.zeroed),
    settled_revision = case when j.settle then j.revision else s.settled_revision end,
    first_change = case when j.settle then null else s.first_change end,
    first_commit = case when j.settle then null else s.first_commit end,
    -- A quarantine ends the wait: what comes after it waits anew.
    hold = case when j.quarantine is null then j.hold end,
    hold_detail = case when j.quarantine is null then j.detail end,
    hold_since = case when j.quarantine is not null then null
                      when j.hold = s.hold then s.hold_since
                      when j.hold is not null then clock_timestamp() end,
    parked_revision = case when j.parked then j.revision end,
    placed_at = coalesce(to_timestamp(j.placed_at), s.placed_at),
    body_bytes = coalesce(j.body_bytes, s.body_bytes),
    not_before = case when j.recheck_secs > 0
                      then greatest(s.not_before, clock_timestamp() + make_interval(secs => j.recheck_secs)) else s.not_before end,
    quarantine_revision = case when j.quarantine is not null then j.revision when j.settle then null else s.quarantine_revision end,
    quarantine_mapping = case when j.quarantine is not null then %(mapping_version)s else s.quarantine_mapping end,
    quarantine_reason = case when j.quarantine is not null then j.quarantine when j.settle then null else s.quarantine_reason end,
    quarantined_at = case when j.quarantine is not null then clock_timestamp() else s.quarantined_at end,
    send_alone = s.send_alone or (j.quarantine is not null and j.attempt),
    attempts = s.attempts + case when j.attempt then 1 else 0 end,
    last_error = case when j.quarantine is not null then j.detail when j.settle then null else s.last_error end
from judged j, locked l
where s.destination = j.destination and s.order_key = j.order_key and l.order_key = j.order_key
returning s.order_key

-- name: reopen
-- The revision rises so that nothing that is in flight now can settle it, nor its digest be taken for the truth.
with named as materialized (
    select destination, order_key from order_sync where destination = %(destination)s and order_key = any(%(keys)s::text[])
    order by order_key for update
)
update order_sync s set
    revision = s.revision + 1,
    digest = null,
    owed_era = case when s.owed then s.owed_era else (select max(number) from era) end,
    first_change = coalesce(s.first_change, clock_timestamp()),
    not_before = greatest(s.not_before, clock_timestamp() + make_interval(secs => %(hold_secs)s))
from named where s.destination = named.destination and s.order_key = named.order_key

-- name: release_quarantines
-- A page of what another mapping version put into quarantine.
with page as materialized (
    select destination, order_key from order_sync
    where destination = %(destination)s and quarantine_revision is not null
      and quarantine_mapping is distinct from %(mapping_version)s
    order by order_key limit %(limit)s for update skip locked
)
update order_sync s set quarantine_revision = null
from page where s.destination = page.destination and s.order_key = page.order_key

-- name: owe_page
-- The next records of a destination; those of them that were ever accepted are owed anew, in the backfill. Forced ones
-- are sent whatever was accepted. The others keep their digest, so that an unchanged one costs no request; left alone
-- is what is assembled anew in any case, what was judged under this mapping (where one is named) already, and what a
-- person has the API keep as it is until it changes.
with page as materialized (
    select destination, order_key,
           accepted_at is not null and quarantine_revision is distinct from revision
               and (%(forced)s or ((request_id is not null or (revision = settled_revision and hold is distinct from 'discarded'))
                    and (%(mapping_version)s::text is null or mapping_version is distinct from %(mapping_version)s))) as wanted
    from order_sync
    where destination = %(destination)s and order_key > %(after)s
    order by order_key limit %(limit)s
), locked as materialized (
    select s.destination, s.order_key from order_sync s join page p on p.destination = s.destination and p.order_key = s.order_key
    where p.wanted
    order by s.order_key for update of s
), owed as (
    update order_sync s set
        revision = s.revision + 1,
        digest = case when not %(forced)s then s.digest end,
        lane = case when s.owed then s.lane else 1 end,
        owed_era = case when s.owed then s.owed_era else (select max(number) from era) end,
        first_change = coalesce(s.first_change, clock_timestamp()),
        due_at = case when s.owed then s.due_at else clock_timestamp() end
    from locked l where s.destination = l.destination and s.order_key = l.order_key
    returning 1
)
select (select max(order_key) from page), (select count(*) from page), (select count(*) from owed)

-- name: drift
select missing, extra, different, extract(epoch from at)::float8 from reconciliation
where destination = %(destination)s order by id desc limit 1

-- name: release_parked
-- A page of what is parked for one reason, oldest first. Moments apart, so that they are due in that very order.
with t as materialized (select clock_timestamp() as now),
page as materialized (
    select destination, order_key, placed_at from order_sync
    where destination = %(destination)s and parked and hold = %(hold)s
      and placed_at >= to_timestamp(%(since)s) and placed_at < to_timestamp(%(until)s)
    order by placed_at limit %(limit)s for update skip locked
), numbered as (select *, row_number() over (order by placed_at, order_key) as n from page)
update order_sync s set
    parked_revision = null, hold = null, hold_detail = null, hold_since = null,
    not_before = greatest(s.not_before, t.now + n.n * interval '1 microsecond')
from t, numbered n where s.destination = n.destination and s.order_key = n.order_key
returning n.n, s.order_key, extract(epoch from s.placed_at)::float8

-- name: remember_reached
update destination set backfill_reached = greatest(backfill_reached, to_timestamp(%(reached)s))
where id = %(destination)s and backfill_since = to_timestamp(%(since)s) and backfill_until = to_timestamp(%(until)s)

-- name: count_held
select count(*) from order_sync where destination = %(destination)s and hold = 'held' and not owed

-- name: lost
-- Orders that may stand at the API from a future that was lost, and of which no void can be made.
select count(*) from order_sync where destination = %(destination)s and hold = 'lost' and not owed

-- name: drop_old_requests
select drop_old_requests(make_interval(secs => %(keep_secs)s))

-- name: purge_actions
-- A page of operators' actions older than they are kept.
delete from operator_action where id in (
    select id from operator_action where at < clock_timestamp() - make_interval(secs => %(keep_secs)s) order by id limit 1000
)

-- name: counts
-- Owed orders by what they wait for, without the parked ones. A quarantine that a change has ended is not counted as one.
select lane,
       count(*) filter (where request_id is not null),
       count(*) filter (where request_id is null and quarantine_revision is not distinct from revision),
       count(*) filter (where request_id is null and quarantine_revision is distinct from revision and hold = 'waiting'),
       count(*) filter (where request_id is null and quarantine_revision is distinct from revision
                        and hold is distinct from 'waiting'),
       extract(epoch from clock_timestamp() - min(coalesce(first_change, case when request_id is not null then sent_first_change end))
               filter (where quarantine_revision is distinct from revision))::float8,
       extract(epoch from clock_timestamp() - min(hold_since) filter (
           where request_id is null and quarantine_revision is distinct from revision and hold = 'waiting'))::float8
from order_sync where destination = %(destination)s and owed and not parked
group by lane

-- name: hold_ages
-- Since when all of a destination is held, in seconds of age; null where it is not.
select extract(epoch from clock_timestamp() - case when paused then paused_at end)::float8,
       extract(epoch from clock_timestamp() - halted_at)::float8,
       extract(epoch from clock_timestamp() - (select min(target_since) from kafka_position
                                               where target_until > clock_timestamp() and halted is null))::float8
from destination where id = %(destination)s

-- name: parked
select hold, count(*), coalesce(sum(body_bytes), 0)::bigint,
       extract(epoch from clock_timestamp() - min(hold_since))::float8
from order_sync where destination = %(destination)s and parked
group by hold
