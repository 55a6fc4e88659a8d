package badgerstore_test

func childMode() bool { return false }

func child() {}
