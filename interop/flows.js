'use strict';

// A backend's whole day through the gateway, by the plugin alone: every step of
// the combine guide (合单支付开发指引) by every way to pay, refunds with all their
// endings, bills, uploads. The plugin signs each request with the caller's own
// key and verifies each answer with the platform's.

const assert = require('assert/strict');
const test = require('node:test');
const { createHash, X509Certificate } = require('crypto');
const { gunzipSync } = require('zlib');
const { Aes: { AesGcm }, FormData, Rsa } = require('wechatpay-axios-plugin');
const { setting } = require('./settings');
const {
  keysOf, platformKeys, client, signedBy, refusal,
} = require('./gateway');
const { Backend } = require('./backend');

const mchid = setting('MCHID');
const appid = setting('APPID');
const miniAppid = setting('MINI_APPID');
const provider = setting('PROVIDER_MCHID');
const subMchid = setting('SUB_MCHID');
const openid = 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o';
const miniOpenid = 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6m'; // the same user's, in the mini program
const run = Date.now().toString(36).toUpperCase(); // order numbers are used once

let backend;
test.before(async () => {
  const platform = Object.values(await platformKeys());
  backend = new Backend({
    certs: Object.fromEntries(platform.map(({ id, pem: key }) => [id, key])),
    apiv3: (await keysOf(mchid)).apiv3_key,
  });
  await backend.listen();
});
test.after(() => backend.close());

/** What a user with a phone, and the platform's operators, do. */
async function sandbox(act, body) {
  const answer = await fetch(`${setting('SANDBOX_URL')}/sandbox/control/${act}`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.text());
}

/** One of the gateway's own refusals. */
async function ruled(promise, status, rule) {
  const answer = await refusal(promise);
  assert.equal(answer.status, status, JSON.stringify(answer.data));
  assert.equal(answer.headers['wechatpay-gateway-refused'], rule);
  assert.ok(answer.data.code && answer.data.message, 'WeChat-shaped');
  return answer;
}

/** An answer that came through whole. */
function answered(answer, platform, status = 200) {
  assert.equal(answer.status, status);
  signedBy(answer, platform);
  return answer.data;
}

const combine = (number, more = {}) => ({
  combine_appid: appid,
  combine_mchid: mchid,
  combine_out_trade_no: number,
  sub_orders: [600, 1234].map((total, i) => ({
    mchid,
    out_trade_no: `${number}-${i + 1}`,
    description: `子单 ${i + 1} "引号"`,
    attach: '附加数据',
    amount: { total_amount: total, currency: 'CNY' },
  })),
  ...more,
});

const basic = (number, more = {}) => ({
  mchid, appid, out_trade_no: number, description: '图书', amount: { total: 100, currency: 'CNY' }, ...more,
});

const scene = { payer_client_ip: '203.0.113.9', h5_info: { type: 'Wap' } };

// Every way to pay of the guide; a mini program orders through the jsapi path,
// with its own appid.
const ways = {
  native: { path: 'native', want: 'code_url' },
  jsapi: { path: 'jsapi', want: 'prepay_id', more: { combine_payer_info: { openid } } },
  'mini program': { path: 'jsapi', want: 'prepay_id', more: { combine_appid: miniAppid, combine_payer_info: { openid: miniOpenid } } },
  app: { path: 'app', want: 'prepay_id' },
  h5: { path: 'h5', want: 'h5_url', more: { scene_info: scene } },
};

/** Applies for a refund, follows it to its end, and queries it. */
async function refundTo(status, wxpay, platform, body, query = {}) {
  const applied = answered(await wxpay.v3.refund.domestic.refunds.post(body), platform);
  assert.equal(applied.status, 'PROCESSING', 'an accepted refund is not yet a successful one');
  assert.equal(applied.amount.refund, body.amount.refund);
  const event = await backend.wait(`REFUND.${status}`, { out_refund_no: body.out_refund_no });
  assert.equal(event.headers['wechatpay-gateway-kind'], 'refund');
  assert.equal(event.resource.refund_status, status);
  assert.equal(event.resource.amount.refund, body.amount.refund);
  const found = answered(await wxpay.v3.refund.domestic.refunds['{number}']
    .get({ ...query, number: body.out_refund_no }), platform);
  assert.equal(found.status, status);
  assert.equal(found.refund_id, applied.refund_id);
  return found;
}

