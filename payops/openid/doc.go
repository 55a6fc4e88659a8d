// Package openid finds out who a user is to an app: it builds the URL of
// WeChat's authorize page (网页授权) for official accounts, and exchanges the code
// that comes back, or that a mini program or an app got by itself, for the
// user's openid. JSAPI orders need one of the same appid.
//
//   - An official account sends the browser to [AuthorizeURL]; WeChat's page
//     sends it back to redirect_uri with ?code=…&state=….
//   - A mini program calls wx.login, an app the SDK's SendAuth; both hand the
//     code to their backend.
//   - [Client.Exchange] exchanges each of them at the host of openid_base.
//
// The AppSecret, the session_key and the access_token stay in here: they are in
// no result, no error and no log. A code is good for one exchange within five
// minutes.
//
// Two errors are met on WeChat's authorize page, in the user's browser, before
// any code reaches the merchant: see [PageErrors].
package openid
