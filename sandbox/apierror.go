package sandbox

import (
	"encoding/json"
	"net/http"
)

// apiError is a refusal in WeChat Pay's shape: {"code","message","detail"}.
type apiError struct {
	status  int
	Code    string       `json:"code"`
	Message string       `json:"message"`
	Detail  *errorDetail `json:"detail,omitempty"`
}

// errorDetail says which part of the request was refused.
type errorDetail struct {
	Field    string    `json:"field,omitempty"` // JSON pointer
	Issue    string    `json:"issue,omitempty"`
	Location string    `json:"location,omitempty"` // body, query, path, header, authorization
	Sign     *signInfo `json:"sign_information,omitempty"`
}

// signInfo helps a merchant to find what it signed differently.
type signInfo struct {
	Method    string `json:"method"`
	URL       string `json:"url"`
	Length    int    `json:"sign_message_length"`
	Truncated string `json:"truncated_sign_message"`
}

func (e *apiError) body() []byte {
	b, err := json.Marshal(e)
	if err != nil { // strings only: cannot happen
		panic("sandbox: " + err.Error())
	}
	return b
}

func fail(status int, code, message string) *apiError {
	return &apiError{status: status, Code: code, Message: message}
}

func paramError(location, field, issue, message string) *apiError {
	return &apiError{
		status: http.StatusBadRequest, Code: "PARAM_ERROR", Message: message,
		Detail: &errorDetail{Field: field, Issue: issue, Location: location},
	}
}

func signError(field, issue, message string) *apiError {
	return &apiError{
		status: http.StatusUnauthorized, Code: "SIGN_ERROR", Message: message,
		Detail: &errorDetail{Field: field, Issue: issue, Location: "authorization"},
	}
}

// The refusals that carry no detail, with the statuses WeChat Pay documents
// on the pages of the operations (公共错误码, 业务错误码).
func errMethod() *apiError {
	return fail(http.StatusMethodNotAllowed, "INVALID_REQUEST", "HTTP请求方法不被允许")
}

func errResource() *apiError {
	return fail(http.StatusNotFound, "RESOURCE_NOT_EXISTS", "请求的资源不存在")
}

func errNoCertificate() *apiError {
	return fail(http.StatusNotFound, "RESOURCE_NOT_EXISTS", "无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥")
}

func errNoOrder() *apiError {
	return fail(http.StatusNotFound, "ORDER_NOT_EXIST", "订单不存在")
}

func errOrderClosed() *apiError {
	return fail(http.StatusBadRequest, "ORDER_CLOSED", "订单已关闭")
}

func errOrderPaid() *apiError {
	return fail(http.StatusBadRequest, "ORDERPAID", "该订单已支付")
}

func errNoRefundable() *apiError {
	return fail(http.StatusNotFound, "RESOURCE_NOT_EXISTS", "订单不存在")
}

func errNoParking() *apiError { return errInvalid("停车入场id不存在") }

func errParkingInfo() *apiError { return errInvalid("场景信息和停车入场id不匹配") }

func errNoRefundNo() *apiError {
	return fail(http.StatusNotFound, "RESOURCE_NOT_EXISTS", "退款单不存在")
}

func errNoStatement() *apiError {
	return fail(http.StatusBadRequest, "NO_STATEMENT_EXIST", "请求的账单文件不存在")
}

func errSerial() *apiError {
	return paramError("header", "Wechatpay-Serial", "not a platform key that is valid now", "平台证书序列号Wechatpay-Serial错误")
}

func errFrequency() *apiError {
	return fail(http.StatusTooManyRequests, "FREQUENCY_LIMITED", "频率超限，请稍后再试")
}

func errNumberUsed() *apiError {
	return fail(http.StatusForbidden, "OUT_TRADE_NO_USED", "商户订单号重复")
}

func errNoAuth(message string) *apiError {
	return fail(http.StatusForbidden, "NO_AUTH", message)
}

func errAppid() *apiError {
	return fail(http.StatusBadRequest, "APPID_MCHID_NOT_MATCH", "appid和mch_id不匹配，请检查后再试")
}

func errMchid() *apiError {
	return fail(http.StatusBadRequest, "MCH_NOT_EXISTS", "商户号不存在")
}

func errForeignMchid(location, field string) *apiError {
	return paramError(location, field, "mchid differs from the one in Authorization", "商户号与签名商户号不一致")
}

func errSystem() *apiError {
	return fail(http.StatusInternalServerError, "SYSTEM_ERROR", "系统异常，请稍后重试")
}

func errInvalid(message string) *apiError {
	return fail(http.StatusBadRequest, "INVALID_REQUEST", message)
}