async function combineFlow(wxpay, platform, way, number) {
  const body = combine(number, way.more);
  const transactions = wxpay.v3.combineTransactions;
  const make = () => transactions[way.path].post(body);
  const made = answered(await make(), platform);
  assert.ok(made[way.want], `an answer with ${way.want}: ${JSON.stringify(made)}`);
  assert.deepEqual(answered(await make(), platform), made, 'the same order again is the same payment');
  await ruled(transactions[way.path].post(combine(number, { ...way.more, sub_orders: [...body.sub_orders].reverse().map((s) => ({ ...s, amount: { total_amount: 1, currency: 'CNY' } })) })), 409, 'number_content');

  const order = transactions.outTradeNo['{number}'];
  const before = answered(await order.get({ number }), platform);
  assert.deepEqual(before.sub_orders.map((sub) => sub.trade_state), ['NOTPAY', 'NOTPAY']);

  await sandbox('pay', { order: `${mchid}:${number}`, faults: { duplicates: 2, probes: 1, forged: 1 } });
  const event = await backend.wait('TRANSACTION.SUCCESS', { combine_out_trade_no: number });
  assert.equal(event.headers['wechatpay-gateway-kind'], 'combine');
  assert.equal(event.headers['wechatpay-gateway-amount-check'], 'matched');
  assert.deepEqual(
    event.resource.sub_orders.map((sub) => [sub.out_trade_no, sub.trade_state, sub.amount.total_amount]),
    body.sub_orders.map((sub) => [sub.out_trade_no, 'SUCCESS', sub.amount.total_amount]),
  );
  const after = answered(await order.get({ number }), platform);
  assert.deepEqual(after.sub_orders.map((sub) => sub.trade_state), ['SUCCESS', 'SUCCESS']);
  assert.deepEqual(
    after.sub_orders.map((sub) => sub.transaction_id),
    event.resource.sub_orders.map((sub) => sub.transaction_id),
  );
  await ruled(order.close.post({
    combine_appid: body.combine_appid,
    sub_orders: body.sub_orders.map((sub) => ({ mchid, out_trade_no: sub.out_trade_no })),
  }, { number }), 409, 'close_paid');

  // A combine order is refunded by its sub-orders: one by its number, one by
  // its transaction.
  const amount = { refund: 600, total: 600, currency: 'CNY' };
  await ruled(wxpay.v3.refund.domestic.refunds.post({ out_trade_no: number, out_refund_no: `RC${number}`, amount }), 409, 'refund_combine');
  await ruled(wxpay.v3.refund.domestic.refunds.post({
    out_trade_no: `${number}-1`, out_refund_no: `RX${number}`, amount: { refund: 601, total: 600, currency: 'CNY' },
  }), 409, 'refund_total');
  await refundTo('SUCCESS', wxpay, platform, {
    out_trade_no: `${number}-1`, out_refund_no: `R1${number}`, reason: '商品已售完', amount,
  });
  await refundTo('SUCCESS', wxpay, platform, {
    transaction_id: after.sub_orders[1].transaction_id,
    out_refund_no: `R2${number}`,
    amount: { refund: 34, total: 1234, currency: 'CNY' },
  });
  const refunded = answered(await order.get({ number }), platform);
  assert.deepEqual(refunded.sub_orders.map((sub) => sub.trade_state), ['REFUND', 'REFUND']);
}

