'use strict';

// The plugin pointed at the gateway: what every script that calls it needs.

const assert = require('assert/strict');
const { X509Certificate } = require('crypto');
const { Wechatpay } = require('wechatpay-axios-plugin');
const { setting, pem } = require('./settings');

/** What a merchant has from its console: its keys and the platform's. */
async function keysOf(mchid) {
  const answer = await fetch(`${setting('SANDBOX_URL')}/sandbox/keys/${mchid}`);
  assert.equal(answer.status, 200);
  return answer.json();
}

/** The platform's keys, one of each kind. */
async function platformKeys(mchid = setting('MCHID')) {
  const keys = await keysOf(mchid);
  return {
    'public key': { id: keys.public_keys[0].id, pem: keys.public_keys[0].pem },
    certificate: {
      id: new X509Certificate(keys.platform_certificates[0]).serialNumber,
      pem: keys.platform_certificates[0],
    },
  };
}

/** A client that trusts one key of the platform and asks for answers signed by it. */
function client(platform, config = {}) {
  return new Wechatpay({
    mchid: setting('MCHID'),
    serial: setting('CALLER_SERIAL'),
    privateKey: pem('CALLER_KEY'),
    certs: { [platform.id]: platform.pem },
    baseURL: setting('GATEWAY_URL'),
    timeout: 15000,
    headers: { 'Wechatpay-Serial': platform.id },
    ...config,
  });
}

/** Checks what the plugin has not: that the answer was signed by the key in question. */
function signedBy(answer, platform) {
  assert.equal(answer.headers['wechatpay-serial'], platform.id);
  assert.ok(answer.headers['request-id'], 'Request-ID came through');
}

/** The answer with which a call is refused; without one the call is at fault. */
async function refusal(promise) {
  const error = await promise.then(
    ({ status, data }) => assert.fail(`want a refusal, have ${status} ${JSON.stringify(data)}`),
    (e) => e,
  );
  assert.ok(error.response, `want an answer, have ${error.message}`);
  return error.response;
}

module.exports = {
  keysOf, platformKeys, client, signedBy, refusal,
};
