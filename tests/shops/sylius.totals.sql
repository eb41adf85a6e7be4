-- The money of every order by Sylius's own figures, one JSON object an order: what a document of it has to add up to.
--   expectation  document, void (cancelled) or absent (a cart, or never paid)
--   net          all lines without tax, after every promotion
--   refunds      what the credit memos say, at the last one's time: when an earlier refund was is not known of rows that
--                a capture saw long after they were written
-- Other columns than the mapping's: prices and adjustments, never the totals that lines keep of them.
with owned as (
    select a.*, coalesce(a.order_id, i.order_id, ui.order_id) as owner
    from sylius_adjustment a
    left join sylius_order_item i on i.id = a.order_item_id
    left join sylius_order_item_unit u on u.id = a.order_item_unit_id
    left join sylius_order_item ui on ui.id = u.order_item_id
),
adjustment as (
    select owner,
           sum(amount) filter (where type = 'tax') as taxes,
           sum(amount) filter (where type = 'tax' and is_neutral and shipment_id is null) as line_taxes,
           sum(amount) filter (where type like '%promotion') as promotions,
           sum(amount) filter (where type like '%promotion' and shipment_id is null) as line_promotions,
           sum(case when type = 'tax' then 0 - is_neutral::int else 1 end * amount) filter (where shipment_id is not null)
               as shipping
    from owned group by owner
),
line as (
    select i.order_id, sum(i.unit_price * i.quantity) as worth,
           jsonb_agg(jsonb_build_array(v.code, i.quantity)) as items
    from sylius_order_item i join sylius_product_variant v on v.id = i.variant_id group by i.order_id
),
memo as (
    select order_id, max(issued_at) at time zone 'UTC' as at, sum(total) as total
    from sylius_refund_credit_memo group by order_id
)
select jsonb_build_object(
    'number', coalesce(o.number, o.id::text),
    'order_id', coalesce(o.number, o.id::text),
    'expectation', case
        when o.state = 'cancelled' then 'void'
        when o.state = 'cart' or o.payment_state = 'awaiting_payment' then 'absent'
        else 'document' end,
    'placed', o.checkout_completed_at at time zone 'UTC',
    'total', o.total / 100.0,
    'tax', coalesce(a.taxes, 0) / 100.0,
    'shipping', coalesce(a.shipping, 0) / 100.0,
    'discount', -coalesce(a.promotions, 0) / 100.0,
    'net', (line.worth + coalesce(a.line_promotions, 0) - coalesce(a.line_taxes, 0)) / 100.0,
    'fees', 0,
    'lines', line.items,
    'refunds', case when memo is null then '[]' else jsonb_build_array(jsonb_build_array(memo.at, memo.total / 100.0)) end)::text
from sylius_order o
join line on line.order_id = o.id
left join adjustment a on a.owner = o.id
left join memo on memo.order_id = o.id
order by o.number
