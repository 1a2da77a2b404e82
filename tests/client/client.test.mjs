// The published client's own code against a running server. SCENARIO (JSON): who logs in, and the orders they have.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { Shopper } from './shopper.mjs';

const { email, password, orders, guest } = JSON.parse(process.env.SCENARIO);
const server = process.env.COMMERCE_URL;
let cookies;
let reason;

/** A window of the shopper who has logged in: each with what it has sent, so that they do not mix. */
function window(...names) {
  const shopper = new Shopper();
  for (const name of names.length ? names : cookies.keys()) shopper.jar.set(name, cookies.get(name));
  return shopper;
}

const paths = (shopper) => shopper.sent.map((one) => one.url.slice(server.length));
const statuses = (shopper) => shopper.sent.map((one) => one.status);

/** What the theme's dialog sends for a line; ids of its selects are strings. */
function wish(order, type = 'cancel') {
  return { cancellation_type: type, order_item: order.line, reason, description: '' };
}
const cancelling = (order, type) => ({ id: order.number, return_policy: true, cancel_order_items: [wish(order, type)] });

before(async () => {
  const first = await new Shopper().visit();
  const user = await first.logIn(email, password);
  assert.equal(user.email, email);
  assert.match(first.jar.get('osessionid'), /^\w+$/);
  assert.equal(first.jar.get('sessionid'), first.jar.get('osessionid'));
  assert.equal(first.sent.at(-1).headers.cookie, `osessionid=${first.jar.get('osessionid')}`);
  cookies = first.jar;
  const { data } = await first.ask('getCancellationReasons');
  assert.equal(data.next, null);
  assert.ok(data.results.every((one) => one.id && one.subject && typeof one.cancellation_type === 'string'));
  reason = String(data.results[0].id);
});

describe('reading', { concurrency: true }, () => {
  it('lists orders by page and date, with the spaces that it puts into the query', async () => {
    const shopper = window();
    const { data } = await shopper.ask('getOrders', {
      page: 1,
      limit: 3,
      createdDate: '2000-01-01',
      endDate: '2999-01-01'
    });
    assert.deepEqual(paths(shopper), [
      '/users/orders/?page=1&limit=3+&created_date__gte=2000-01-01+&created_date__lte=2999-01-01'
    ]);
    assert.equal(data.results.length, 3);
    assert.equal(data.count, Object.keys(orders).length);
    assert.ok(data.results.every((one) => Number.isInteger(one.id) && one.status.label && one.orderitem_set.length));
  });

  it('shows an order by its id, with all that the theme reads without looking', async () => {
    const { data } = await window().ask('getOrder', String(orders.fresh.id));
    const [item] = data.orderitem_set;
    assert.equal(data.number, orders.fresh.number);
    assert.ok(data.shipping_address.township.name !== undefined && data.shipping_address.district.name !== undefined);
    assert.ok(item.product.attributes && item.shipping_company.label !== undefined);
    assert.deepEqual([item.is_cancellable, item.is_refundable], [true, false]);
    const arrived = (await window().ask('getOrder', String(orders.delivered.id))).data.orderitem_set[0];
    assert.deepEqual([arrived.is_cancellable, arrived.is_refundable], [false, true]);
  });

  it('is the same shopper under either cookie', async () => {
    for (const name of ['osessionid', 'sessionid']) {
      const { data } = await window(name).ask('getOrders', {});
      assert.equal(data.count, Object.keys(orders).length);
    }
  });

  it('fetches the completed order by its signed number', async () => {
    const shopper = window();
    const { data } = await shopper.ask('fetchCheckoutResult', orders.fresh.token);
    assert.equal(data.order.number, orders.fresh.number);
    assert.deepEqual(data.campaigns, []);
    assert.match(paths(shopper)[0], /^\/orders\/completed\/[\w:-]+\/\?format=json$/);
  });

  it('tracks a guest’s order, form-encoded and without a session', async () => {
    const shopper = new Shopper();
    const { data } = await shopper.ask('getAnonymousTracking', { email: guest.email, number: Number(guest.number) });
    assert.equal(data[0].number, guest.number);
    assert.deepEqual(paths(shopper), ['/users/orders/anonymous/']);
  });

  it('has an address book', async () => {
    const { data } = await window().ask('getAddresses');
    assert.ok(Array.isArray(data.results));
  });
});

