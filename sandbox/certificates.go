package sandbox

import "net/http"

type certificateEntry struct {
	SerialNo      string    `json:"serial_no"`
	EffectiveTime string    `json:"effective_time"`
	ExpireTime    string    `json:"expire_time"`
	Encrypted     encrypted `json:"encrypt_certificate"`
}

type encrypted struct {
	Algorithm      string `json:"algorithm"`
	Nonce          string `json:"nonce"`
	AssociatedData string `json:"associated_data"`
	Ciphertext     string `json:"ciphertext"`
}

const aeadAlgorithm = "AEAD_AES_256_GCM"

// listCertificates is GET /v3/certificates: every certificate valid now, each
// encrypted with the merchant's APIv3 key. In public_key mode there is none.
func listCertificates(p *Platform, call *call) (any, *apiError) {
	algorithm := call.query["algorithm_type"]
	if len(algorithm) > 1 || len(algorithm) == 1 && algorithm[0] != "RSA" && algorithm[0] != "ALL" {
		return nil, paramError("query", "/algorithm_type", "want RSA or ALL", "算法类型不支持")
	}
	p.mu.Lock()
	list := valid(p.certificates, p.now())
	p.mu.Unlock()
	if len(list) == 0 {
		return nil, errNoCertificate()
	}
	var out struct {
		Data []certificateEntry `json:"data"`
	}
	for _, c := range list {
		e := encrypted{Algorithm: aeadAlgorithm, Nonce: p.randomText(12), AssociatedData: "certificate"}
		var err error
		if e.Ciphertext, err = seal(call.m.apiV3Key, e.Nonce, e.AssociatedData, []byte(c.pem)); err != nil {
			p.log.Error("encrypting a certificate failed", "error", err)
			return nil, fail(http.StatusInternalServerError, "SYSTEM_ERROR", "系统异常，请稍后重试")
		}
		out.Data = append(out.Data, certificateEntry{
			SerialNo: c.id, EffectiveTime: rfc3339(c.effective), ExpireTime: rfc3339(c.expires), Encrypted: e,
		})
	}
	return out, nil
}
