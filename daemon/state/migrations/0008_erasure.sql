-- Customers that were erased, by keyed hashes alone; orders of theirs whose copy at the API is yet to lose what it says of them.

create table erasure (
    hash      bytea primary key,
    customer  bytea not null,
    what      text not null,
    at        timestamptz not null default clock_timestamp()
);
comment on table erasure is 'What the fold erases. Neither a rebuild nor a new mapping touches it.';
comment on column erasure.hash is 'HMAC of a customer_id, or of a row of that customer, under the key of ingest.erase_key_env.';
comment on column erasure.customer is 'The hash of the customer_id that it belongs to.';

alter table mapping_in_force add column erasing boolean not null default false;
comment on column mapping_in_force.erasing is
    'Whether there are erasures. Every erasure updates this row: no fold that does not know of it is under way then.';

alter table order_sync
    add column erased_revision bigint not null default 0,
    add column clear           text[];
comment on column order_sync.erased_revision is 'Documents of an older revision say who the customer was: they are not sent.';
comment on column order_sync.clear is
    'Attributes that a PATCH has yet to clear at the API, once it has the document without them.';

alter table delivery_request add column clears boolean not null default false;
comment on column delivery_request.clears is 'A PATCH that clears attributes of erased customers, no POST.';