test('the combine guide', async (t) => {
  const platforms = Object.values(await platformKeys());
  let turn = 0;
  for (const [name, way] of Object.entries(ways)) {
    const platform = platforms[turn % platforms.length];
    turn += 1;
    await t.test(name, () => combineFlow(client(platform), platform, way, `C${turn}_*|-${run}`));
  }
  await t.test('close, with the list that the gateway fills in', async () => {
    const platform = platforms[0];
    const number = `CC-${run}`;
    const wxpay = client(platform);
    answered(await wxpay.v3.combineTransactions.native.post(combine(number)), platform);
    const order = wxpay.v3.combineTransactions.outTradeNo['{number}'];
    answered(await order.close.post({ combine_appid: appid }, { number }), platform, 204);
    const gone = answered(await order.get({ number }), platform);
    assert.deepEqual(gone.sub_orders.map((sub) => sub.trade_state), ['CLOSED', 'CLOSED']);
  });
  await t.test('an openid of another app', async () => {
    const body = combine(`CO-${run}`, { combine_appid: miniAppid, combine_payer_info: { openid } });
    await ruled(client(platforms[0]).v3.combineTransactions.jsapi.post(body), 409, 'openid_appid');
  });
  await t.test('too many sub-orders', async () => {
    const { sub_orders: [sub], ...body } = combine(`CM-${run}`);
    const many = Array.from({ length: 11 }, (_, i) => ({ ...sub, out_trade_no: `CM${i}-${run}` }));
    const wxpay = client(platforms[0]);
    await ruled(wxpay.v3.combineTransactions.native.post({ ...body, sub_orders: many }), 400, 'sub_order_count');
  });
});

test('a callback as WeChat Pay sent it, verified and opened by the plugin', async () => {
  const [platform] = Object.values(await platformKeys());
  const number = `RAW-${run}`;
  const made = await client(platform).v3.combineTransactions.native
    .post(combine(number, { notify_url: setting('RAW_NOTIFY_URL') }));
  answered(made, platform);
  await sandbox('pay', { order: number });
  const event = await backend.wait('TRANSACTION.SUCCESS', { combine_out_trade_no: number });
  assert.ok(event.raw);
  assert.equal(event.resource_type, 'encrypt-resource');
  assert.deepEqual(event.resource.sub_orders.map((sub) => sub.amount.total_amount), [600, 1234]);
});

test('basic orders by every way, queried by transaction', async () => {
  const [platform] = Object.values(await platformKeys());
  const { transactions } = client(platform).v3.pay;
  const basics = {
    native: {}, app: {}, jsapi: { payer: { openid } }, h5: { scene_info: scene },
  };
  for (const [path, more] of Object.entries(basics)) {
    const number = `B-${path}-${run}`;
    answered(await transactions[path].post(basic(number, more)), platform);
    await sandbox('pay', { order: number });
    const event = await backend.wait('TRANSACTION.SUCCESS', { out_trade_no: number });
    const found = answered(await transactions.id['{id}'].get({ params: { mchid }, id: event.resource.transaction_id }), platform);
    assert.equal(found.out_trade_no, number);
    assert.equal(found.trade_state, 'SUCCESS');
  }
});

/** A paid basic order of 100 fen. */
async function paidOrder(wxpay, platform, number) {
  answered(await wxpay.v3.pay.transactions.native.post(basic(number)), platform);
  await sandbox('pay', { order: number });
  return (await backend.wait('TRANSACTION.SUCCESS', { out_trade_no: number })).resource;
}

const partly = (number, refund, more = {}) => ({
  out_trade_no: number, out_refund_no: `R-${number}`, amount: { refund, total: 100, currency: 'CNY' }, ...more,
});

