'use strict';

// WeChat Pay's side, played by the plugin's crypto: callbacks that the gateway
// must accept, and tampered ones that it must refuse.
//
// The accepted plaintexts are written to ACCEPTED_FILE, one JSON line each, so
// that the Go test can hold the deliveries against them byte for byte.

const assert = require('assert/strict');
const test = require('node:test');
const { appendFileSync } = require('fs');
const { constants, createSign, generateKeyPairSync, randomUUID } = require('crypto');
const { gzipSync } = require('zlib');
const { Aes: { AesGcm }, Formatter, Rsa } = require('wechatpay-axios-plugin');
const { setting, pem } = require('./settings');

const notify = setting('NOTIFY_URL'); // ends in the merchant's name
const mchid = setting('MCHID');
const appid = setting('APPID');
const apiv3 = setting('APIV3_KEY');
const run = Date.now().toString(36).toUpperCase();

const publicKey = { id: setting('PLATFORM_PUBLIC_KEY_ID'), key: pem('PLATFORM_PUBLIC_KEY_PRIVATE') };
const certificate = { id: setting('PLATFORM_CERTIFICATE_SERIAL'), key: pem('PLATFORM_CERTIFICATE_PRIVATE') };
const merchantKey = pem('MERCHANT_KEY');
const stranger = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
}).privateKey;

let serialNumber = 0;

