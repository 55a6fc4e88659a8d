'use strict';

// A backend that signs with its own key and verifies the platform's signature,
// as it would against WeChat Pay itself, only with another base URL: creates,
// queries and closes basic and combine Native orders through the gateway.

const assert = require('assert/strict');
const test = require('node:test');
const { generateKeyPairSync } = require('crypto');
const { Formatter, Rsa } = require('wechatpay-axios-plugin');
const { setting, pem } = require('./settings');
const {
  platformKeys, client, signedBy, refusal,
} = require('./gateway');

const gateway = setting('GATEWAY_URL');
const mchid = setting('MCHID');
const appid = setting('APPID');
const serial = setting('CALLER_SERIAL');
const privateKey = pem('CALLER_KEY');
const run = Date.now().toString(36).toUpperCase(); // order numbers are used once
const stranger = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
});

const basic = (number, total = 100) => ({
  mchid,
  appid,
  out_trade_no: number,
  description: '测试商品 "引号" 和 \\ 斜杠',
  amount: { total, currency: 'CNY' },
});

const combine = (number) => ({
  combine_appid: appid,
  combine_mchid: mchid,
  combine_out_trade_no: number,
  sub_orders: [600, 1234].map((total, i) => ({
    mchid,
    out_trade_no: `${number}-${i + 1}`,
    description: `子单 ${i + 1}`,
    attach: '附加数据',
    amount: { total_amount: total, currency: 'CNY' },
  })),
});