test('refunds', async (t) => {
  const { 'public key': platform, certificate } = await platformKeys();
  const wxpay = client(platform);
  const { refunds } = wxpay.v3.refund.domestic;

  await t.test('a number is good for one refund', async () => {
    const number = `P-${run}`;
    await paidOrder(wxpay, platform, number);
    const first = await refundTo('SUCCESS', wxpay, platform, partly(number, 30));
    const again = answered(await refunds.post(partly(number, 30)), platform);
    assert.equal(again.refund_id, first.refund_id);
    await ruled(refunds.post(partly(number, 31)), 409, 'refund_content');
    await ruled(refunds.post(partly(number, 71, { out_refund_no: `R2-${number}` })), 409, 'refund_total');
    const soon = await ruled(refunds.post(partly(number, 70, { out_refund_no: `R2-${number}` })), 429, 'refund_interval');
    assert.ok(Number(soon.headers['retry-after']) > 0 && Number(soon.headers['retry-after']) <= 60);
  });

  await t.test('CLOSED', async () => {
    const number = `PC-${run}`;
    await paidOrder(wxpay, platform, number);
    await sandbox('refund-plan', { status: 'CLOSED', count: 1 });
    await refundTo('CLOSED', wxpay, platform, partly(number, 100));
    await ruled(refunds.post(partly(number, 100)), 409, 'refund_closed');
  });

  for (const [name, key] of Object.entries({ 'public key': platform, certificate })) {
    await t.test(`ABNORMAL, then to a bank card that the plugin encrypts with the ${name}`, async () => {
      const number = `PA${name[0]}-${run}`;
      await paidOrder(wxpay, platform, number);
      await sandbox('refund-plan', { status: 'ABNORMAL', count: 1 });
      const abnormal = await refundTo('ABNORMAL', wxpay, platform, partly(number, 100));
      const secret = (text) => Rsa.encrypt(text, Rsa.from(key.pem, Rsa.KEY_TYPE_PUBLIC));
      const tried = answered(await client(key).v3.refund.domestic.refunds['{id}'].applyAbnormalRefund.post({
        out_refund_no: `R-${number}`,
        type: 'USER_BANK_CARD',
        bank_type: 'ICBC_DEBIT',
        bank_account: secret('6222020000000000000'),
        real_name: secret('张三'),
      }, { id: abnormal.refund_id }), key);
      assert.equal(tried.status, 'PROCESSING');
      const event = await backend.wait('REFUND.SUCCESS', { out_refund_no: `R-${number}` });
      assert.equal(event.resource.refund_id, abnormal.refund_id);
    });
  }

  await t.test('of nothing that was paid', async () => {
    const number = `PN-${run}`;
    answered(await wxpay.v3.pay.transactions.native.post(basic(number)), platform);
    await ruled(refunds.post(partly(number, 100)), 409, 'refund_not_paid');
  });
});

test('bills', async (t) => {
  const [platform] = Object.values(await platformKeys());
  const wxpay = client(platform);
  const paid = await paidOrder(wxpay, platform, `BILL-${run}`);
  const day = paid.success_time.slice(0, 10);
  const sha1 = (bytes) => createHash('sha1').update(bytes).digest('hex');
  for (const [name, params] of Object.entries({
    tradebill: { bill_type: 'ALL' },
    'tradebill, gzip': { bill_type: 'SUCCESS', tar_type: 'GZIP' },
    fundflowbill: { account_type: 'BASIC' },
  })) {
    await t.test(name, async () => {
      const applied = answered(await wxpay.v3.bill[name.split(',')[0]]
        .get({ params: { bill_date: day, ...params } }), platform);
      assert.equal(applied.hash_type, 'SHA1');
      const link = new URL(applied.download_url);
      // The plugin keeps the path of the link, and the gateway is its host.
      const file = await wxpay.v3.billdownload.file.get({
        params: Object.fromEntries(link.searchParams), responseType: 'arraybuffer', decompress: false,
      });
      assert.equal(file.status, 200);
      const text = params.tar_type ? gunzipSync(file.data) : file.data;
      assert.equal(sha1(text), applied.hash_value);
      assert.ok(text.includes(paid.transaction_id), 'the day\'s payment is in it');
    });
  }
});

