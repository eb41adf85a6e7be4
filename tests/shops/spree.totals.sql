-- The money of every order by Spree's own figures, one JSON object an order: what a document of it has to add up to.
--   expectation  document, void (cancelled) or absent (a cart, or never paid)
--   net          all lines without tax, after every promotion; fees: in the total and nowhere else
--   refunds      what went back, and when
-- Other columns than the mapping's wherever there are some: promotions and taxes by the adjustments, never by the totals
-- that lines, shipments and orders keep of them.
with adjustment as (
    select order_id,
           sum(amount) filter (where source_type = 'Spree::PromotionAction') as promotions,
           sum(amount) filter (where source_type = 'Spree::TaxRate') as taxes,
           sum(amount) filter (where source_type is null) as fees,
           sum(amount) filter (where source_type = 'Spree::PromotionAction' and adjustable_type = 'Spree::Shipment')
               as shipping_promotions,
           sum(amount) filter (where included and adjustable_type = 'Spree::Shipment') as shipping_taxes,
           sum(amount) filter (where included and adjustable_type = 'Spree::LineItem') as line_taxes
    from spree_adjustments where eligible group by order_id
),
shipment as (
    select order_id, sum(cost) as cost from spree_shipments group by order_id
),
line as (
    select l.order_id, sum(l.price * l.quantity) as worth,
           jsonb_agg(jsonb_build_array(coalesce(nullif(v.sku, ''), v.id::text), l.quantity)) as items
    from spree_line_items l join spree_variants v on v.id = l.variant_id group by l.order_id
),
refund as (
    select p.order_id, coalesce(b.updated_at, r.created_at) as at, sum(r.amount) as amount
    from spree_refunds r
    join spree_payments p on p.id = r.payment_id
    left join spree_reimbursements b on b.id = r.reimbursement_id
    group by p.order_id, coalesce(b.updated_at, r.created_at)
    union all
    select b.order_id, b.updated_at, c.amount
    from spree_reimbursement_credits c join spree_reimbursements b on b.id = c.reimbursement_id
)
select jsonb_build_object(
    'number', o.number,
    'order_id', o.number,
    'expectation', case
        when o.state = 'canceled' then 'void'
        when o.completed_at is not null and exists (
            select from spree_payments p where p.order_id = o.id and p.state = 'completed') then 'document'
        else 'absent' end,
    'placed', o.completed_at at time zone 'UTC',
    'total', o.total,
    'tax', coalesce(a.taxes, 0),
    'shipping', coalesce(s.cost, 0) + coalesce(a.shipping_promotions, 0) - coalesce(a.shipping_taxes, 0),
    'discount', -coalesce(a.promotions, 0),
    'net', line.worth + coalesce(a.promotions, 0) - coalesce(a.shipping_promotions, 0) - coalesce(a.line_taxes, 0),
    'fees', coalesce(a.fees, 0),
    'lines', line.items,
    'refunds', coalesce((select jsonb_agg(jsonb_build_array(r.at at time zone 'UTC', r.amount) order by r.at) from refund r where r.order_id = o.id), '[]'))::text
from spree_orders o
join line on line.order_id = o.id
left join adjustment a on a.order_id = o.id
left join shipment s on s.order_id = o.id
order by o.number
