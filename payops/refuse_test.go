package payops_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// TestRefusals is the table of what the gateway refuses by itself, with both
// sides of each limit: a status of 200 means that it reached WeChat Pay.
func TestRefusals(t *testing.T) {
	basic := func(old, replacement string) string {
		return strings.Replace(basicBody("N20261122", "100"), old, replacement, 1)
	}
	number := func(n string) string { return basic("N20261122", n) }
	total := func(v string) string { return basicBody("N20261122", v) }
	combine := func(old, replacement string) string {
		return strings.Replace(combineBody("C1"), old, replacement, 1)
	}
	manySubs := func(n int) string {
		subs := make([]string, n)
		for i := range subs {
			subs[i] = `{"mchid":"1900000101","amount":{"total_amount":1,"currency":"CNY"},"out_trade_no":"S` + strings.Repeat("x", i+1)[:min(i+1, 30)] + string(rune('A'+i%26)) + `"}`
		}
		return `{"combine_out_trade_no":"C1","sub_orders":[` + strings.Join(subs, ",") + `]}`
	}
	const closePath, queryPath = "/v3/pay/transactions/out-trade-no/N20261122/close", "/v3/pay/transactions/out-trade-no/N20261122"
	transfer := func(old, replacement string) string {
		return strings.Replace(transferBody("T20261122", "1"), old, replacement, 1)
	}
	table := []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		rule                       payops.Rule
	}{
		// callers
		{"no Authorization", "POST", nativePath, total("1"), []string{"Authorization", ""}, 401, payops.RuleUnknownCaller},
		{"wrong token", "POST", nativePath, total("1"), []string{"Authorization", "Bearer nope"}, 401, payops.RuleUnknownCaller},
		{"no caller, no such path", "GET", "/v3/nope", "", []string{"Authorization", ""}, 401, payops.RuleUnknownCaller},
		{"no caller, path tricks", "GET", "/v3/../x", "", []string{"Authorization", ""}, 401, payops.RuleUnknownCaller},
		{"allowed pay", "POST", nativePath, total("1"), []string{"Authorization", "Bearer pay-token"}, 200, ""},
		{"allowed query only", "POST", nativePath, total("1"), []string{"Authorization", "Bearer query-token"}, 403, payops.RuleNotAllowed},
		{"allowed pay only, closes", "POST", closePath, "", []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"allowed pay only, combines", "POST", combinePath, combineBody("C1"), []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"allowed query, queries", "GET", queryPath, "", []string{"Authorization", "Bearer query-token"}, 200, ""},

		// operations
		{"refund, not allowed", "POST", "/v3/refund/domestic/refunds", "{}", []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"reversal, allowed", "POST", reversePath, "{}", []string{"Authorization", "Bearer refund-token"}, 200, ""},
		{"reversal, not allowed", "POST", reversePath, "{}", []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"transfer, not allowed", "POST", transferPath, transferBody("T20261122", "1"), []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"transfer, every path allowed", "POST", transferPath, transferBody("T20261122", "1"), nil, 200, ""},
		{"profit sharing, not allowed", "POST", sharingPath, sharingBody("S20261122", "42"), []string{"Authorization", "Bearer refund-token"}, 403, payops.RuleNotAllowed},
		{"unknown path, every path allowed", "POST", "/v3/unheard/of", "{}", nil, 200, ""},
		{"unknown path", "POST", "/v3/unheard/of", "{}", []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"other method", "DELETE", nativePath, "", []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"outside", "GET", "/v2/x", "", nil, 404, payops.RulePath},
		{"root", "GET", "/", "", nil, 404, payops.RulePath},

		// paths
		{"dot dot", "GET", "/v3/pay/transactions/out-trade-no/..", "", nil, 400, payops.RulePath},
		{"encoded dot dot", "GET", "/v3/pay/transactions/out-trade-no/%2e%2e", "", nil, 400, payops.RulePath},
		{"encoded slash", "GET", "/v3/pay/transactions/out-trade-no/N20261122%2fclose", "", nil, 400, payops.RulePath},
		{"backslash", "GET", `/v3/pay/transactions/out-trade-no/N2026\1122`, "", nil, 400, payops.RulePath},
		{"doubled slash", "GET", "/v3/pay//transactions/out-trade-no/N20261122", "", nil, 400, payops.RulePath},
		{"empty number", "GET", "/v3/pay/transactions/out-trade-no/", "", nil, 400, payops.RulePath},
		{"empty number, close", "POST", "/v3/pay/transactions/out-trade-no//close", "", nil, 400, payops.RulePath},
		{"absolute URL", "GET", "http://127.0.0.1/v3/pay/transactions/out-trade-no/N20261122", "", nil, 400, payops.RulePath},
		{"fragment", "GET", queryPath + "#x", "", nil, 400, payops.RulePath},
		{"null byte", "GET", "/v3/pay/transactions/out-trade-no/N2026%001122", "", nil, 400, payops.RulePath},
		{"line break", "GET", "/v3/pay/transactions/out-trade-no/N2026%0d%0aHost:x", "", nil, 400, payops.RulePath},
		{"query on create", "POST", nativePath + "?a=b", total("1"), nil, 400, payops.RulePath},
		{"query on close", "POST", closePath + "?a=b", "", nil, 400, payops.RulePath},

		// numbers
		{"5 characters", "POST", nativePath, number("N1234"), nil, 400, payops.RuleNumber},
		{"6 characters", "POST", nativePath, number("N12345"), nil, 200, ""},
		{"32 characters", "POST", nativePath, number(strings.Repeat("N", 32)), nil, 200, ""},
		{"33 characters", "POST", nativePath, number(strings.Repeat("N", 33)), nil, 400, payops.RuleNumber},
		{"every character", "POST", nativePath, number("aZ09_-|*@"), nil, 200, ""},
		{"blank", "POST", nativePath, number("N2026 1122"), nil, 400, payops.RuleNumber},
		{"slash", "POST", nativePath, number("N2026/1122"), nil, 400, payops.RuleNumber},
		{"dots", "POST", nativePath, number("......"), nil, 400, payops.RuleNumber},
		{"han", "POST", nativePath, number("订单号订单号"), nil, 400, payops.RuleNumber},
		{"a number", "POST", nativePath, basic(`"N20261122"`, `20261122`), nil, 400, payops.RuleNumber},
		{"null", "POST", nativePath, basic(`"N20261122"`, `null`), nil, 400, payops.RuleNumber},
		{"absent", "POST", nativePath, basic(`"out_trade_no":"N20261122",`, ``), nil, 400, payops.RuleNumber},
		{"combine, 1 character", "POST", combinePath, `{"combine_out_trade_no":"C","sub_orders":[]}`, nil, 400, payops.RuleNumber},
		{"combine, 2 characters", "POST", combinePath, combineBody("C1"), nil, 200, ""},
		{"combine, 33 characters", "POST", combinePath, `{"combine_out_trade_no":"` + strings.Repeat("C", 33) + `","sub_orders":[]}`, nil, 400, payops.RuleNumber},
		{"query, 5 characters", "GET", "/v3/pay/transactions/out-trade-no/N1234", "", nil, 400, payops.RuleNumber},
		{"query, blank", "GET", "/v3/pay/transactions/out-trade-no/N2026%201122", "", nil, 400, payops.RuleNumber},
		{"close, 33 characters", "POST", "/v3/pay/transactions/out-trade-no/" + strings.Repeat("N", 33) + "/close", "", nil, 400, payops.RuleNumber},
		{"transaction id, 33 characters", "GET", "/v3/pay/transactions/id/" + strings.Repeat("4", 33), "", nil, 400, payops.RuleNumber},
		{"transaction id, 32 characters", "GET", "/v3/pay/transactions/id/" + strings.Repeat("4", 32), "", nil, 200, ""},

		// amounts
		{"0 fen", "POST", nativePath, total("0"), nil, 400, payops.RuleAmount},
		{"1 fen", "POST", nativePath, total("1"), nil, 200, ""},
		{"-1 fen", "POST", nativePath, total("-1"), nil, 400, payops.RuleAmount},
		{"1.0", "POST", nativePath, total("1.0"), nil, 400, payops.RuleAmount},
		{"1e2", "POST", nativePath, total("1e2"), nil, 400, payops.RuleAmount},
		{"text", "POST", nativePath, total(`"1"`), nil, 400, payops.RuleAmount},
		{"null amount", "POST", nativePath, total("null"), nil, 400, payops.RuleAmount},
		{"2^63-1", "POST", nativePath, total("9223372036854775807"), nil, 200, ""},
		{"2^63", "POST", nativePath, total("9223372036854775808"), nil, 400, payops.RuleAmount},
		{"no amount", "POST", nativePath, basic(`"amount":`, `"amounts":`), nil, 400, payops.RuleAmount},
		{"amount is a list", "POST", nativePath, basic(`{"total":100,"currency":"CNY"}`, `[1]`), nil, 400, payops.RuleAmount},
		{"lower-case currency", "POST", nativePath, basic(`CNY`, `cny`), nil, 400, payops.RuleAmount},
		{"currency is a number", "POST", nativePath, basic(`"CNY"`, `156`), nil, 400, payops.RuleAmount},
		{"no currency", "POST", nativePath, basic(`,"currency":"CNY"`, ``), nil, 200, ""},
		{"sub-order of 0 fen", "POST", combinePath, combine(`"total_amount":10`, `"total_amount":0`), nil, 400, payops.RuleAmount},
		{"two currencies", "POST", combinePath, combine(`CNY`, `USD`), nil, 400, payops.RuleAmount},
		{"sum overflows", "POST", combinePath, combine(`"total_amount":10`, `"total_amount":9223372036854775807`), nil, 400, payops.RuleAmount},

		// sub-orders
		{"no sub-orders", "POST", combinePath, `{"combine_out_trade_no":"C1"}`, nil, 400, payops.RuleSubOrders},
		{"an empty list", "POST", combinePath, `{"combine_out_trade_no":"C1","sub_orders":[]}`, nil, 400, payops.RuleSubOrders},
		{"a sub-order alone", "POST", combinePath, manySubs(1), nil, 400, payops.Rule(guard.SubOrderCount)},
		{"10 sub-orders", "POST", combinePath, manySubs(10), nil, 200, ""},
		{"11 sub-orders", "POST", combinePath, manySubs(11), nil, 400, payops.Rule(guard.SubOrderCount)},
		{"51 sub-orders", "POST", combinePath, manySubs(51), nil, 400, payops.RuleSubOrders},
		{"a sub-order twice", "POST", combinePath, combine("C1-S2", "C1-S1"), nil, 200, ""}, // another payee: another number
		{"a sub-order is text", "POST", combinePath, `{"combine_out_trade_no":"C1","sub_orders":["x"]}`, nil, 400, payops.RuleSubOrders},
		{"no payee", "POST", combinePath, combine(`"mchid":"1900000101",`, ``), nil, 400, payops.RuleSubOrders},
		{"payee of letters", "POST", combinePath, combine(`1900000101`, `19000001o1`), nil, 400, payops.RuleSubOrders},
		{"sub-order number too long", "POST", combinePath, combine("C1-S1", strings.Repeat("S", 33)), nil, 400, payops.RuleNumber},

		// the merchant's own names
		{"other mchid", "POST", nativePath, basic(mchid, "1900000002"), nil, 409, payops.RuleMchid},
		{"mchid is a number", "POST", nativePath, basic(`"`+mchid+`"`, mchid), nil, 400, payops.RuleBody},
		{"other combine_mchid", "POST", combinePath, combine(mchid, "1900000002"), nil, 409, payops.RuleMchid},
		{"other mchid, query", "GET", queryPath + "?mchid=1900000002", "", nil, 409, payops.RuleMchid},
		{"two mchids, query", "GET", queryPath + "?mchid=" + mchid + "&mchid=" + mchid, "", nil, 400, payops.RulePath},
		{"other mchid, close", "POST", closePath, `{"mchid":"1900000002"}`, nil, 409, payops.RuleMchid},
		{"notify_url is a list", "POST", nativePath, basic(`"`+notifyURL+`"`, `[]`), nil, 400, payops.RuleBody},

		// bodies
		{"no body", "POST", nativePath, "", nil, 400, payops.RuleBody},
		{"null body", "POST", nativePath, "null", nil, 400, payops.RuleBody},
		{"list", "POST", nativePath, "[]", nil, 400, payops.RuleBody},
		{"truncated", "POST", nativePath, total("1")[:60], nil, 400, payops.RuleBody},
		{"two objects", "POST", nativePath, total("1") + "{}", nil, 400, payops.RuleBody},
		{"trailing garbage", "POST", nativePath, total("1") + "x", nil, 400, payops.RuleBody},
		{"byte order mark", "POST", nativePath, "\ufeff" + total("1"), nil, 400, payops.RuleBody},
		{"invalid UTF-8", "POST", nativePath, basic(`"x"`, "\"\xff\""), nil, 400, payops.RuleBody},
		{"32 deep", "POST", nativePath, basic(`"x"`, strings.Repeat("[", 32)+strings.Repeat("]", 32)), nil, 200, ""},
		{"33 deep", "POST", nativePath, basic(`"x"`, strings.Repeat("[", 33)+strings.Repeat("]", 33)), nil, 400, payops.RuleBody},
		{"form", "POST", nativePath, total("1"), []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, payops.RuleContentType},
		{"no type at all", "POST", nativePath, total("1"), []string{"Content-Type", ""}, 200, ""},
		{"gzip", "POST", nativePath, total("1"), []string{"Content-Encoding", "gzip"}, 400, payops.RuleContentType},
		{"a query with a body", "GET", queryPath, "{}", nil, 400, payops.RuleBody},
		{"total twice", "POST", nativePath, basic(`"total":100`, `"total":1,"total":100`), nil, 400, payops.RuleDuplicateKey},
		{"Total and total", "POST", nativePath, basic(`"total":100`, `"total":100,"Total":1`), nil, 400, payops.RuleDuplicateKey},
		{"Mchid alone", "POST", nativePath, basic(`"mchid"`, `"Mchid"`), nil, 400, payops.RuleBody},
		{"NOTIFY_URL alone", "POST", nativePath, basic(`"notify_url"`, `"NOTIFY_URL"`), nil, 400, payops.RuleBody},
		{"goods and Goods", "POST", nativePath, basic(`"x"`, `"x","goods":1,"Goods":2`), nil, 400, payops.RuleDuplicateKey},
		{"Goods alone", "POST", nativePath, basic(`"x"`, `"x","Goods":2`), nil, 200, ""},
		{"escaped total", "POST", nativePath, basic(`"total":100`, `"\u0074otal":1,"total":100`), nil, 400, payops.RuleDuplicateKey},
		{"long s", "POST", combinePath, combine(`"sub_orders":`, `"ſub_orders":[],"sub_orders":`), nil, 400, payops.RuleBody},
		{"one escaped total", "POST", nativePath, basic(`"total":100`, `"\u0074otal":100`), nil, 200, ""},
		{"1 MiB", "POST", nativePath, total("1") + strings.Repeat(" ", 1<<20-len(total("1"))), nil, 200, ""},
		{"1 MiB and a byte", "POST", nativePath, total("1") + strings.Repeat(" ", 1<<20-len(total("1"))+1), nil, 413, payops.RuleTooLarge},

		// numbers of transfers and profit sharing
		{"transfer without a number", "POST", transferPath, transfer(`"out_bill_no":"T20261122"`, `"x":1`), nil, 400, payops.RuleNumber},
		{"transfer, number is null", "POST", transferPath, transfer(`"T20261122"`, `null`), nil, 400, payops.RuleNumber},
		{"transfer, number is a number", "POST", transferPath, transfer(`"T20261122"`, `20261122`), nil, 400, payops.RuleNumber},
		{"transfer, number is empty", "POST", transferPath, transferBody("", "1"), nil, 400, payops.RuleNumber},
		{"transfer, slash", "POST", transferPath, transferBody("T2026/1122", "1"), nil, 400, payops.RuleNumber},
		{"transfer, dots", "POST", transferPath, transferBody("..", "1"), nil, 400, payops.RuleNumber},
		{"transfer, 128 characters", "POST", transferPath, transferBody(strings.Repeat("T", 128), "1"), nil, 200, ""},
		{"transfer, 129 characters", "POST", transferPath, transferBody(strings.Repeat("T", 129), "1"), nil, 400, payops.RuleNumber},
		{"transfer of 0 fen", "POST", transferPath, transferBody("T20261122", "0"), nil, 400, payops.RuleAmount},
		{"transfer of -1 fen", "POST", transferPath, transferBody("T20261122", "-1"), nil, 400, payops.RuleAmount},
		{"transfer of 1.0 fen", "POST", transferPath, transferBody("T20261122", "1.0"), nil, 400, payops.RuleAmount},
		{"transfer of 1e2 fen", "POST", transferPath, transferBody("T20261122", "1e2"), nil, 400, payops.RuleAmount},
		{"transfer of text", "POST", transferPath, transferBody("T20261122", `"1"`), nil, 400, payops.RuleAmount},
		{"transfer of a list", "POST", transferPath, transferBody("T20261122", `[1]`), nil, 400, payops.RuleAmount},
		{"transfer of 2^63 fen", "POST", transferPath, transferBody("T20261122", "9223372036854775808"), nil, 400, payops.RuleAmount},
		{"transfer, amount twice", "POST", transferPath, transfer(`"transfer_amount":1`, `"transfer_amount":1,"transfer_amount":2`), nil, 400, payops.RuleDuplicateKey},
		{"transfer, amount in two cases", "POST", transferPath, transfer(`"transfer_amount":1`, `"transfer_amount":1,"Transfer_amount":2`), nil, 400, payops.RuleDuplicateKey},
		{"transfer, amount in another case", "POST", transferPath, transfer(`"transfer_amount"`, `"Transfer_Amount"`), nil, 400, payops.RuleBody},
		{"transfer, openid in another case", "POST", transferPath, transfer(`"openid"`, `"OpenID"`), nil, 400, payops.RuleBody},
		{"transfer, appid is a number", "POST", transferPath, transfer(`"`+appid+`"`, `1`), nil, 400, payops.RuleBody},
		{"transfer, notify_url is a list", "POST", transferPath, transfer(`"`+notifyURL+`"`, `[]`), nil, 400, payops.RuleBody},
		{"transfer, notify_url with a query", "POST", transferPath, transfer(notifyURL, "https://shop.example.com/n?x=1"), nil, 400, payops.Rule(guard.NotifyURL)},
		{"transfer, notify_url inside", "POST", transferPath, transfer(notifyURL, "https://127.0.0.1/n"), nil, 400, payops.Rule(guard.NotifyURL)},
		{"transfer, notify_url of the cloud's metadata", "POST", transferPath, transfer(notifyURL, "http://169.254.169.254/latest"), nil, 400, payops.Rule(guard.NotifyURL)},
		{"transfer, no body", "POST", transferPath, "", nil, 400, payops.RuleBody},
		{"transfer, a list", "POST", transferPath, "[]", nil, 400, payops.RuleBody},
		{"transfer, a form", "POST", transferPath, transferBody("T20261122", "1"), []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, payops.RuleContentType},
		{"transfer, gzip", "POST", transferPath, transferBody("T20261122", "1"), []string{"Content-Encoding", "gzip"}, 400, payops.RuleContentType},
		{"transfer, sub_mchid of letters", "POST", partnerTransferPath, `{"sub_mchid":"19x","out_bill_no":"T1","transfer_amount":1}`, nil, 400, payops.RuleMchid},
		{"transfer, sub_mchid is a number", "POST", partnerTransferPath, `{"sub_mchid":19,"out_bill_no":"T1","transfer_amount":1}`, nil, 400, payops.RuleMchid},
		{"transfer, two sub_mchids", "POST", partnerTransferPath + "?sub_mchid=1900000108", `{"sub_mchid":"1900000109","out_bill_no":"T1","transfer_amount":1}`, nil, 400, payops.RuleMchid},
		{"transfer, other method", "PUT", transferPath, "{}", []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"transfer, trailing slash", "POST", transferPath + "/", transferBody("T20261122", "1"), nil, 400, payops.RulePath},
		{"transfer, escaped letter", "POST", "/v3/fund-app/mch-transfer/transfer-bill%73", transferBody("T20261122", "1"), nil, 400, payops.RulePath},
		{"transfer in capitals", "POST", "/v3/fund-app/mch-transfer/Transfer-Bills", transferBody("T20261122", "1"), nil, 400, payops.RulePath},
		{"transfer, absolute URL", "POST", "http://api.mch.weixin.qq.com" + transferPath, transferBody("T20261122", "1"), nil, 400, payops.RulePath},
		{"query of a transfer with a body", "GET", transferPath + "/out-bill-no/T20261122", "{}", nil, 400, payops.RuleBody},
		{"query of a transfer, blank", "GET", transferPath + "/out-bill-no/T%20", "", nil, 400, payops.RuleNumber},
		{"query of a transfer, dots", "GET", transferPath + "/out-bill-no/%2e%2e", "", nil, 400, payops.RulePath},
		{"query of a transfer, encoded slash", "GET", transferPath + "/out-bill-no/T%2f..", "", nil, 400, payops.RulePath},
		{"query of a sharing without number", "GET", "/v3/ecommerce/profitsharing/orders?sub_mchid=1900000109&transaction_id=42", "", nil, 400, payops.RuleNumber},
		{"query of a sharing, two numbers", "GET", "/v3/ecommerce/profitsharing/orders?out_order_no=S1&out_order_no=S2", "", nil, 400, payops.RuleNumber},
		{"query of a sharing, two sub_mchids", "GET", sharingPath + "/S1?sub_mchid=1900000108&sub_mchid=1900000109", "", nil, 400, payops.RuleMchid},
		{"sharing of 0 fen", "POST", sharingPath, strings.Replace(sharingBody("S1", "42"), `"amount":10`, `"amount":0`, 1), nil, 400, payops.RuleAmount},
		{"sharing, account in another case", "POST", sharingPath, strings.Replace(sharingBody("S1", "42"), `"account"`, `"Account"`, 1), nil, 400, payops.RuleBody},
		{"unfreeze without a number", "POST", sharingPath + "/unfreeze", `{"transaction_id":"42"}`, nil, 400, payops.RuleNumber},
		{"return of 0 fen", "POST", "/v3/profitsharing/return-orders", `{"out_return_no":"B1","amount":0}`, nil, 400, payops.RuleAmount},
		{"withdrawal without a number", "POST", "/v3/merchant/fund/withdraw", `{"amount":1}`, nil, 400, payops.RuleNumber},
		{"subsidy, its number left out", "POST", "/v3/ecommerce/subsidies/create", `{"amount":1}`, nil, 200, ""},

		// reversals
		{"reversal, 5 characters", "POST", "/v3/pay/transactions/out-trade-no/N1234/reverse", "", nil, 400, payops.RuleNumber},
		{"reversal with a query", "POST", reversePath + "?a=b", "", nil, 400, payops.RulePath},
		{"reversal, other mchid", "POST", reversePath, `{"mchid":"1900000002"}`, nil, 409, payops.RuleMchid},
		{"reversal, a list", "POST", reversePath, `[]`, nil, 400, payops.RuleBody},
		{"reversal of a partner's without sub_mchid", "POST", "/v3/pay/partner/transactions/out-trade-no/N12345/reverse", `{}`, nil, 400, payops.RuleMchid},
		{"reversal, dots", "POST", "/v3/pay/transactions/out-trade-no/%2e%2e/reverse", "", nil, 400, payops.RulePath},
		{"global refund above its total", "POST", "/v3/global/refunds", `{"out_refund_no":"R1","amount":{"refund":2,"total":1,"currency":"HKD"}}`, nil, 409, payops.Rule(guard.RefundTotal)},

		// headers, and where a download leads
		{"User-Agent with a control character", "POST", nativePath, total("1"), []string{"User-Agent", "a\x01b"}, 400, payops.RuleHeader},
		{"User-Agent with a line break", "POST", nativePath, total("1"), []string{"User-Agent", "a\r\nAuthorization: x"}, 400, payops.RuleHeader},
		{"Accept-Language too long", "POST", nativePath, total("1"), []string{"Accept-Language", strings.Repeat("a", 1025)}, 400, payops.RuleHeader},
		{"download by an absolute URL", "GET", "http://169.254.169.254/v3/billdownload/file?token=x", "", nil, 400, payops.RulePath},
		{"download with a user's part", "GET", "//user@169.254.169.254/v3/billdownload/file?token=x", "", nil, 404, payops.RulePath},
		{"download by another path", "GET", "/v3/billdownload/../../latest/meta-data", "", nil, 400, payops.RulePath},
		{"image by an absolute URL", "GET", "https://[::1]/v3/merchant-service/images/x", "", nil, 400, payops.RulePath},
		{"image, dots", "GET", "/v3/merchant-service/images/%2e%2e", "", nil, 400, payops.RulePath},
		{"image, encoded slash", "GET", "/v3/merchant-service/images/a%2fb", "", nil, 400, payops.RulePath},
		{"image with a body", "GET", "/v3/merchant-service/images/x", "{}", nil, 400, payops.RuleBody},

		// close
		{"close, any body of ours", "POST", closePath, `{"mchid":"` + mchid + `"}`, nil, 200, ""},
		{"combine close, unknown, no list", "POST", "/v3/combine-transactions/out-trade-no/C1/close", "{}", nil, 400, payops.RuleCloseList},
		{"combine close, list is text", "POST", "/v3/combine-transactions/out-trade-no/C1/close", `{"sub_orders":"x"}`, nil, 400, payops.RuleSubOrders},

		// gateway resources
		{"no such resource", "GET", "/gateway/bills", "", nil, 404, payops.RulePath},
		{"deeper", "GET", "/gateway/orders/N1/qr", "", nil, 404, payops.RulePath},
		{"method", "DELETE", "/gateway/orders/N20261122", "", nil, 405, payops.RuleMethod},
		{"show unknown", "GET", "/gateway/orders/N20261122", "", nil, 404, payops.RuleOrderNotFound},
		{"show, not allowed", "GET", "/gateway/orders/N20261122", "", []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"register, not allowed", "PUT", "/gateway/orders/N20261122", `{"amount":{"total":1}}`, []string{"Authorization", "Bearer query-token"}, 403, payops.RuleNotAllowed},
		{"register combine with pay", "PUT", "/gateway/orders/C1", combineBody("C1")[:0] + `{"sub_orders":[{"mchid":"1900000101","out_trade_no":"S1","amount":{"total_amount":1}}]}`, []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"register dot dot", "PUT", "/gateway/orders/..", `{"amount":{"total":1}}`, nil, 400, payops.RuleNumber},
		{"register too short", "PUT", "/gateway/orders/N1234", `{"amount":{"total":1}}`, nil, 400, payops.RuleNumber},
		{"register 0 fen", "PUT", "/gateway/orders/N20261122", `{"amount":{"total":0}}`, nil, 400, payops.RuleAmount},
		{"register no amount", "PUT", "/gateway/orders/N20261122", `{}`, nil, 400, payops.RuleAmount},
		{"register unknown member", "PUT", "/gateway/orders/N20261122", `{"amount":{"total":1},"state":"paid"}`, nil, 400, payops.RuleBody},
		{"register unknown kind", "PUT", "/gateway/orders/N20261122", `{"amount":{"total":1},"kind":"free"}`, nil, 400, payops.RuleBody},
		{"register wrong sum", "PUT", "/gateway/orders/C1", `{"amount":{"total":2},"sub_orders":[{"mchid":"1900000101","out_trade_no":"S1","amount":{"total_amount":1}}]}`, nil, 400, payops.RuleAmount},
		{"register partner without sub", "PUT", "/gateway/orders/N20261122", `{"amount":{"total":1},"kind":"partner"}`, nil, 400, payops.RuleBody},
		{"register duplicate key", "PUT", "/gateway/orders/N20261122", `{"amount":{"total":1},"amount":{"total":2}}`, nil, 400, payops.RuleDuplicateKey},
	}
	bad, names := 0, map[string]bool{}
	for _, tc := range table {
		if tc.status != 200 {
			bad++
		}
		if names[tc.name] {
			t.Errorf("%q is there twice", tc.name)
		}
		names[tc.name] = true
	}
	if bad < 150 {
		t.Errorf("%d bad inputs, want at least 150", bad)
	}
	for _, tc := range table {
		t.Run(tc.name, func(t *testing.T) {
			g := newRig(t, rigOptions{answer: func(x got) reply {
				if strings.HasSuffix(x.uri, "/close") {
					return reply{status: 204}
				}
				return codeURL(x)
			}})
			r := g.do(tc.method, tc.target, tc.body, tc.headers...)
			if tc.status == 200 {
				if r.StatusCode != 200 && r.StatusCode != 204 || len(g.wx.requests()) != 1 {
					t.Errorf("%d %s %s; %d sent", r.StatusCode, r.Header.Get("Wechatpay-Gateway-Refused"), text(t, r), len(g.wx.requests()))
				}
				return
			}
			if tc.status == 401 && r.Header.Get("Www-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
			g.refused(tc.name, r, tc.status, tc.rule)
			if n := len(g.wx.requests()); n != 0 {
				t.Errorf("%d requests reached WeChat Pay", n)
			}
			if n := len(g.ledger.allCalls()); n != 0 {
				t.Errorf("%d intent rows", n)
			}
			if g.observer.refused[tc.rule] != 1 {
				t.Errorf("observer: %v", g.observer.refused)
			}
		})
	}
}

