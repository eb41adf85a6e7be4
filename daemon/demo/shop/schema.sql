-- The demo shop's OMS. Money is in major units of the order's currency; times carry their zone; guests have no account.
-- An order becomes real when it is paid; before, it is a draft or pending, and may be cancelled without anybody having
-- been charged. Deleting an order takes its lines and refunds along.

create table customers (
    id          uuid primary key,
    email       text not null unique,
    name        text,
    phone       text,
    newsletter  boolean not null default false,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);

create table addresses (
    id           bigint generated always as identity primary key,
    customer_id  uuid references customers,
    recipient    text not null,
    address1     text not null,
    address2     text,
    city         text not null,
    region       text,
    zip          text not null,
    country      text not null,             -- ISO 3166 alpha-2
    updated_at   timestamptz not null default now()
);

create table products (
    id          bigint generated always as identity primary key,
    title       text not null,
    attributes  jsonb not null default '{}',
    updated_at  timestamptz not null default now()
);

create table variants (
    sku         text primary key,
    product_id  bigint not null references products,
    name        text,
    price_usd   numeric(10, 2) not null
);

create table orders (
    id                   uuid primary key,
    number               text not null unique,
    status               text not null check (status in ('draft', 'pending', 'paid', 'shipped', 'cancelled')),
    channel              text not null,
    customer_id          uuid references customers,
    guest_email          text,
    guest_phone          text,
    shipping_address_id  bigint references addresses,
    currency             text not null,
    discount             numeric(12, 2) not null default 0,
    shipping             numeric(12, 2) not null default 0,
    tax                  numeric(12, 2) not null default 0,
    total                numeric(12, 2) not null default 0,
    is_renewal           boolean not null default false,
    ip                   inet,
    details              jsonb,             -- {"tags": [...], "note": text that may be long}
    placed_at            timestamptz not null,
    paid_at              timestamptz,       -- stays when a paid order is cancelled
    shipped_at           timestamptz,
    cancelled_at         timestamptz,
    updated_at           timestamptz not null default now(),
    check (customer_id is not null or guest_email is not null)
);

create table order_lines (
    id          bigint generated always as identity primary key,
    order_id    uuid not null references orders on delete cascade,
    position    integer not null,
    sku         text not null references variants,
    quantity    integer not null check (quantity > 0),
    unit_price  numeric(12, 2) not null,    -- without tax, before discount
    discount    numeric(12, 2) not null default 0 -- of the whole line
);
create index on order_lines (order_id);

create table order_discounts (
    id        bigint generated always as identity primary key,
    order_id  uuid not null references orders on delete cascade,
    code      text,                         -- null: an automatic discount
    amount    numeric(12, 2) not null
);
create index on order_discounts (order_id);

create table payments (
    id        bigint generated always as identity primary key,
    order_id  uuid not null references orders on delete cascade,
    method    text not null,
    amount    numeric(12, 2) not null,
    paid_at   timestamptz not null
);
create index on payments (order_id);

create table refunds (
    id        bigint generated always as identity primary key,
    order_id  uuid not null references orders on delete cascade,
    status    text not null check (status in ('requested', 'done')),
    reason    text not null,
    amount    numeric(12, 2) not null,      -- all of it: lines, shipping, goodwill
    done_at   timestamptz
);
create index on refunds (order_id);

create table refund_lines (
    id             bigint generated always as identity primary key,
    refund_id      bigint not null references refunds on delete cascade,
    order_line_id  bigint not null references order_lines on delete cascade,
    quantity       integer not null,
    amount         numeric(12, 2) not null
);
create index on refund_lines (refund_id);
create index on refund_lines (order_line_id);

-- What only the comparison knows; Debezium does not read this schema.
create schema demo;

create table demo.order_kind (
    number  text not null,
    kind    text not null,
    primary key (number, kind)
);

create table demo.deleted_order (
    number       text primary key,
    customer_id  uuid,
    guest_email  text,
    currency     text not null,
    placed_at    timestamptz not null,
    paid_at      timestamptz
);

create function demo.keep_deleted_order() returns trigger language plpgsql as $$
begin
    insert into demo.deleted_order
    select old.number, old.customer_id, old.guest_email, old.currency, old.placed_at, old.paid_at;
    return old;
end $$;

create trigger keep_deleted_order before delete on orders for each row execute function demo.keep_deleted_order();
