'use strict';

// The backend behind the gateway. It takes deliveries two ways: decrypted, with
// the gateway's own signature, and raw, with the platform's, which the plugin
// verifies and opens.

const assert = require('assert/strict');
const { createServer } = require('http');
const { createHmac } = require('crypto');
const { Aes: { AesGcm }, Formatter, Rsa } = require('wechatpay-axios-plugin');
const { setting } = require('./settings');

const bound = 30000; // milliseconds until a delivery must be there

/** A Standard Webhooks signature, version 1. */
function webhookSignature(id, timestamp, body) {
  const secret = Buffer.from(setting('WEBHOOK_SECRET').replace(/^whsec_/, ''), 'base64');
  return `v1,${createHmac('sha256', secret).update(`${id}.${timestamp}.`).update(body).digest('base64')}`;
}

/**
 * Opens a raw delivery as the plugin's manual has it for WeChat Pay's own.
 * @param {object} trusted - certs by serial, and the APIv3 key
 */
function open(headers, body, { certs, apiv3 }) {
  const serial = headers['wechatpay-serial'];
  const timestamp = headers['wechatpay-timestamp'];
  assert.ok(certs[serial], `the key ${serial} is the platform's`);
  assert.ok(Math.abs(Formatter.timestamp() - timestamp) < 300, 'a fresh signature');
  assert.ok(
    Rsa.verify(
      Formatter.response(timestamp, headers['wechatpay-nonce'], body.toString()),
      headers['wechatpay-signature'],
      Rsa.from(certs[serial], Rsa.KEY_TYPE_PUBLIC),
    ),
    'the platform\'s signature',
  );
  const notification = JSON.parse(body);
  const { ciphertext, nonce, associated_data: aad } = notification.resource;
  return { ...notification, resource: JSON.parse(AesGcm.decrypt(ciphertext, apiv3, nonce, aad)) };
}

class Backend {
  constructor(trusted) {
    this.trusted = trusted;
    this.seen = [];
    this.problems = [];
    this.waiting = [];
    this.server = createServer((request, response) => {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => {
        let status = 200;
        try {
          this.take(request, Buffer.concat(chunks));
        } catch (e) {
          this.problems.push(e.message);
          status = 500;
        }
        response.writeHead(status, { 'Content-Type': 'application/json' });
        response.end(JSON.stringify({ code: status === 200 ? 'SUCCESS' : 'FAIL', message: '' }));
      });
    });
  }

  listen() {
    return new Promise((resolve) => {
      this.server.listen(Number(setting('BACKEND_PORT')), '127.0.0.1', resolve);
    });
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((resolve) => { this.server.close(resolve); });
  }

  take({ headers, url }, body) {
    const id = headers['webhook-id'];
    assert.equal(headers['webhook-signature'], webhookSignature(id, headers['webhook-timestamp'], body), 'the gateway\'s signature');
    const raw = url.includes('/raw/');
    const notification = raw ? open(headers, body, this.trusted) : JSON.parse(body);
    this.seen.push({
      id, raw, headers, ...notification,
    });
    this.waiting.splice(0).forEach((look) => look());
  }

  /** The delivery of an event type whose resource has these members. */
  async wait(eventType, members) {
    const found = () => this.seen.find(({ event_type: type, resource }) => type === eventType
      && Object.entries(members).every(([name, value]) => resource[name] === value));
    const end = Date.now() + bound;
    while (!found()) {
      const left = end - Date.now();
      assert.ok(left > 0, `${eventType} ${JSON.stringify(members)} was delivered; problems: ${this.problems}`);
      // eslint-disable-next-line no-await-in-loop -- one event after the other
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left);
        this.waiting.push(() => { clearTimeout(timer); resolve(); });
      });
    }
    return found();
  }

  /** Every event came once: one delivery for each Webhook-Id, none refused. */
  once() {
    assert.deepEqual(this.problems, []);
    const ids = this.seen.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length, 'no event was delivered twice');
  }
}

module.exports = { Backend };
