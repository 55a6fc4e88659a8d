package badgerstore

// FormatRecord is the record that says which version a store is of.
func FormatRecord(version uint64) []byte {
	return seal([]byte{kFormat}, appendFixed64(newRecord(8), version), 0)
}