async function basicOrder(wxpay, platform, number) {
  const transactions = wxpay.v3.pay.transactions;
  const made = await transactions.native.post(basic(number));
  assert.equal(made.status, 200);
  assert.match(made.data.code_url, /^weixin:\/\//);
  signedBy(made, platform);

  const again = await transactions.native.post(basic(number));
  assert.equal(again.status, 200, 'the same number with the same parameters may be sent again');

  const order = transactions.outTradeNo['{out_trade_no}'];
  const found = await order.get({ params: { mchid }, out_trade_no: number });
  assert.equal(found.data.out_trade_no, number);
  assert.equal(found.data.trade_state, 'NOTPAY');
  signedBy(found, platform);

  const closed = await order.close.post({ mchid }, { out_trade_no: number });
  assert.equal(closed.status, 204);
  signedBy(closed, platform);

  const gone = await order.get({ params: { mchid }, out_trade_no: number });
  assert.equal(gone.data.trade_state, 'CLOSED');
}

async function combineOrder(wxpay, platform, number) {
  const transactions = wxpay.v3.combineTransactions;
  const body = combine(number);
  const made = await transactions.native.post(body);
  assert.equal(made.status, 200);
  assert.match(made.data.code_url, /^weixin:\/\//);
  signedBy(made, platform);

  const order = transactions.outTradeNo['{number}'];
  const found = await order.get({ number });
  assert.equal(found.data.combine_out_trade_no, number);
  assert.deepEqual(
    found.data.sub_orders.map((sub) => [sub.out_trade_no, sub.trade_state, sub.amount.total_amount]),
    body.sub_orders.map((sub) => [sub.out_trade_no, 'NOTPAY', sub.amount.total_amount]),
  );
  signedBy(found, platform);

  const closed = await order.close.post(
    { combine_appid: appid, sub_orders: body.sub_orders.map((sub) => ({ mchid: sub.mchid, out_trade_no: sub.out_trade_no })) },
    { number },
  );
  assert.equal(closed.status, 204);
  signedBy(closed, platform);

  const gone = await order.get({ number });
  assert.deepEqual(gone.data.sub_orders.map((sub) => sub.trade_state), ['CLOSED', 'CLOSED']);
}

test('orders through the gateway', async (t) => {
  for (const [mode, platform] of Object.entries(await platformKeys())) {
    const wxpay = client(platform);
    const tag = mode === 'certificate' ? 'C' : 'P';
    await t.test(`basic, answers verified by ${mode}`, () => basicOrder(wxpay, platform, `B${tag}_*-${run}`));
    await t.test(`combine, answers verified by ${mode}`, () => combineOrder(wxpay, platform, `M${tag}_*|-${run}`));
    await t.test(`the plugin does verify: another ${mode} under the same serial`, async () => {
      const doubter = client({ id: platform.id, pem: stranger.publicKey });
      await assert.rejects(
        doubter.v3.pay.transactions.native.post(basic(`D${tag}-${run}`)),
        { code: 'EV3_RES_HEADER_SIGNATURE_DIGEST' },
      );
    });
  }
});

test('WeChat Pay\'s own refusals come through', async () => {
  const platform = (await platformKeys())['public key'];
  const answer = await refusal(client(platform).v3.pay.transactions.outTradeNo['{number}']
    .get({ params: { mchid }, number: `NONE-${run}` }));
  assert.equal(answer.status, 404);
  assert.equal(answer.data.code, 'ORDER_NOT_EXIST');
  assert.equal(answer.headers['wechatpay-gateway-refused'], undefined);
  assert.equal(answer.headers['wechatpay-serial'], platform.id);
});

test('the gateway\'s refusals', async (t) => {
  const platform = (await platformKeys())['public key'];
  const refused = (answer, status) => {
    assert.equal(answer.status, status);
    assert.ok(answer.data.code && answer.data.message, 'WeChat-shaped');
    assert.ok(answer.headers['wechatpay-gateway-refused'], 'names its rule');
  };
  const callers = {
    'a key that is not the caller\'s': { privateKey: stranger.privateKey },
    'a serial of nobody': { serial: 'DEADBEEF00000000000000000000000000000000' },
    'another mchid': { mchid: '1900009999' },
  };
  for (const [name, config] of Object.entries(callers)) {
    await t.test(name, async () => {
      const wxpay = client(platform, config);
      refused(await refusal(wxpay.v3.pay.transactions.native.post(basic(`R-${run}`))), 401);
    });
  }
  await t.test('an operation that is not allowed', async () => {
    const body = { out_trade_no: `R-${run}`, out_refund_no: `RR-${run}`, amount: { refund: 1, total: 100, currency: 'CNY' } };
    refused(await refusal(client(platform).v3.refund.domestic.refunds.post(body)), 403);
  });
  await t.test('a path that nobody knows', async () => {
    refused(await refusal(client(platform).v3.no.such.operation.post({})), 403);
  });

  const changes = {
    'a body other than the signed one': { body: JSON.stringify(basic(`T-${run}`, 1)) },
    'a path other than the signed one': { path: '/v3/pay/transactions/native?x=1' },
    'a timestamp 301 seconds old': { age: 301 },
    'a timestamp 310 seconds ahead': { age: -310 },
  };
  for (const [name, change] of Object.entries(changes)) {
    await t.test(name, async () => {
      const signed = JSON.stringify(basic(`T-${run}`, 100));
      const timestamp = Formatter.timestamp() - (change.age || 0);
      const nonce = Formatter.nonce();
      const path = '/v3/pay/transactions/native';
      const signature = Rsa.sign(Formatter.request('POST', path, timestamp, nonce, signed), privateKey);
      const answer = await fetch(gateway + (change.path || path), {
        method: 'POST',
        headers: {
          Authorization: Formatter.authorization(mchid, nonce, signature, timestamp, serial),
          'Content-Type': 'application/json',
          Accept: 'application/json',
        },
        body: change.body || signed,
      });
      refused({ status: answer.status, data: await answer.json(), headers: Object.fromEntries(answer.headers) }, 401);
    });
  }
  await t.test('and none of them made an order', async () => {
    for (const number of [`R-${run}`, `T-${run}`]) {
      const answer = await refusal(client(platform).v3.pay.transactions.outTradeNo['{number}']
        .get({ params: { mchid }, number }));
      assert.equal(answer.status, 404);
    }
  });
});
