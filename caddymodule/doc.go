// Package caddymodule is the WeChat Pay gateway as Caddy modules: the app and
// its global option, the storage guests, the handlers and their directives, the
// admin API, metrics and events. It is the only package that speaks Caddy; what
// the gateway does is decided in notify, payops, merchant and storage.
package caddymodule
