// Package archtest proves who may import whom. It has tests only.
package archtest