/** A paid basic order. Each call is another order. */
function payment(change = {}) {
  serialNumber += 1;
  return {
    mchid,
    appid,
    out_trade_no: `CB-${run}-${serialNumber}`,
    transaction_id: `4200${String(Date.now()).slice(-10)}${String(serialNumber).padStart(14, '0')}`,
    trade_type: 'NATIVE',
    trade_state: 'SUCCESS',
    trade_state_desc: '支付成功',
    bank_type: 'OTHERS',
    attach: '自定义数据 😀 <&>\u2028',
    success_time: '2030-01-02T03:04:05+08:00',
    payer: { openid: 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o' },
    amount: { total: 100, payer_total: 100, currency: 'CNY', payer_currency: 'CNY' },
    ...change,
  };
}

function combined() {
  const { out_trade_no: number, transaction_id: id } = payment();
  return {
    combine_appid: appid,
    combine_mchid: mchid,
    combine_out_trade_no: number,
    combine_payer_info: { openid: 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o' },
    scene_info: { device_id: 'POS1:1' },
    sub_orders: [600, 1234].map((total, i) => ({
      mchid,
      trade_type: 'NATIVE',
      trade_state: 'SUCCESS',
      bank_type: 'OTHERS',
      attach: '附加数据',
      success_time: '2030-01-02T03:04:05+08:00',
      transaction_id: id.slice(0, -1) + i,
      out_trade_no: `${number}-${i + 1}`,
      amount: { total_amount: total, currency: 'CNY', payer_amount: total, payer_currency: 'CNY' },
    })),
  };
}

function refund() {
  const { out_trade_no: number, transaction_id: id } = payment();
  return {
    mchid,
    out_trade_no: number,
    transaction_id: id,
    out_refund_no: `R${number}`,
    refund_id: `503${id.slice(4)}`,
    refund_status: 'SUCCESS',
    success_time: '2030-01-02T03:04:05+08:00',
    user_received_account: '招商银行信用卡0403',
    amount: { total: 100, refund: 40, payer_total: 100, payer_refund: 40 },
  };
}

/** The body of a callback: envelope with the plaintext encrypted. */
function seal(plaintext, {
  key = apiv3, nonce = Formatter.nonce(12), aad = 'transaction', envelope = {}, resource = {},
} = {}) {
  return JSON.stringify({
    id: randomUUID(),
    create_time: '2030-01-02T03:04:06+08:00',
    resource_type: 'encrypt-resource',
    event_type: 'TRANSACTION.SUCCESS',
    summary: '支付成功',
    resource: {
      original_type: 'transaction',
      algorithm: 'AEAD_AES_256_GCM',
      ciphertext: AesGcm.encrypt(plaintext, key, nonce, aad),
      associated_data: aad,
      nonce,
      ...resource,
    },
    ...envelope,
  });
}

/** The headers of a callback with this body. */
function sign(body, { platform = publicKey, age = 0, by = platform.key } = {}) {
  const timestamp = String(Formatter.timestamp() - age);
  const nonce = Formatter.nonce();
  return {
    'Content-Type': 'application/json',
    'Wechatpay-Timestamp': timestamp,
    'Wechatpay-Nonce': nonce,
    'Wechatpay-Serial': platform.id,
    'Wechatpay-Signature': Rsa.sign(Formatter.response(timestamp, nonce, body), by),
    'Wechatpay-Signature-Type': 'WECHATPAY2-SHA256-RSA2048',
  };
}

async function send(body, headers, { url = notify, method = 'POST' } = {}) {
  const answer = await fetch(url, {
    method, headers, body: method === 'GET' ? undefined : body, redirect: 'error',
  });
  return { status: answer.status, text: await answer.text() };
}

function note(kind, plaintext) {
  appendFileSync(setting('ACCEPTED_FILE'), `${JSON.stringify({ kind, plaintext })}\n`);
}

test('the gateway accepts what the plugin signs and encrypts', async (t) => {
  const text = (value) => JSON.stringify(value);
  const rows = {
    'payment, public key': { kind: 'payment', plaintext: text(payment()) },
    'payment, certificate': { kind: 'payment', plaintext: text(payment()), platform: certificate },
    'combine, public key': { kind: 'combine', plaintext: text(combined()) },
    'combine, certificate': { kind: 'combine', plaintext: text(combined()), platform: certificate },
    refund: {
      kind: 'refund',
      plaintext: text(refund()),
      aad: 'refund',
      envelope: { event_type: 'REFUND.SUCCESS', summary: '退款成功' },
      resource: { original_type: 'refund' },
    },
    'no associated data': { kind: 'payment', plaintext: text(payment()), aad: '' },
    'no original_type': { kind: 'payment', plaintext: text(payment()), resource: { original_type: undefined } },
    'no signature type': { kind: 'payment', plaintext: text(payment()), without: 'Wechatpay-Signature-Type' },
    'a timestamp 290 seconds old': { kind: 'payment', plaintext: text(payment()), age: 290 },
    'a timestamp 290 seconds ahead': { kind: 'payment', plaintext: text(payment()), age: -290 },
    'spaces and key order are WeChat Pay\'s own': { kind: 'payment', plaintext: JSON.stringify(payment(), null, 2) },
    'a coupon paid a part': {
      kind: 'payment',
      plaintext: text(payment({ amount: { total: 100, payer_total: 60, currency: 'CNY', payer_currency: 'CNY' } })),
    },
  };
  for (const [name, row] of Object.entries(rows)) {
    await t.test(name, async () => {
      const body = seal(row.plaintext, row);
      const headers = sign(body, row);
      if (row.without) delete headers[row.without];
      const answer = await send(body, headers);
      assert.equal(answer.status, 200, answer.text);
      assert.deepEqual(JSON.parse(answer.text), { code: 'SUCCESS', message: '成功' });
      note(row.kind, row.plaintext);
    });
  }
  await t.test('and repeats of one: another id, nonce, ciphertext and key', async () => {
    const plaintext = text(payment());
    for (let i = 0; i < 5; i += 1) {
      const body = seal(plaintext);
      const answer = await send(body, sign(body, { platform: i % 2 ? certificate : publicKey }));
      assert.equal(answer.status, 200, answer.text);
    }
    note('payment', plaintext);
  });
});

/** One character of a base64 text replaced by another. */
function flip(text, at) {
  return text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1);
}

const v2 = '<xml><return_code><![CDATA[SUCCESS]]></return_code><mch_id>1900000109</mch_id></xml>';

// Each row bends one thing of a right callback: `body` before it is signed,
// `forge` the signed request's headers and body, `to` where it goes.
const tampered = {
  // The request is not what was signed, or not signed by the platform: 401.
  'one byte of the body': { status: 401, forge: (h, b) => [h, b.replace('TRANSACTION.SUCCESS', 'TRANSACTION.SUCCESs')] },
  'a space after the body': { status: 401, forge: (h, b) => [h, `${b} `] },
  'the body parsed and written again': { status: 401, forge: (h, b) => [h, JSON.stringify(JSON.parse(b), null, 1)] },
  'the body without its last byte': { status: 401, forge: (h, b) => [h, b.slice(0, -1)] },
  'the body gzipped': { status: 401, forge: (h, b) => [{ ...h, 'Content-Encoding': 'gzip' }, gzipSync(b)] },
  'an empty body': { status: 401, forge: (h) => [h, ''] },
  'the timestamp, one second later': { status: 401, forge: (h, b) => [{ ...h, 'Wechatpay-Timestamp': String(+h['Wechatpay-Timestamp'] + 1) }, b] },
  'the nonce': { status: 401, forge: (h, b) => [{ ...h, 'Wechatpay-Nonce': Formatter.nonce() }, b] },
  'a stranger\'s key': { status: 401, sign: { by: stranger } },
  'the merchant\'s own key': { status: 401, sign: { by: merchantKey } },
  'the certificate\'s key under the public key\'s id': { status: 401, sign: { platform: { id: publicKey.id, key: certificate.key } } },
  'the public key under the certificate\'s serial': { status: 401, sign: { platform: { id: certificate.id, key: publicKey.key } } },
  'a serial of nobody': { status: 401, sign: { platform: { id: 'PUB_KEY_ID_0119000000000000000000000000009999', key: publicKey.key } } },
  'a sandbox\'s serial': { status: 401, sign: { platform: { id: 'PUB_KEY_ID_SANDBOX000000000000000000001', key: publicKey.key } } },
  'a timestamp 301 seconds old': { status: 401, sign: { age: 301 } },
  'a timestamp 310 seconds ahead': { status: 401, sign: { age: -310 } },
  'a timestamp in milliseconds': {
    status: 401,
    forge: (h, b) => {
      const timestamp = `${h['Wechatpay-Timestamp']}000`;
      const signature = Rsa.sign(Formatter.response(timestamp, h['Wechatpay-Nonce'], b), publicKey.key);
      return [{ ...h, 'Wechatpay-Timestamp': timestamp, 'Wechatpay-Signature': signature }, b];
    },
  },
  'a probe': { status: 401, forge: (h, b) => [{ ...h, 'Wechatpay-Signature': `WECHATPAY/SIGNTEST/${h['Wechatpay-Signature'].slice(19)}` }, b] },
  'one character of the signature': { status: 401, forge: (h, b) => [{ ...h, 'Wechatpay-Signature': flip(h['Wechatpay-Signature'], 100) }, b] },
  'the signature cut short': { status: 401, forge: (h, b) => [{ ...h, 'Wechatpay-Signature': h['Wechatpay-Signature'].slice(0, -4) }, b] },
  'the signature in base64url': {
    status: 401,
    forge: (h, b) => {
      // Always another spelling: a signature without + and / has its padding left.
      const url = h['Wechatpay-Signature'].replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
      return [{ ...h, 'Wechatpay-Signature': url }, b];
    },
  },
  'an empty signature': { status: 401, forge: (h, b) => [{ ...h, 'Wechatpay-Signature': '' }, b] },
  'an unknown signature type': { status: 401, forge: (h, b) => [{ ...h, 'Wechatpay-Signature-Type': 'WECHATPAY2-SM2-WITH-SM3' }, b] },
  'SHA-1 in place of SHA-256': {
    status: 401,
    forge: (h, b) => {
      const message = Formatter.response(h['Wechatpay-Timestamp'], h['Wechatpay-Nonce'], b);
      return [{ ...h, 'Wechatpay-Signature': createSign('sha1').update(message).sign(publicKey.key, 'base64') }, b];
    },
  },
  'PSS padding': {
    status: 401,
    forge: (h, b) => {
      const message = Formatter.response(h['Wechatpay-Timestamp'], h['Wechatpay-Nonce'], b);
      const key = { key: publicKey.key, padding: constants.RSA_PKCS1_PSS_PADDING };
      return [{ ...h, 'Wechatpay-Signature': createSign('sha256').update(message).sign(key, 'base64') }, b];
    },
  },
  'V2 XML': { status: 401, forge: () => [{ 'Content-Type': 'text/xml' }, v2] },

  // Rightly signed, but not decryptable or malformed: 400.
  'another APIv3 key': { status: 400, body: (p) => seal(p, { key: 'x'.repeat(32) }) },
  'one byte of the ciphertext': { status: 400, body: (p) => change(p, (r) => { r.ciphertext = flip(r.ciphertext, 8); }) },
  'one byte of the tag': { status: 400, body: (p) => change(p, (r) => { r.ciphertext = flip(r.ciphertext, r.ciphertext.length - 6); }) },
  'the tag left out': {
    status: 400,
    body: (p) => change(p, (r) => { r.ciphertext = Buffer.from(r.ciphertext, 'base64').subarray(0, -16).toString('base64'); }),
  },
  'no ciphertext': { status: 400, body: (p) => change(p, (r) => { delete r.ciphertext; }) },
  'other associated data': { status: 400, body: (p) => change(p, (r) => { r.associated_data = 'refund'; }) },
  'another nonce': { status: 400, body: (p) => change(p, (r) => { r.nonce = Formatter.nonce(12); }) },
  'a nonce of 11 bytes': { status: 400, body: (p) => change(p, (r) => { r.nonce = r.nonce.slice(1); }) },
  'a nonce of 16 bytes': { status: 400, body: (p) => seal(p, { nonce: Formatter.nonce(16) }) },
  'an empty nonce': { status: 400, body: (p) => change(p, (r) => { r.nonce = ''; }) },
  'an unknown algorithm': { status: 400, body: (p) => change(p, (r) => { r.algorithm = 'AEAD_SM4_GCM'; }) },
  'a plaintext that is a list': { status: 400, body: (p) => seal(`[${p}]`) },
  'a plaintext that is no JSON': { status: 400, body: (p) => seal(p.slice(0, -1)) },
  'an envelope that is a list': { status: 400, body: (p) => `[${seal(p)}]` },
  'an envelope without a resource': { status: 400, body: (p) => seal(p, { envelope: { resource: undefined } }) },
  'a null envelope': { status: 400, body: () => 'null' },

  // The request goes wrong before that.
  GET: { status: 405, to: { method: 'GET' } },
  PUT: { status: 405, to: { method: 'PUT' } },
  'a merchant that is none': { status: 404, to: { url: notify.replace(/[^/]+$/, 'nobody') } },
  'the path of another merchant': { status: 401, to: { url: notify.replace(/[^/]+$/, setting('OTHER_MERCHANT')) } },
  'a body over max_body': { status: 413, body: (p) => seal(p, { envelope: { filler: 'x'.repeat(300 * 1024) } }) },
};
for (const name of ['Timestamp', 'Nonce', 'Serial', 'Signature']) {
  tampered[`no Wechatpay-${name}`] = {
    status: 401,
    forge: (h, b) => {
      const rest = { ...h };
      delete rest[`Wechatpay-${name}`];
      return [rest, b];
    },
  };
}

/** A sealed body whose resource is changed before it is signed. */
function change(plaintext, act) {
  const body = JSON.parse(seal(plaintext));
  act(body.resource);
  return JSON.stringify(body);
}

test('the gateway refuses what was tampered with', async (t) => {
  for (const [name, row] of Object.entries(tampered)) {
    await t.test(`${row.status} ${name}`, async () => {
      let body = (row.body || seal)(JSON.stringify(payment()));
      let headers = sign(body, row.sign);
      if (row.forge) [headers, body] = row.forge(headers, body);
      const answer = await send(body, headers, row.to);
      assert.equal(answer.status, row.status, answer.text);
      if (row.status === 405) return;
      const { code, message } = JSON.parse(answer.text);
      assert.equal(code, 'FAIL');
      assert.ok(message.length > 0 && message.length <= 64, 'a message of at most 64 characters');
    });
  }
});
