-- What the API should hold of every order that ever was, made from the OMS alone. Shares nothing with the daemon.
-- One row an order: order_id, expectation, document.
--   document  the API holds exactly this
--   void      the API holds a void of it with at least these attributes, or never heard of it
--   absent    the API must not know it: it was never paid
with line as (
    select l.id, l.order_id, l.position, l.sku, l.quantity, l.unit_price * l.quantity - l.discount as net,
           p.title, v.name as variant_name
    from order_lines l
    join variants v on v.sku = l.sku
    join products p on p.id = v.product_id
),
numbered_line as (
    select l.*, row_number() over (partition by order_id order by position, id) as place from line l
),
-- Lines that sell the same thing are one product of the document.
product as (
    select order_id, sku, min(place) as place, sum(quantity) as quantity,
           case when count(*) = 1 then round(sum(net) / sum(quantity), 6)
                else round(sum(round(net / quantity, 6) * quantity) / sum(quantity), 6) end as price,
           min(title) as name, min(variant_name) as variant_name
    from numbered_line
    group by order_id, sku
),
products as (
    select order_id,
           jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
               'id', sku, 'name', name, 'quantity', quantity, 'price', price, 'variant_name', variant_name))) as items
    from product
    group by order_id
),
money_unit as (
    select o.id as order_id, case o.currency when 'JPY' then 0 else 2 end as digits from orders o
),
refund as (
    select r.id, r.order_id, u.digits, date_trunc('milliseconds', r.done_at) as made_at,
           r.amount - coalesce((select sum(rl.amount) from refund_lines rl where rl.refund_id = r.id), 0) as unassigned
    from refunds r
    join money_unit u using (order_id)
    where r.status = 'done'
),
given_back as (
    select r.order_id, r.made_at, l.sku, sum(rl.amount) as amount
    from refund r
    join refund_lines rl on rl.refund_id = r.id
    join order_lines l on l.id = rl.order_line_id
    group by 1, 2, 3
),
-- Money that belongs to no line is spread over the products of that refund by what is given back for them, or else over
-- the order's products by what they cost, with quantity 0: each gets the difference between the rounded running totals,
-- so that the parts add up.
portion as (
    select r.id as refund_id, p.order_id, p.sku, p.place,
           case when exists (select from given_back g where g.order_id = r.order_id and g.made_at = r.made_at and g.amount <> 0)
                then coalesce((select g.amount from given_back g
                               where g.order_id = r.order_id and g.made_at = r.made_at and g.sku = p.sku), 0)
                else p.price * p.quantity end as worth
    from refund r
    join product p using (order_id)
    where r.unassigned > 0
),
weight as (
    select refund_id, sku, place, worth,
           sum(worth) over (partition by refund_id) as all_worth,
           sum(worth) over (partition by refund_id order by place) as worth_so_far,
           row_number() over (partition by refund_id order by place) as nth,
           count(*) over (partition by refund_id) as number_of
    from portion
),
spread as (
    select r.order_id, w.sku, r.made_at,
           round(case when all_worth > 0 then r.unassigned * worth_so_far / all_worth
                      else r.unassigned * nth / number_of end, r.digits)
         - round(case when all_worth > 0 then r.unassigned * (worth_so_far - worth) / all_worth
                      else r.unassigned * (nth - 1) / number_of end, r.digits) as amount
    from refund r
    join weight w on w.refund_id = r.id
),
refund_part as (
    select r.order_id, l.sku, r.made_at, rl.quantity, rl.amount
    from refund r
    join refund_lines rl on rl.refund_id = r.id
    join order_lines l on l.id = rl.order_line_id
    union all
    select order_id, sku, made_at, 0, amount from spread where amount <> 0
),
refund_row as (
    select order_id, sku, made_at, sum(quantity) as quantity, sum(amount) as amount
    from refund_part
    group by order_id, sku, made_at
),
refunds_of as (
    select order_id,
           jsonb_agg(jsonb_build_object(
               'product_id', sku, 'quantity', quantity, 'refund_amount', amount, 'refund_cost', amount,
               'refund_made_at', to_char(made_at at time zone 'UTC', case
                   when date_trunc('second', made_at) = made_at then 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
                   else 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"' end))) as items
    from refund_row
    where quantity <> 0 or amount <> 0
    group by order_id
),
codes as (
    select order_id, jsonb_agg(distinct code) as items from order_discounts where code is not null group by order_id
),
ordered as (
    select number, customer_id, guest_email, currency, placed_at, paid_at, status, id
    from orders
    union all
    select number, customer_id, guest_email, currency, placed_at, paid_at, 'deleted', null
    from demo.deleted_order
),
head as (
    select o.*,
           jsonb_build_object(
               'order_id', number,
               'customer_id', coalesce(customer_id::text,
                   'guest_' || left(encode(sha256(convert_to(lower(trim(guest_email)), 'UTF8')), 'hex'), 32)),
               'time_of_purchase', to_char(date_trunc('milliseconds', placed_at) at time zone 'UTC', case
                   when date_trunc('second', placed_at) = date_trunc('milliseconds', placed_at)
                   then 'YYYY-MM-DD"T"HH24:MI:SS"Z"' else 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"' end),
               'currency', currency) as document
    from ordered o
),
full_document as (
    select o.id,
           h.document || jsonb_strip_nulls(jsonb_build_object(
               'purchase_total', o.total,
               'tax', o.tax,
               'shipping_cost', o.shipping,
               'discount_amount', o.discount,
               'discount_codes', coalesce(codes.items, '[]'),
               'order_tags', (
                   select jsonb_agg(distinct tag)
                   from (select o.channel as tag union all select jsonb_array_elements_text(o.details -> 'tags')) as t),
               'is_recurring_order', o.is_renewal,
               'customer_email', coalesce(c.email, o.guest_email),
               'customer_phone_number', coalesce(c.phone, o.guest_phone),
               'customer_name', coalesce(c.name, a.recipient),
               'customer_ip_address', host(o.ip),
               'customer_shipping_address', case when a.id is not null then jsonb_build_object(
                   'address1', a.address1, 'address2', nullif(a.address2, ''), 'city', a.city, 'state', a.region,
                   'zip', a.zip,
                   'country_code', case a.country when 'US' then 'USA' when 'DE' then 'DEU' when 'JP' then 'JPN' end)
               end,
               'products', products.items,
               'refunds', coalesce(refunds_of.items, '[]'))) as document
    from orders o
    join head h on h.id = o.id
    left join customers c on c.id = o.customer_id
    left join addresses a on a.id = o.shipping_address_id
    left join codes on codes.order_id = o.id
    left join products on products.order_id = o.id
    left join refunds_of on refunds_of.order_id = o.id
)
select h.number as order_id,
       case when h.status in ('paid', 'shipped') then 'document'
            when h.status = 'draft' or (h.paid_at is null and not was_paid.yes) then 'absent'
            else 'void' end as expectation,
       case when h.status in ('paid', 'shipped') then f.document
            else h.document || jsonb_build_object(
                'purchase_total', 0, 'tax', 0, 'shipping_cost', 0, 'discount_amount', 0, 'refunds', '[]'::jsonb)
       end::text as document
from head h
cross join lateral (select exists (
    select from demo.order_kind k where k.number = h.number and k.kind = 'paid') as yes) as was_paid
left join full_document f on f.id = h.id
order by h.number