func TestMerchantWithoutKeys(t *testing.T) {
	g := newRig(t, rigOptions{mutate: func(c *merchant.Config) {
		c.PublicKeys, c.Certificates = nil, merchant.CertificatesAuto // none fetched yet
	}})
	for _, r := range []*http.Response{
		g.do("POST", nativePath, basicBody("N20261122", "1")), g.do("GET", "/v3/pay/transactions/out-trade-no/N20261122", ""),
	} {
		if r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		g.refused("no keys", r, 503, payops.RuleNotReady)
	}
	// An order can be registered all the same.
	if r := g.do("PUT", "/gateway/orders/N20261122", `{"amount":{"total":1}}`); r.StatusCode != 201 {
		t.Error(r.StatusCode)
	}
	if _, err := g.api.QueryOrder(context.Background(), storage.OrderKey{Mchid: mchid, Number: "N20261122"}, storage.OrderBasic); err == nil {
		t.Error("a query without keys")
	}
}

func TestPanicIsAnswered(t *testing.T) {
	g := newRig(t, rigOptions{})
	g.ledger.fail = func(storage.Keys) error { panic("boom") }
	g.refused("panic", g.do("POST", nativePath, basicBody("N20261122", "1")), 500, payops.RuleInternal)
	g.ledger.fail = nil
	if r := g.do("POST", nativePath, basicBody("N20261122", "1")); r.StatusCode != 200 {
		t.Error("the number is locked for ever:", r.StatusCode)
	}
	n := 0
	g.ledger.fail = func(storage.Keys) error {
		if n++; n == 2 {
			panic("boom after sending")
		}
		return nil
	}
	if r := g.do("POST", nativePath, basicBody("N20261123", "1")); r.StatusCode != 500 || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" {
		t.Error(r.StatusCode, r.Header)
	}
}