describe('cancelling', { concurrency: true }, () => {
  it('cancels at once: 204, which its proxy makes an empty success', async () => {
    const shopper = window();
    assert.deepEqual(await shopper.ask('cancelOrder', cancelling(orders.fresh)), { data: {}, error: undefined });
    assert.deepEqual(statuses(shopper), [204]);
    assert.deepEqual(paths(shopper), [`/orders/${orders.fresh.number}/cancel/`]);
    assert.equal(shopper.sent[0].headers.origin, undefined);
    assert.equal(shopper.sent[0].headers['x-csrftoken'], cookies.get('csrftoken'));
  });

  it('asks for what is being prepared and for what has arrived: 200 with the list', async () => {
    for (const [order, type] of [[orders.preparing, 'cancel'], [orders.delivered, 'refund']]) {
      const shopper = window();
      const { data } = await shopper.ask('cancelOrder', cancelling(order, type));
      assert.deepEqual(statuses(shopper), [200]);
      assert.deepEqual(data.map((one) => one.status.value), ['open']);
    }
    const { data } = await window().ask('getOrder', String(orders.delivered.id));
    assert.equal(data.orderitem_set[0].active_cancellation_request.cancellation_type.value, 'refund');
  });

  it('is told why not, four times over: 400', async () => {
    const shopper = window();
    const { error } = await shopper.ask('cancelOrder', cancelling(orders.gone));
    assert.equal(error.status, 400);
    assert.deepEqual(error.data.non_field_errors, ['Order already cancelled!']);
    assert.ok(Object.values(error.data).every(Array.isArray));
    assert.deepEqual(statuses(shopper), [400, 400, 400, 400]);
  });

  it('gets the first outcome again after answers were lost, and nothing happens twice', async () => {
    const shopper = window();
    shopper.losing = 2;
    assert.deepEqual(await shopper.ask('cancelOrder', cancelling(orders.lost)), { data: {}, error: undefined });
    assert.deepEqual(statuses(shopper), [204, 204, 204]);
    assert.deepEqual(shopper.sent.map((one) => one.replayed), [false, true, true]);
  });

  it('asks in bulk, across orders, also after a lost answer: 201 with the list', async () => {
    const shopper = window();
    shopper.losing = 1;
    const items = [wish(orders.bulk), wish(orders.sent, 'refund')].map((one) => ({
      ...one,
      order_item: String(one.order_item)
    }));
    const { data } = await shopper.ask('bulkCancellation', {
      id: orders.bulk.number,
      return_policy: true,
      cancel_order_items: items
    });
    assert.deepEqual(data.map((one) => one.order_item), [orders.bulk.line, orders.sent.line]);
    assert.deepEqual(statuses(shopper), [201, 201]);
    assert.deepEqual(paths(shopper), Array(2).fill('/users/orders/bulk_cancellation_requests/'));
  });

  it('finds no order that is not its own: 404', async () => {
    const shopper = window();
    const { error } = await shopper.ask('getOrder', String(guest.id));
    assert.equal(error.status, 404);
    assert.deepEqual(statuses(shopper), [404, 404, 404, 404]);
  });

  it('hears that nobody is logged in: 401, which signs it out; never a redirect to a page', async () => {
    const shopper = await new Shopper().visit();
    const { error } = await shopper.ask('cancelOrder', cancelling(orders.kept));
    assert.equal(error.status, 401);
    assert.ok(statuses(shopper).slice(1).every((status) => status === 401));
  });
});
