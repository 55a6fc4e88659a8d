package sandbox

// mayActFor refuses a direct merchant, and a sub_mchid that is not one of the
// service provider's.
func (m *merchant) mayActFor(subMchid string) *apiError {
	if !m.provider {
		return errNoAuth("商户号不是服务商，无权使用服务商模式的接口")
	}
	if len(m.subMchids) == 0 && mchidPattern.MatchString(subMchid) {
		return nil
	}
	for _, s := range m.subMchids {
		if s == subMchid {
			return nil
		}
	}
	return errNoAuth("子商户号与服务商没有受理关系")
}