test('uploads, certificates, the echo', async (t) => {
  const { 'public key': platform } = await platformKeys();
  const wxpay = client(platform);
  await t.test('upload', async () => {
    const picture = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0xff, 0x2d, 0x2d, 0x0d, 0x0a]);
    const meta = { filename: '门店 1.png', sha256: createHash('sha256').update(picture).digest('hex') };
    const form = new FormData().append('meta', JSON.stringify(meta)).append('file', picture, meta.filename);
    const { media_id: id } = answered(await wxpay.v3.merchant.media.upload
      .post(form.getBuffer(), { meta, headers: form.getHeaders() }), platform);
    assert.ok(id);
  });
  await t.test('certificates', async () => {
    const { apiv3_key: key, platform_certificates: [want] } = await keysOf(mchid);
    const { data: [first] } = answered(await wxpay.v3.certificates.get(), platform);
    const { ciphertext, nonce, associated_data: aad } = first.encrypt_certificate;
    const certificate = new X509Certificate(AesGcm.decrypt(ciphertext, key, nonce, aad));
    assert.equal(certificate.serialNumber, new X509Certificate(want).serialNumber);
  });
  await t.test('echo', async () => {
    const said = answered(await wxpay.v3.security.echo.post({
      echo_message: '你好 "gateway"',
      encrypted_echo_message: Rsa.encrypt('秘密', Rsa.from(platform.pem, Rsa.KEY_TYPE_PUBLIC)),
    }), platform);
    assert.equal(said.echo_message, '你好 "gateway"');
    const { private_key: own } = await keysOf(mchid);
    assert.equal(Rsa.decrypt(said.encrypted_echo_message, Rsa.from(own, Rsa.KEY_TYPE_PRIVATE)), '秘密');
  });
});

test('a service provider', async (t) => {
  const [platform] = Object.values(await platformKeys(provider));
  const wxpay = client(platform, { mchid: provider, baseURL: setting('PROVIDER_URL') });
  const query = { sp_mchid: provider, sub_mchid: subMchid };
  const partner = (number) => ({
    ...query, sp_appid: appid, out_trade_no: number, description: '图书', amount: { total: 100, currency: 'CNY' },
  });
  const { transactions } = wxpay.v3.pay.partner;
  const order = transactions.outTradeNo['{number}'];
  await t.test('closes', async () => {
    const number = `SC-${run}`;
    answered(await transactions.native.post(partner(number)), platform);
    answered(await order.close.post(query, { number }), platform, 204);
    assert.equal(answered(await order.get({ params: query, number }), platform).trade_state, 'CLOSED');
  });
  await t.test('is paid, and refunds', async () => {
    const number = `SP-${run}`;
    answered(await transactions.native.post(partner(number)), platform);
    await sandbox('pay', { order: number });
    const event = await backend.wait('TRANSACTION.SUCCESS', { out_trade_no: number });
    assert.equal(event.headers['wechatpay-gateway-kind'], 'partner_payment');
    assert.equal(event.headers['wechatpay-gateway-sub-mchid'], subMchid);
    const found = answered(await order.get({ params: query, number }), platform);
    assert.equal(found.trade_state, 'SUCCESS');
    await refundTo('SUCCESS', wxpay, platform, partly(number, 40, { sub_mchid: subMchid }), { params: { sub_mchid: subMchid } });
  });
  await t.test('combines one sub-order', async () => {
    const number = `SM-${run}`;
    const subs = [{
      mchid: provider, sub_mchid: subMchid, out_trade_no: `${number}-1`, description: '图书', attach: 'a', amount: { total_amount: 5, currency: 'CNY' },
    }];
    answered(await wxpay.v3.combineTransactions.native.post({
      combine_appid: appid, combine_mchid: provider, combine_out_trade_no: number, sub_orders: subs,
    }), platform);
    await sandbox('pay', { order: number });
    const event = await backend.wait('TRANSACTION.SUCCESS', { combine_out_trade_no: number });
    assert.equal(event.resource.sub_orders[0].sub_mchid, subMchid);
  });
});

test('another key under the platform\'s serial: the plugin did verify', async () => {
  const { 'public key': platform, certificate } = await platformKeys();
  const doubter = client({ id: platform.id, pem: certificate.pem });
  await assert.rejects(
    doubter.v3.combineTransactions.native.post(combine(`DOUBT-${run}`)),
    { code: 'EV3_RES_HEADER_SIGNATURE_DIGEST' },
  );
});

test('each event once', () => backend.once());
