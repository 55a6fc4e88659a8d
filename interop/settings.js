'use strict';

// What the Go test tells the scripts, by environment variables.

const { readFileSync } = require('fs');

/** The value of an environment variable; its absence is an error. */
function setting(name) {
  const value = process.env[name];
  if (!value) {
    throw new Error(`${name} is not set; these scripts are started by "go test -tags interop ./interop/..."`);
  }
  return value;
}

/** The text of the PEM file that an environment variable names. */
function pem(name) {
  return readFileSync(setting(name), 'utf8');
}

module.exports = { setting, pem };
