-- The money of every order by Saleor's own figures, one JSON object an order: what a document of it has to add up to.
--   expectation  document, void (cancelled) or absent (no order yet, or never paid)
--   net          all lines without tax, after every discount; fees: in the total and nowhere else
--   refunds      what went back, and when
-- Other columns than the mapping's wherever there are some: gift cards by their events and not by subtotals, discounts by
-- the undiscounted totals and not by their rows, refunds by the provider's events and not by what was granted.
with tender as (
    select order_id, sum((parameters #>> '{balance,old_current_balance}')::numeric
                         - (parameters #>> '{balance,current_balance}')::numeric) as amount
    from giftcard_giftcardevent where type = 'used_in_order' group by order_id
),
event as (
    select i.order_id, e.* from payment_transactionevent e join payment_transactionitem i on i.id = e.transaction_id
),
refund as (
    select order_id, created_at as at, amount_value as amount
    from event e
    where type = 'refund_success' and not exists (
        select from event r where r.type = 'refund_reverse' and r.psp_reference = e.psp_reference)
    union all
    select order_id, created_at, total_refund_amount from order_fulfillment where total_refund_amount > 0
),
line as (
    select order_id, count(*) as number_of, sum(total_price_net_amount) as net,
           sum(total_price_gross_amount - total_price_net_amount) as tax, sum(total_price_gross_amount) as gross,
           jsonb_agg(jsonb_build_array(coalesce(product_sku, product_variant_id), quantity)) as items
    from order_orderline group by order_id
)
select jsonb_build_object(
    'number', o.number,
    'order_id', encode(convert_to('Order:' || o.id, 'UTF8'), 'base64'),
    'expectation', case
        when o.status = 'canceled' then 'void'
        when o.status in ('draft', 'unconfirmed', 'expired') then 'absent'
        when exists (select from event e where e.order_id = o.id and e.type = 'charge_success')
          or exists (select from payment_payment p where p.order_id = o.id and p.charge_status <> 'not-charged')
        then 'document' else 'absent' end,
    'placed', o.created_at,
    'total', o.total_gross_amount + coalesce(tender.amount, 0),
    'tax', line.tax + o.shipping_price_gross_amount - o.shipping_price_net_amount,
    'shipping', o.shipping_price_net_amount,
    'discount', o.undiscounted_total_gross_amount - line.gross - o.shipping_price_gross_amount,
    'net', line.net,
    'fees', 0,
    'lines', line.items,
    'refunds', coalesce((select jsonb_agg(jsonb_build_array(r.at, r.amount) order by r.at) from refund r where r.order_id = o.id), '[]'))::text
from order_order o
join line on line.order_id = o.id
left join tender on tender.order_id = o.id
order by o.number
