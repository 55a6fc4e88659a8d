package receive

import (
	"context"
	"fmt"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

func ExampleReceiver_Receive() {
	store := newFakeStore()
	r := New(Config{Store: store, Now: now})
	defer r.Close()
	route := &notify.Route{ID: "r1", Ack: notify.AckCommit, AmountCheck: notify.CheckKnown, Payload: notify.PayloadEnvelope}

	callback := request(goodBody())
	a := r.Receive(context.Background(), route, theMerchant(), callback)
	fmt.Println(a.Status, string(a.Body))
	for _, record := range store.records {
		fmt.Println(record.Kind, record.OutTradeNo, record.AmountCheck)
	}

	callback = request(goodBody())
	callback.Header.Set("Wechatpay-Nonce", "another")
	a = r.Receive(context.Background(), route, theMerchant(), callback)
	fmt.Println(a.Status, string(a.Body))
	// Output:
	// 200 {"code":"SUCCESS","message":"成功"}
	// payment 20260301009999 unknown
	// 401 {"code":"FAIL","message":"signature does not verify"}
}
