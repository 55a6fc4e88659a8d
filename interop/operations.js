'use strict';

// Sends the operations that the Go test chose, one after the other, each signed
// with the caller's own key; the plugin verifies the answers. The Go test holds
// what left here against what arrived at the other side of the gateway.

const assert = require('assert/strict');
const test = require('node:test');
const { readFileSync } = require('fs');
const { createHash } = require('crypto');
const { FormData } = require('wechatpay-axios-plugin');
const { setting, pem } = require('./settings');
const { client, signedBy } = require('./gateway');

const platform = { id: setting('PLATFORM_ID'), pem: pem('PLATFORM_PUBLIC_KEY') };
const wxpay = client(platform);

/** A file whose bytes look like a boundary and are no text. */
const picture = Buffer.from('\x89PNG\r\n\x1a\n\x00\xff--\r\n------x\r\n--', 'latin1');

function call({
  method, path, params, data, multipart, download,
}) {
  const config = { params };
  if (download) Object.assign(config, { responseType: 'arraybuffer', decompress: false });
  const operation = wxpay.chain(path.replace(/^\//, ''));
  if (!['post', 'put', 'patch'].includes(method)) return operation[method](config);
  if (!multipart) return operation[method](data, config);
  const meta = { filename: '门店 a\'b;c.png', sha256: createHash('sha256').update(picture).digest('hex') };
  const form = new FormData().append('meta', JSON.stringify(meta)).append('file', picture, meta.filename);
  return operation[method](form.getBuffer(), { ...config, meta, headers: form.getHeaders() });
}

for (const operation of JSON.parse(readFileSync(setting('OPERATIONS_FILE'), 'utf8'))) {
  test(operation.name, async () => {
    const answer = await call(operation).catch((e) => {
      const { status, headers, data } = e.response || assert.fail(e);
      return assert.fail(`${status} ${headers['wechatpay-gateway-refused']} ${JSON.stringify(data)}`);
    });
    assert.equal(answer.status, 200);
    if (operation.download) {
      assert.equal(createHash('sha1').update(answer.data).digest('hex'), setting('FILE_SHA1'));
      return;
    }
    signedBy(answer, platform);
    assert.equal(answer.data.remark, '微信 "<&>"');
  });
}
