-- The tables of Saleor 3.2x (PostgreSQL) from which an order document is made. Names and types are Saleor's; columns that
-- no document needs are left out, and so are foreign keys to tables that are not here.
-- Money is numeric(20,3) in major units beside its currency; missing text is '', seldom null.
create table account_user (
  id integer primary key,
  uuid uuid not null unique,
  email varchar(254) not null unique,
  first_name varchar(256) not null,
  last_name varchar(256) not null,
  is_active boolean not null,
  date_joined timestamptz not null,
  metadata jsonb not null default '{}');

create table account_address (
  id integer primary key,
  first_name varchar(256) not null,
  last_name varchar(256) not null,
  company_name varchar(256) not null,
  street_address_1 varchar(256) not null,
  street_address_2 varchar(256) not null,
  city varchar(256) not null,
  city_area varchar(128) not null,
  postal_code varchar(20) not null,
  country varchar(2) not null,
  country_area varchar(128) not null,
  phone varchar(128) not null);

create table product_product (
  id integer primary key,
  name varchar(250) not null,
  slug varchar(255) not null unique);

create table product_productvariant (
  id integer primary key,
  product_id integer not null references product_product,
  sku varchar(255) unique,
  name varchar(255) not null);

create table order_order (
  id uuid primary key,
  number integer not null unique,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  expired_at timestamptz,
  status varchar(32) not null,
  authorize_status varchar(32) not null,
  charge_status varchar(32) not null,
  origin varchar(32) not null,
  original_id uuid references order_order,
  user_id integer references account_user,
  user_email varchar(254) not null default '',
  billing_address_id integer references account_address,
  shipping_address_id integer references account_address,
  channel_id integer not null,
  currency varchar(3) not null,
  shipping_method_name varchar(255),
  shipping_price_net_amount numeric(20,3) not null,
  shipping_price_gross_amount numeric(20,3) not null,
  total_net_amount numeric(20,3) not null,
  total_gross_amount numeric(20,3) not null,
  undiscounted_total_net_amount numeric(20,3) not null,
  undiscounted_total_gross_amount numeric(20,3) not null,
  subtotal_net_amount numeric(20,3) not null,
  subtotal_gross_amount numeric(20,3) not null,
  total_charged_amount numeric(20,3) not null,
  total_authorized_amount numeric(20,3) not null,
  voucher_code varchar(255),
  display_gross_prices boolean not null,
  customer_note text not null,
  metadata jsonb not null default '{}');

create table order_orderline (
  id uuid primary key,
  created_at timestamptz not null,
  order_id uuid not null references order_order,
  variant_id integer references product_productvariant on delete set null,
  product_name varchar(386) not null,
  variant_name varchar(255) not null,
  product_sku varchar(255),
  product_variant_id varchar(255),
  quantity integer not null,
  quantity_fulfilled integer not null,
  is_gift boolean not null,
  is_gift_card boolean not null,
  currency varchar(3) not null,
  unit_price_net_amount numeric(20,3) not null,
  unit_price_gross_amount numeric(20,3) not null,
  total_price_net_amount numeric(20,3) not null,
  total_price_gross_amount numeric(20,3) not null,
  undiscounted_unit_price_gross_amount numeric(20,3) not null,
  undiscounted_total_price_gross_amount numeric(20,3) not null,
  unit_discount_amount numeric(20,3) not null,
  tax_rate numeric(5,4),
  voucher_code varchar(255));

create table discount_orderdiscount (
  id uuid primary key,
  order_id uuid references order_order,
  created_at timestamptz not null,
  type varchar(64) not null,
  value_type varchar(10) not null,
  value numeric(20,3) not null,
  amount_value numeric(20,3) not null,
  currency varchar(3) not null,
  name varchar(255),
  voucher_code varchar(255));

create table discount_orderlinediscount (
  id uuid primary key,
  line_id uuid references order_orderline,
  created_at timestamptz not null,
  type varchar(64) not null,
  value_type varchar(10) not null,
  value numeric(20,3) not null,
  amount_value numeric(20,3) not null,
  currency varchar(3) not null,
  name varchar(255),
  voucher_code varchar(255));

create table giftcard_giftcardevent (
  id integer primary key,
  date timestamptz not null,
  type varchar(255) not null,
  parameters jsonb not null,
  gift_card_id integer not null,
  order_id uuid references order_order);

create table payment_transactionitem (
  id integer primary key,
  token uuid not null unique,
  order_id uuid references order_order,
  created_at timestamptz not null,
  modified_at timestamptz not null,
  currency varchar(3) not null,
  psp_reference varchar(512),
  charged_value numeric(20,3) not null,
  authorized_value numeric(20,3) not null,
  refunded_value numeric(20,3) not null,
  refund_pending_value numeric(20,3) not null,
  canceled_value numeric(20,3) not null);

create table order_ordergrantedrefund (
  id integer primary key,
  order_id uuid not null references order_order,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  amount_value numeric(20,3) not null,
  currency varchar(3) not null,
  shipping_costs_included boolean not null,
  status varchar(128) not null,
  reason text not null,
  transaction_item_id integer references payment_transactionitem);

create table order_ordergrantedrefundline (
  id integer primary key,
  granted_refund_id integer not null references order_ordergrantedrefund,
  order_line_id uuid not null references order_orderline,
  quantity integer not null,
  reason text);

create table payment_transactionevent (
  id integer primary key,
  transaction_id integer not null references payment_transactionitem,
  created_at timestamptz not null,
  type varchar(128) not null,
  amount_value numeric(20,3) not null,
  currency varchar(3) not null,
  psp_reference varchar(512),
  include_in_calculations boolean not null,
  related_granted_refund_id integer references order_ordergrantedrefund);

create table order_fulfillment (
  id integer primary key,
  order_id uuid not null references order_order,
  fulfillment_order integer not null,
  created_at timestamptz not null,
  status varchar(32) not null,
  tracking_number varchar(255) not null,
  shipping_refund_amount numeric(20,3),
  total_refund_amount numeric(20,3));

create table order_fulfillmentline (
  id integer primary key,
  fulfillment_id integer not null references order_fulfillment,
  order_line_id uuid not null references order_orderline,
  quantity integer not null);

create table payment_payment (
  id integer primary key,
  order_id uuid references order_order,
  gateway varchar(255) not null,
  is_active boolean not null,
  created_at timestamptz not null,
  modified_at timestamptz not null,
  charge_status varchar(20) not null,
  total numeric(20,3) not null,
  captured_amount numeric(20,3) not null,
  currency varchar(3) not null,
  billing_email varchar(254) not null,
  customer_ip_address inet);
