-- The money of every order by Magento's own figures, one JSON object an order: what a document of it has to add up to.
--   expectation  document, void (cancelled) or absent (never paid)
--   net          all rows without tax, after every discount; fees: in the total and nowhere else
--   refunds      what went back, and when
-- Other columns than the mapping's wherever there are some: the rows by the order's own totals and never by rows.
with head as (
    select o.*, o.subtotal + o.discount_amount + o.shipping_discount_amount + o.discount_tax_compensation_amount as net
    from sales_order o
)
select json_object(
    'number', o.increment_id,
    'order_id', o.increment_id,
    'expectation', case
        when o.state = 'canceled' then 'void'
        when o.state in ('new', 'pending_payment', 'payment_review') then 'absent'
        else 'document' end,
    'placed', concat(o.created_at, '+00:00'),
    'total', o.grand_total,
    'tax', o.tax_amount,
    'shipping', o.grand_total - o.tax_amount - o.net,
    'discount', -o.discount_amount,
    'net', o.net,
    'fees', 0,
    'lines', (select json_arrayagg(json_array(i.sku, i.qty_ordered)) from sales_order_item i
              where i.order_id = o.entity_id and i.parent_item_id is null),
    'refunds', coalesce((select json_arrayagg(json_array(concat(m.created_at, '+00:00'), m.grand_total) order by m.created_at) from sales_creditmemo m
                         where m.order_id = o.entity_id and m.state = 2), json_array()))
from head o
order by o.entity_id
